"""Checkpoints as an enemy would make them: their hashes are right, as far as there are any."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from saved_states import seal

from raymix.train.checkpoint import COMMIT, STATE, TENSORS

Make = Callable[[Path], Any]


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.mark),)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = (path / TENSORS).read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[end:]


def with_header(path: Path, header: bytes, body: bytes, length: int | None = None) -> None:
    told = len(header) if length is None else length
    (path / TENSORS).write_bytes(told.to_bytes(8, "little") + header + body)
    seal(path)


def entry(**change: Any) -> Make:
    """The first tensor's entry is changed."""

    def make(path: Path) -> None:
        header, body = header_of(path)
        header[next(iter(header))] |= change
        with_header(path, json.dumps(header).encode(), body)

    return make


def header(change: Callable[[dict[str, Any]], Any]) -> Make:
    def make(path: Path) -> None:
        found, body = header_of(path)
        change(found)
        with_header(path, json.dumps(found).encode(), body)

    return make


def renamed(name: str) -> Make:
    return header(lambda found: found.update({name: found.pop(next(iter(found)))}))


def raw_header(text: bytes, length: int | None = None) -> Make:
    return lambda path: with_header(path, text, header_of(path)[1], length)


def tensors(write: Callable[[Path, Path], Any]) -> Make:
    """The file is something else; `write(file, mark)`."""

    def make(path: Path) -> None:
        write(path / TENSORS, path.parent.parent / "mark")
        seal(path)

    return make


def state(text: bytes) -> Make:
    def make(path: Path) -> None:
        (path / STATE).write_bytes(text)
        seal(path)

    return make


def history(change: Callable[[dict[str, Any]], Any]) -> Make:
    def make(path: Path) -> None:
        found = json.loads((path / STATE).read_bytes())
        change(found)
        state(json.dumps(found).encode())(path)

    return make


def commit(change: Callable[[dict[str, Any]], Any]) -> Make:
    return lambda path: seal(path, change)


def marker(raw: bytes) -> Make:
    return lambda path: (path / COMMIT).write_bytes(raw)


def instead(name: str, make: Callable[[Path], Any]) -> Make:
    """Something that is no plain file stands in its place."""

    def do(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return do


def listen(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def zipped(file: Path, mark: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../../mark", "written")
        archive.writestr("data.pkl", pickle.dumps(Bomb(mark)))


def folder_named(name: str) -> Make:
    return lambda path: path.rename(path.with_name(name))


NOT_FILES: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a socket": listen,
    "a link to a secret": lambda path: path.symlink_to("/etc/passwd"),
    "a link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link out of the folder": lambda path: path.symlink_to("../../step-000000001/" + path.name),
}
DEEP, WIDE = b"[" * 60_000, b"[" + b"0," * 10**6 + b"0]"
NAMES = ("NaN", "", "../../mark", "a\n\x1b[2Jb", "\u202e", "x" * 9000)
COMMITS = (b"", b"null", b"[]", b"{}", b"{", DEEP, b'{"a":' * 9000, b"9" * 60_000, b"\xff", b" " * 10**7)
STATES = (b"", b"null", b"[]", b"{", b"\xff\xfe", DEEP * 20, b'{"a":' * 10**5, WIDE)
HOSTILE: dict[str, Make] = {
    # a file that is not safetensors
    "pickle": tensors(lambda file, mark: file.write_bytes(pickle.dumps(Bomb(mark)))),
    "torch.save": tensors(lambda file, mark: torch.save({"model": Bomb(mark)}, file)),
    "zip": tensors(zipped),
    "pickle behind a header": lambda path: with_header(path, b"{}", pickle.dumps(Bomb(path.parent.parent / "mark"))),
    "empty": tensors(lambda file, mark: file.write_bytes(b"")),
    "seven bytes": tensors(lambda file, mark: file.write_bytes(b"\0" * 7)),
    "zeros": tensors(lambda file, mark: file.write_bytes(b"\0" * 4096)),
    # header
    **{f"header of {length} bytes": raw_header(b"{}", length) for length in (2**64 - 1, 2**63, 10**9, 10**8, 3)},
    "header of spaces": raw_header(b"{" + b" " * 9_000_000 + b"}"),
    **{
        f"header {text[:12]!r}": raw_header(text)
        for text in (b"[]", b"null", b"{", b"NaN", b'"x"', b"\xff\xfe{}", b"{}", b'{"a":' * 9000, DEEP)
    },
    "no tensors but words": raw_header(b'{"__metadata__":{"a":"b"}}'),
    "numbers in its words": header(lambda found: found.update(__metadata__={"a": 1})),
    "words that are a list": header(lambda found: found.update(__metadata__=[1, 2])),
    **{
        f"offsets {offsets}": entry(data_offsets=offsets)
        for offsets in ([0, 2**63], [2**64 - 8, 2**64 - 1], [8, 0], [-8, 0], [0, 1], [0.5, 4.5], [0], "0-4", None)
    },
    **{f"type {dtype}": entry(dtype=dtype) for dtype in ("F64", "U8", "BOOL", "object", "F999", None, 7)},
    **{
        f"shape {shape}": entry(shape=shape)
        for shape in ([10**9], [2**32, 2**32], [2**64 - 1], [-1], [0], [1.5], ["x"], None, [1] * 5000)
    },
    **{f"a tensor named {name!r}": renamed(name) for name in NAMES},
    "one tensor less": header(lambda found: found.pop(next(iter(found)))),
    "one tensor more": header(lambda found: found.update(more={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})),
    "a tensor twice": raw_header(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8"}}'),
    # state.json
    **{f"state {text[:12]!r}": state(text) for text in STATES},
    "state of pickle": state(pickle.dumps([1])),
    "no rates": history(lambda found: found.pop("rates")),
    "a key more": history(lambda found: found.update(__class__="os.system")),
    "no reports": history(lambda found: found.update(reports=[])),
    "reports of words": history(lambda found: found.update(reports=["a"])),
    "a later step": history(lambda found: found["reports"][0]["segment"].update(start=10**18)),
    "an earlier step": history(lambda found: found["reports"][0]["segment"].update(start=0)),
    # commit.json
    "a path more": commit(lambda found: found.update({"../../mark": {"bytes": 0, "sha256": ""}})),
    "a path instead": commit(lambda found: found.update({"/etc/passwd": found.pop(STATE)})),
    "a number for a file": commit(lambda found: found.update({TENSORS: 7})),
    "a path in a file": commit(lambda found: found[TENSORS].update(path="/etc/passwd")),
    **{
        f"{size!r} bytes": commit(lambda found, size=size: found[TENSORS].update(bytes=size))  # type: ignore[misc]
        for size in (-1, "1", None, 1e308, 10**400, [], {})
    },
    **{
        f"sha256 {digest!r}": commit(lambda found, digest=digest: found[STATE].update(sha256=digest))  # type: ignore[misc]
        for digest in ("", None, "0" * 64, ["a"])
    },
    **{
        f"step {step!r}": commit(lambda found, step=step: found.update(step=step))  # type: ignore[misc]
        for step in (-8, 8.5, "8", None, True, 10**400, [8], {"a": 1})
    },
    **{
        f"run {run!r}": commit(lambda found, run=run: found.update(run=run))  # type: ignore[misc]
        for run in ("", None, 7, "other\n\x1b[31mall is well", "x" * 20_000)
    },
    **{f"commit {raw[:12]!r}": marker(raw) for raw in COMMITS},
    # the folder
    **{f"{name}: {what}": instead(name, make) for name in (TENSORS, STATE, COMMIT) for what, make in NOT_FILES.items()},
    "a folder of another step": folder_named("step-000000009"),
    "a folder with a word": folder_named("step-zzz"),
    "a folder with a line break": folder_named("step-9\n\x1b[2J"),
    "a copy": folder_named("step-000000008 (copy)"),
    "an empty folder": lambda path: [shutil.rmtree(path), path.mkdir()],
}  # fmt: skip
