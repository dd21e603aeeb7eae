"""Hostile data and hostile names of code: nothing is executed, imported or written, in a process that is watched."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raymix.runner import run
from tests.conftest import JOB, spec_in

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parent.parent
Source = dict[str, Any]


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def watched(what: str, entries: list[Any], folder: Path) -> list[dict[str, Any]]:
    """What a watched process says of each entry, in an empty folder in which it may write nothing."""
    here = folder / "cwd"
    here.mkdir(exist_ok=True)
    (here / "evil_module.py").write_text("open('imported', 'w').close()\ndef make(**args): return None\n")
    (folder / "entries.json").write_text(json.dumps(entries))
    paths = os.pathsep.join([str(ROOT), str(here)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(here)}
    command = [sys.executable, str(ROOT / "tests" / "watched.py"), what, str(folder / "entries.json")]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(entries)
    assert [path.name for path in here.iterdir()] == ["evil_module.py"], "nothing was executed or written"
    return told


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), seed % 256, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


# ---- archives and data files ------------------------------------------------------------------------------------


def shard(path: Path, *odd: tuple[tarfile.TarInfo, bytes], good: int = 4) -> Source:
    """A shard with good samples of two classes, and odd members among them."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(good):
            for name, raw in ((f"{number}.png", picture(number)), (f"{number}.cls", str(number % 2).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                archive.addfile(info, io.BytesIO(raw))
            for info, raw in odd if number == 1 else ():
                archive.addfile(info, io.BytesIO(raw) if raw else None)
    return {"format": "webdataset", "path": str(path)}


def member(
    name: str, raw: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", size: int | None = None, **pax: str
) -> Any:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.pax_headers = len(raw) if size is None else size, kind, link, pax
    return info, raw


def tar(*odd: Any) -> Callable[[Path, int], Source]:
    return lambda folder, number: shard(folder / f"{number}.tar", *odd)


def npz(**arrays: Any) -> Callable[[Path, int], Source]:
    def make(folder: Path, number: int) -> Source:
        path = folder / f"{number}.npz"
        good = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4) % 2}
        np.savez(path, **{**good, **arrays})
        return {"format": "npz", "path": str(path)}

    return make


def npz_of(header: bytes) -> Callable[[Path, int], Source]:
    """An archive whose array has a header of one's own."""

    def make(folder: Path, number: int) -> Source:
        path = folder / f"{number}.npz"
        npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 256
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", npy)
            archive.writestr("labels.npy", npy)
            archive.writestr("../executed", b"x")
            archive.writestr("/tmp/raymix-executed", b"x")
        return {"format": "npz", "path": str(path)}

    return make


def parquet(name: str, metadata: bytes, of: str) -> Callable[[Path, int], Source]:
    """A file with a column of an extension type that brings bytes of its own."""

    def make(folder: Path, number: int) -> Source:
        path = folder / f"{number}.parquet"
        told = {b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": metadata}
        fields = [pa.field("image", pa.binary()), pa.field("label", pa.int64()), pa.field("odd", pa.binary())]
        fields = [field.with_metadata(told) if field.name == of else field for field in fields]
        pickled = pickle.dumps(Bomb())
        columns = [[picture(n) for n in range(4)], [0, 1, 0, 1], [pickled] * 4]
        table = pa.table([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema=pa.schema(fields))
        pq.write_table(table.replace_schema_metadata({"pandas": pickled, "huggingface": pickled}), path)
        return {"format": "parquet", "path": str(path)}

    return make


def hf(state: dict[str, Any], info: dict[str, Any], **files: bytes) -> Callable[[Path, int], Source]:
    def make(folder: Path, number: int) -> Source:
        here = folder / f"hf{number}"
        here.mkdir()
        told = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Bomb())}
        fields = [
            pa.field("image", pa.binary()),
            pa.field("label", pa.int64()),
            pa.field("odd", pa.binary(), metadata=told),
        ]
        rows = [[picture(n) for n in range(4)], [0, 1, 0, 1], [b"x"] * 4]
        table = pa.table([pa.array(c, f.type) for c, f in zip(rows, fields, strict=True)], schema=pa.schema(fields))
        with pa.OSFile(str(here / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        (here / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}], **state}))
        (here / "dataset_info.json").write_text(json.dumps(info))
        script = b"import os; os.system('touch executed')"
        for name, raw in {
            "evil_module.py": script,
            f"{here.name}.py": script,
            "state.pkl": pickle.dumps(Bomb()),
            **files,
        }.items():
            (here / name).write_bytes(raw)
        return {"format": "hf_disk", "path": str(here)}

    return make


def folder_of(**images: bytes | str) -> Callable[[Path, int], Source]:
    """Class folders with two good images and odd files: bytes, or a link to what is named."""

    def make(folder: Path, number: int) -> Source:
        for label in ("a", "b"):
            here = folder / f"tree{number}" / label
            here.mkdir(parents=True)
            (here / "good.png").write_bytes(picture(number))
            for name, held in images.items():
                if isinstance(held, bytes):
                    (here / f"{name}.jpg").write_bytes(held)
                else:
                    (here / f"{name}.jpg").symlink_to(held)
        return {"format": "image_folder", "path": str(folder / f"tree{number}")}

    return make


def table(text: str) -> Callable[[Path, int], Source]:
    def make(folder: Path, number: int) -> Source:
        path = folder / f"{number}.csv"
        for name in ("a.png", "b.png"):
            (folder / name).write_bytes(picture(number))
        path.write_text(f"file_name,label\na.png,x\nb.png,y\n{text}\n")
        return {"format": "table", "path": str(path)}

    return make


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(touch executed) system\nshowpage\n"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/><script>x</script></svg>"
PICKLED = pickle.dumps(Bomb())
EXTENSIONS = ["arrow.py_extension_type", "ray.data.arrow_tensor", "ray.data.arrow_pickled_object", "ray.data.evil"]
NO_IMAGES: dict[str, bytes | str] = {
    "svg": SVG,
    "pickle": PICKLED,
    "script": b"#!/bin/sh\ntouch executed\n",
    "zip": b"PK\x03\x04" * 9,
}
FORMULAS = "=cmd|' /C calc'!A0,x\n../../../etc/passwd,y\n\"$(touch executed)\",x\n|touch executed,y"
FORMAT = {"_format_type": "evil_module", "_indices_data_files": [{"filename": "state.pkl"}]}
CALL = "__import__('os').system('touch executed')"
HOSTILE: dict[str, Callable[[Path, int], Source]] = {
    "tar: out of the folder": tar(member("../executed", b"x"), member("../../executed.png", b"x")),
    "tar: absolute": tar(member("/tmp/raymix-executed", b"x"), member("//tmp/raymix-executed.png", b"x")),
    "tar: within and out": tar(member("a/../../executed.png", b"x")),
    "tar: symbolic link": tar(member("9.png", kind=tarfile.SYMTYPE, link="/etc/passwd"), member("9.cls", b"1")),
    "tar: link, then through it": tar(member("d", kind=tarfile.SYMTYPE, link="/tmp"), member("d/raymix-executed")),
    "tar: hard link": tar(member("9.png", kind=tarfile.LNKTYPE, link="../../etc/passwd"), member("9.cls", b"1")),
    "tar: devices": tar(member("c.png", kind=tarfile.CHRTYPE), member("b.png", kind=tarfile.BLKTYPE)),
    "tar: pipe": tar(member("p.png", kind=tarfile.FIFOTYPE), member("p.cls", b"1")),
    "tar: sparse": tar(member("9.png", b"\0" * 512, kind=tarfile.GNUTYPE_SPARSE)),
    "tar: sparse in pax": tar(member("9.png", b"x", **{"GNU.sparse.major": "1", "GNU.sparse.realsize": "9" * 15})),
    "tar: claims 8 TB": tar(member("9.png", size=8 * 2**40), member("9.cls", b"1")),
    "tar: a sparse link to 8 TB": tar(member("9.png", kind=tarfile.GNUTYPE_SPARSE, size=8 * 2**40)),
    "tar: twice": tar(member("0.png", b"x"), member("0.cls", b"1"), member("0.png", b"y")),
    "tar: another name in pax": tar(member("9.png", b"x", path="../executed")),
    "tar: long name": tar(member(f"{'x/' * 2000}executed.png", b"x")),
    "tar: pickles": tar(*(member(f"9.{end}", PICKLED) for end in ("png", "cls", "pkl", "pyd", "pth", "pickle"))),
    "tar: scripts": tar(member("evil_module.py", b"raise SystemExit"), member("__init__.py"), member("9.pyc", b"x")),
    "tar: a label of code": tar(member("9.png", picture(9)), member("9.cls", CALL.encode())),
    "npz: objects for images": npz(images=np.array([Bomb()] * 4, dtype=object)),
    "npz: objects for labels": npz(labels=np.array([Bomb()] * 4, dtype=object)),
    "npz: an object beside": npz(other=np.array([Bomb()], dtype=object)),
    "npz: code in a header": npz_of(f"{{'descr': {CALL}, 'fortran_order': False, 'shape': (4, 8, 8), }}\n".encode()),
    "npz: endless shape": npz_of(b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 8, 8), }\n"),
    "npz: an object's header": npz_of(b"{'descr': '|O', 'fortran_order': False, 'shape': (4, 8, 8), }\n"),
    "npz: deep header": npz_of(b"(" * 9000 + b"\n"),
    **{
        f"parquet: {name} of {of}": parquet(name, PICKLED, of)
        for name in EXTENSIONS
        for of in ("image", "odd")
    },
    "hf: scripts beside": hf({}, {"features": {"label": {"_type": "Value"}}}),
    "hf: features of code": hf({}, {"features": {"image": {"_type": "os.system"}, "label": {"_type": CALL}}}),
    "hf: files outside": hf({"_data_files": [{"filename": "../../../../etc/passwd"}]}, {}),
    "hf: absolute files": hf({"_data_files": [{"filename": "/etc/passwd"}]}, {}),
    "hf: a format to import": hf(FORMAT, {}),
    "folder: PostScript": folder_of(evil=POSTSCRIPT, evil2=b"\xc5\xd0\xd3\xc6" + POSTSCRIPT),
    "folder: links": folder_of(link="/etc/passwd", device="/dev/zero", loop="loop.jpg", up="../.."),
    "folder: no images": folder_of(**NO_IMAGES),
    "table: formulas and paths": table(FORMULAS),
    "table: addresses": table("file:///etc/passwd,x\nfsspec://evil,y"),
}  # fmt: skip


@pytest.mark.timeout(600)
def test_hostile_data(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    """Each kind several times, as the reader's own pools and caches see it again."""
    num = rounds(200, len(HOSTILE))
    names = [list(HOSTILE)[number % len(HOSTILE)] for number in range(num)]
    data = tmp_path / "data"
    data.mkdir()
    harmless = [tar()(data, 10**6), npz()(data, 10**6), parquet("a", b"", "none")(data, 10**6)]
    harmless += [folder_of()(data, 10**6), table("")(data, 10**6)]
    before = set(tmp_path.parent.iterdir())
    sources = [*harmless, *(HOSTILE[name](data, number) for number, name in enumerate(names))]
    told = watched("read", sources, tmp_path)
    assert [line["told"] for line in told[:5]] == ["4 of 4", "4 of 4", "4 of 4", "2 of 2", "2 of 2"]
    for name, line in zip(["harmless"] * 5 + names, told, strict=True):
        assert (line["events"], line["evil"]) == ([], []), name
        assert line["told"].startswith("error: ") or " of " in line["told"], f"{name}: {line['told']}"
        if name.startswith("tar: ") and "error" not in line["told"]:
            assert int(line["told"].split()[0]) >= 4 - ("twice" in name), f"{name}: its good neighbours are read"
    assert not Path("/tmp/raymix-executed").exists()
    assert set(tmp_path.parent.iterdir()) == before
    assert not list(tmp_path.rglob("executed*"))


# ---- names of code ----------------------------------------------------------------------------------------------

MODULES = [
    "os",
    "builtins",
    "subprocess",
    "evil_module",
    "sys",
    "importlib",
    "pickle",
    "shutil",
    "raymix.evil",
    "ctypes",
]
MODULES += ["../evil_module", "/evil_module", "evil_module.py", "evil_module#", "", " evil_module", "évil", "a..evil"]
ATTRIBUTES = ["system", "eval", "make", "Popen", "__import__", "a.b", "", "make()", "make:x"]


def stored(target: str) -> list[dict[str, Any]]:
    """A job's sections in which a name of code might be taken for one to import."""
    module, _, attribute = target.partition(":")
    return [
        {"backbone": {"type": "import", "factory": target}},
        {"backbone": target},
        {"backbone": {"type": "plugin", "name": target}},
        {"backbone": {"type": "plugin", "name": module}},
        {"backbone": {"type": f"timm/{target}"}},
        {"backbone": {"type": "timm", "name": "resnet18", "args": {"norm_layer": target}}},
        {"backbone": {"type": f"torchvision/{attribute}"}},
        {"backbone": {"type": "torchvision", "name": "resnet18", "args": {"norm_layer": target}}},
        {"objective": {"type": target}},
        {"data": {**JOB["data"], "train": {"format": target}}},
        {"data": {**JOB["data"], "train": {"format": "torchvision", "name": attribute, "path": module or "."}}},
        {"schedule": {"policy": target}},
    ]


@pytest.mark.timeout(900)
def test_names_of_code(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    """In jobs, and in the plan that a run folder holds; another factory than the one named is allowed."""
    num = rounds(300, 30)
    run(spec_in(tmp_path), quiet=True)
    folder = str(tmp_path / "runs" / "digits")
    targets = [f"{module}:{attribute}" for attribute in ATTRIBUTES for module in MODULES]
    jobs = [sections for target in targets for sections in stored(target)]
    step = len(jobs) // num + (len(jobs) % num > 0) or 1
    step += step % 2 == 0  # odd, so that every kind of place comes
    asked = jobs[::step]
    asked += [{"backbone": {"type": "import", "factory": "evil_module:make"}}] * (num - len(asked))
    entries: list[dict[str, Any]] = [{"job": {**JOB, "backbone": {"type": "timm/none"}}}]
    for sections in asked:
        entries += [{"job": {**JOB, **sections}}, {"run": folder, "plan": sections}]
    told = watched("imports", entries, tmp_path)
    assert len(entries) > 2 * num
    for entry, line in zip(entries, told, strict=True):
        # what a plan says of the data is not looked at: the job's is read, and it has to give the same facts
        unread = "plan" in entry and "data" in entry["plan"]
        assert line["told"].startswith("error: ") or (unread and line["told"] == "accepted"), f"{entry}: {line['told']}"
        assert (line["events"], line["evil"]) == ([], []), entry


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path) -> None:
    (tmp_path / "evil_module.py").write_text("open('imported', 'w').close()\n")
    code = (
        "import watched, pickle, os, io\nimport sys\nsys.addaudithook(watched.hook)\nwatched.watching = True\n"
        "import evil_module\nos.system('true')\npickle.loads(pickle.dumps(os.getcwd))\nopen('x', 'w').close()\n"
        "os.symlink('x', 'y')\nwatched.watching = False\nprint([event.split()[0] for event in watched.events])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(["import", "open", "os.system", "pickle.find_class", "open", "os.symlink"])
