"""Files on S3, on the web and on Google's store: the same rows as on a disk, and one line where they cannot be read.

S3 is a server of moto on this machine, the web server is Python's with byte ranges; nothing outside is asked.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from pictures import data, write

from raymix.data.files import expand, file_size, file_system, open_file, read_files
from raymix.data.formats import fetch, index_data, index_source
from raymix.data.frame import Frame
from raymix.data.reading import read_part
from raymix.data.rows import Rows
from raymix.spec import Data, JobError

BUCKET = "s3://pictures"
ODD = "odd names/a b+c&d=é#1?%20.png"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """A function that puts a folder's files below a prefix of an empty bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="pictures")

    def put(folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder)}"
                client.put_object(Bucket="pictures", Key=key, Body=path.read_bytes())

    yield put
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST")).close()


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's file server, which lacks byte ranges, with them; a path that begins with /denied is."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if self.path.startswith("/denied"):
            return self.send_error(403)
        if not path.is_file():
            return self.send_error(404)
        body, status = path.read_bytes(), 200
        total = len(body)
        asked = self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            body, status = body[int(first) : int(last or total) + 1], 206
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{total}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        return None

    do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass


def served(handler: Callable[..., Any]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of tmp_path."""
    yield from served(partial(Ranges, directory=str(tmp_path)))


@pytest.fixture
def closed() -> str:
    """An address of this machine where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def section(source: dict[str, Any]) -> Data:
    return data(source)


def same_rows(local: Rows, remote: Rows, folder: Path, prefix: str) -> None:
    """The remote rows are the local ones, and so are their bytes."""
    assert remote.uris == tuple(uri.replace(str(folder), prefix, 1) for uri in local.uris)
    assert (remote.labels == local.labels).all()
    assert (remote.is_val == local.is_val).all()
    assert remote.class_names == local.class_names
    ids = np.arange(len(local))
    assert fetch(remote, ids) == fetch(local, ids)


def problem(call: Callable[..., Any], *args: Any) -> str:
    """What is said of a mistake: one line, within ten seconds."""
    start = time.perf_counter()
    with pytest.raises(JobError) as caught:
        call(*args)
    assert time.perf_counter() - start < 10
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def index(source: dict[str, Any]) -> Rows:
    return index_data(data(source))


# ---- s3: the formats --------------------------------------------------------------------------------------------


def test_image_folder_on_s3(s3: Callable[[Path, str], None], tmp_path: Path) -> None:
    names = "b/2.png b/10.PNG a/z.jpg a/sub/1.png a/sub-x/1.png a/sub/deep/1.bmp B/1.webp c/1.tif"
    for seed, name in enumerate(names.split()):
        write(tmp_path / "t" / name, seed)
    for name in ("a/.hidden.png", ".cache/1.png", "a/.thumbs/1.png", "a/notes.txt", "labels.csv"):
        (tmp_path / "t" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "t" / name).write_bytes(b"x")
    write(tmp_path / "t" / "a" / ODD)
    s3(tmp_path / "t", "some/where")
    local = index({"format": "image_folder", "path": f"{tmp_path}/t"})
    for path in (f"{BUCKET}/some/where", f"{BUCKET}/some/where/"):
        same_rows(local, index({"format": "image_folder", "path": path}), tmp_path / "t", f"{BUCKET}/some/where")


def test_image_folder_with_val_at_the_root_of_a_bucket(s3: Callable[[Path, str], None], tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png"):
        write(tmp_path / "t" / name)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    for path in (tmp_path / "t").rglob("*.png"):
        client.put_object(Bucket="pictures", Key=str(path.relative_to(tmp_path / "t")), Body=path.read_bytes())
    local = index({"format": "image_folder", "path": f"{tmp_path}/t"})
    same_rows(local, index({"format": "image_folder", "path": BUCKET}), tmp_path / "t", BUCKET)


def test_tiny_imagenet_on_s3(s3: Callable[[Path, str], None], tiny_imagenet: Path) -> None:
    s3(tiny_imagenet, "tiny")
    local = index({"format": "tiny_imagenet", "path": str(tiny_imagenet)})
    remote = index({"format": "tiny_imagenet", "path": f"{BUCKET}/tiny"})
    same_rows(local, remote, tiny_imagenet, f"{BUCKET}/tiny")
    assert not read_part(remote, np.arange(len(remote)), Frame(8)).skipped


def test_images_on_s3(s3: Callable[[Path, str], None], image_folder: Path) -> None:
    (image_folder / "a" / "notes.txt").write_text("x")
    write(image_folder / ".thumbs" / "1.png")
    s3(image_folder, "im")
    spec = data({"format": "digits"}, unlabelled={"format": "images", "path": [f"{BUCKET}/im", f"{BUCKET}/im/a"]})
    assert spec.unlabelled is not None
    rows = index_source(spec.unlabelled, "data.unlabelled")
    assert rows.uris == tuple(f"{BUCKET}/im/{label}/{number}.png" for label in "ab" for number in (1, 2, 3))


def test_table_on_s3(s3: Callable[[Path, str], None], image_folder: Path, table: Path, tmp_path: Path) -> None:
    s3(image_folder, "im")
    local = index({"format": "table", "path": str(table)})
    same_rows(local, index({"format": "table", "path": f"{BUCKET}/im/labels.csv"}), image_folder, f"{BUCKET}/im")
    lone = tmp_path / "lone.csv"
    lone.write_text(table.read_text())
    remote = index({"format": "table", "path": str(lone), "images": f"{BUCKET}/im/"})
    same_rows(local, remote, image_folder, f"{BUCKET}/im")
    lone.write_text(f"file,label\n../im/a/1.png,a\n{BUCKET}/im/a/../b/1.png,b\n{image_folder}/a/2.png,a\n")
    mixed = index({"format": "table", "path": str(lone), "images": f"{BUCKET}/im"})
    assert mixed.uris == (f"{BUCKET}/im/a/1.png", f"{BUCKET}/im/a/../b/1.png", f"{image_folder}/a/2.png")
    lone.write_text("file,label\n../../a.png,a\n")
    text = problem(index, {"format": "table", "path": str(lone), "images": f"{BUCKET}/im"})
    assert f"lone.csv line 2: ../../a.png leads out of {BUCKET}/im" in text
    lone.write_text("file,label\na/gone.png,a\nb/gone.png,b\n")
    text = problem(index, {"format": "table", "path": str(lone), "images": f"{BUCKET}/im"})
    assert f"data.train.images: none of its first 2 images is there, first: {BUCKET}/im/a/gone.png" in text


def test_an_object_that_goes_is_missing(s3: Callable[[Path, str], None], image_folder: Path) -> None:
    s3(image_folder, "im")
    rows = index({"format": "image_folder", "path": f"{BUCKET}/im"})
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.delete_object(Bucket="pictures", Key="im/a/2.png")
    part = read_part(rows, np.arange(len(rows)), Frame(8))
    assert part.skipped == {1: "missing"}
    assert len(part.ids) == 5


# ---- s3: files --------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(s3: Callable[[Path, str], None], tmp_path: Path) -> str:
    for name in ("x0.tar", "x1.tar", "x2.TAR", "notes.txt", ".x3.tar", "deep/x4.tar", "deep/er/x5.tar", "x[6].tar"):
        (tmp_path / "shards" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shards" / name).write_bytes(name.encode() * 1000)
    s3(tmp_path / "shards", "shards")
    return f"{BUCKET}/shards"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "deep/er/x5.tar deep/x4.tar x0.tar x1.tar x2.TAR x[6].tar"),
        ("/x0.tar", "x0.tar"),
        ("/x[6].tar", "x[6].tar"),
        ("/notes.txt", "notes.txt"),
        ("/*.tar", "x0.tar x1.tar x[6].tar"),
        ("/x[12].*", "x1.tar x2.TAR"),
        ("/*", "deep/er/x5.tar deep/x4.tar x0.tar x1.tar x2.TAR x[6].tar"),
        ("/*/*.tar", "deep/x4.tar"),
        ("/**/*.tar", "deep/er/x5.tar deep/x4.tar x0.tar x1.tar x[6].tar"),
        ("/x{0..1}.tar", "x0.tar x1.tar"),
        ("/{x0.tar,deep}", "deep/er/x5.tar deep/x4.tar x0.tar"),
    ],
)
def test_expand_on_s3_as_on_a_disk(shards: str, tmp_path: Path, path: str, expected: str) -> None:
    for root in (shards, f"{tmp_path}/shards"):
        assert expand(f"{root}{path}", ("tar",)) == [f"{root}/{name}" for name in expected.split()]


def test_expand_mixes_stores(shards: str, tmp_path: Path) -> None:
    local = f"{tmp_path}/shards/x0.tar"
    found = expand((f"{shards}/x*.tar", local, f"{shards}/x0.tar"), ("tar",))
    assert found == sorted([local, f"{shards}/x0.tar", f"{shards}/x1.tar", f"{shards}/x[6].tar"])


def test_read_by_ranges(shards: str) -> None:
    with open_file(f"{shards}/x0.tar") as file:
        assert file.seek(5999) == 5999
        assert file.read(7) == b"rx0.tar"[:1]
        file.seek(6)
        assert file.read(6) == b"x0.tar"
    assert file_size(f"{shards}/x0.tar") == 6000
    assert [len(raw) for raw in read_files([f"{shards}/x0.tar", f"{shards}/deep/x4.tar"])] == [6000, 11000]
    system, inside = file_system(f"{shards}/x1.tar")
    assert system is file_system(f"{shards}/x0.tar")[0]
    assert system.open_input_file(inside).read_at(3, 3) == b"tar"


def test_what_is_not_on_s3(shards: str) -> None:
    for call in (open_file, file_size, lambda uri: read_files([uri])):
        for uri in (f"{shards}/gone.tar", "s3://nowhere/x0.tar"):
            with pytest.raises(FileNotFoundError):
                call(uri)

    def said(path: str) -> str:
        return problem(expand, path, ("tar",)).removeprefix("data.train.path: ")

    assert said(f"{shards}/x3.tar") == f"no such file or folder: {shards}/x3.tar (did you mean {shards}/x1.tar?)"
    assert said(f"{shards}s") == f"no such file or folder: {shards}s (did you mean {shards}?)"
    assert said(f"{BUCKET}/a/b").endswith(f"(there is no {BUCKET}/a either)")
    assert said(f"{shards}/*.parquet").endswith(
        "/*.parquet (s3://pictures/shards holds deep, notes.txt, x0.tar and 3 more)"
    )
    assert said(f"{BUCKET}/a/*.tar").endswith(f"(there is no {BUCKET}/a)")
    for path in ("s3://nowhere/x", "s3://nowhere/*.tar", "s3://nowhere"):
        assert said(path) == f"no such bucket: {path}"
    assert said("s3://") == "s3:// names nothing (as in s3://bucket/folder)"
    assert said("s3://pict*/x").endswith("(name the bucket)")


def test_wrong_trees_on_s3(s3: Callable[[Path, str], None], image_folder: Path, tiny_imagenet: Path) -> None:
    s3(image_folder, "im")
    s3(tiny_imagenet, "tiny")

    def said(path: str, name: str = "image_folder") -> str:
        return problem(index, {"format": name, "path": path}).removeprefix("data.train.path: ")

    assert said(f"{BUCKET}/imm") == f"no such folder: {BUCKET}/imm (did you mean {BUCKET}/im?)"
    assert said(f"{BUCKET}/im/a/1.png") == f"{BUCKET}/im/a/1.png is not a folder (name a folder)"
    assert said("s3://nowhere/im") == "no such bucket: s3://nowhere/im"
    assert said("s3://") == "s3:// names nothing (as in s3://bucket/folder)"
    assert (
        said(f"{BUCKET}/tiny")
        == f"{BUCKET}/tiny has the layout of tiny_imagenet (set the source's format to tiny_imagenet)"
    )
    assert said(f"{BUCKET}/im/a").startswith(f"{BUCKET}/im/a holds images but no class folders")
    assert said(f"{BUCKET}/im", "tiny_imagenet").endswith("(set the source's format to image_folder)")
    assert said(f"{BUCKET}/tiny/train", "tiny_imagenet").endswith(f"(did you mean {BUCKET}/tiny?)")
    assert said(BUCKET, "tiny_imagenet").endswith(f"(did you mean {BUCKET}/tiny?)")
    assert said("s3://nowhere/t.csv", "table") == "no such bucket: s3://nowhere/t.csv"
    table = {"format": "table", "path": f"{BUCKET}/im/label.csv"}
    assert problem(index, table).endswith(f"no such file: {BUCKET}/im/label.csv ({BUCKET}/im holds a, b)")


def test_s3_says_why_it_cannot_be_read(moto: str, shards: str, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(path: str) -> str:
        return problem(expand, path, ("tar",)).removeprefix("data.train.path: ")

    try:
        _authorise(moto, 0)
        for path in (shards, f"{shards}/x0.tar", f"{shards}/*.tar"):
            assert said(path).startswith(f"{path} cannot be read: access denied: ")
            assert said(path).endswith("(check AWS_ACCESS_KEY_ID, AWS_PROFILE or the role of this machine)")
        for call in (open_file, file_size, lambda uri: read_files([uri])):
            with pytest.raises(PermissionError):
                call(f"{shards}/x0.tar")
    finally:
        _authorise(moto, 10**9)
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed)
    text = said(shards)
    assert "cannot be read: Failed to connect to 127.0.0.1" in text
    assert text.endswith("(check the network, AWS_ENDPOINT_URL and AWS_REGION)")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid")
    assert "cannot be read: Could not resolve host: no-such-host.invalid" in said(shards)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)  # the more specific of the two
    assert len(expand(shards, ("tar",))) == 6


def _authorise(moto: str, after: int) -> None:
    """From the `after`-th request on, moto wants keys that it knows; the tests' key is none of them."""
    request = urllib.request.Request(
        f"{moto}/moto-api/reset-auth", data=str(after).encode(), headers={"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(request).close()


# ---- https ------------------------------------------------------------------------------------------------------


def test_files_on_the_web(web: str, tmp_path: Path) -> None:
    (tmp_path / "x 0.tar").write_bytes(bytes(range(256)) * 4000)
    (tmp_path / "x1.tar").write_bytes(b"one")
    uri = f"{web}/x 0.tar"
    with open_file(uri) as file:
        assert file.seek(-3, os.SEEK_END) == 1_024_000 - 3
        assert file.read() == b"\xfd\xfe\xff"
        file.seek(256 * 3000 + 7)
        assert file.read(2) == b"\x07\x08"
    assert file_size(uri) == 1_024_000
    assert read_files([f"{web}/x1.tar", uri, str(tmp_path / "x1.tar")])[::2] == [b"one", b"one"]
    assert expand((uri, f"{web}/x{{1..1}}.tar", uri), ("tar",)) == [uri, f"{web}/x1.tar"]
    system, inside = file_system(f"{web}/x1.tar")
    assert system.open_input_file(inside).read() == b"one"


def test_table_on_the_web(web: str, image_folder: Path, table: Path) -> None:
    write(image_folder / "a" / ODD)
    with table.open("a", encoding="utf-8") as file:
        file.write(f'"a/{ODD}",a\n')
    local = index({"format": "table", "path": str(table)})
    remote = index({"format": "table", "path": f"{web}/images/labels.csv"})
    assert remote.uris[0] == f"{web}/images/a/1.png"
    assert (remote.labels == local.labels).all()
    ids = np.arange(len(local))
    assert fetch(remote, ids) == fetch(local, ids)
    lines = [json.dumps({"image": f"{web}/images/{name}", "label": name[0]}) for name in ("a/1.png", "b/1.png")]
    (image_folder / "t.jsonl").write_text("\n".join(lines))
    assert fetch(index({"format": "table", "path": str(image_folder / "t.jsonl")}), np.array([1])) == [
        (image_folder / "b" / "1.png").read_bytes()
    ]


def test_what_is_not_on_the_web(web: str, closed: str, tmp_path: Path) -> None:
    def said(path: str) -> str:
        return problem(expand, path, ("tar",)).removeprefix("data.train.path: ")

    assert said(f"{web}/gone.tar") == f"no such file: {web}/gone.tar (check the address)"
    assert said(f"{web}/denied.tar").startswith(f"{web}/denied.tar cannot be read: access denied")
    assert "cannot be read: Cannot connect to host" in said(f"{closed}/x.tar")
    assert "cannot be read: Cannot connect to host" in said("https://no-such-host.invalid/x.tar")
    for path in (f"{web}/", f"{web}/*.tar", f"{web}/x[01].tar"):
        assert said(path).endswith("a web server has no listing (name its files, as in part-{000..127}.tar)")
    for call in (open_file, file_size, lambda uri: read_files([uri])):
        with pytest.raises(FileNotFoundError):
            call(f"{web}/gone.tar")
        with pytest.raises(PermissionError):
            call(f"{web}/denied.tar")
        with pytest.raises(OSError, match="Cannot connect") as caught:
            call(f"{closed}/x.tar")
        assert not isinstance(caught.value, FileNotFoundError)
    text = problem(index, {"format": "table", "path": f"{web}/gone.csv"})
    assert text == f"data.train.path: no such file or folder: {web}/gone.csv"


def test_a_web_server_without_ranges(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"0123456789")

    class Plain(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    for web in served(partial(Plain, directory=str(tmp_path))):
        assert read_files([f"{web}/x.tar"]) == [b"0123456789"]
        assert file_size(f"{web}/x.tar") == 10
        with open_file(f"{web}/x.tar") as file:
            assert file.read(3) == b"012"
            file.seek(5)
            with pytest.raises(OSError, match="range requests"):
                file.read(3)


def test_a_server_that_breaks_off_is_an_oserror(tmp_path: Path) -> None:
    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(206 if self.headers.get("Range") else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"short")

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    for web in served(Short):
        with pytest.raises(OSError, match=r"x\.tar"):
            read_files([f"{web}/x.tar"])
        with open_file(f"{web}/x.tar") as file, pytest.raises(OSError, match=r"x\.tar"):
            file.read(1000)


# ---- gs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is the bucket gs://pictures."""
    (tmp_path / "gs" / "pictures").mkdir(parents=True)
    script = Path(__file__).with_name("gs_server.py")
    command = [sys.executable, str(script), str(tmp_path / "gs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{int(server.stdout.readline())}")
        yield tmp_path / "gs" / "pictures"
        server.terminate()


def test_trees_and_files_on_gs(gs: Path, image_folder: Path, tiny_imagenet: Path) -> None:
    write(image_folder / "a" / "odd names" / "a b+c.png")
    image_folder.rename(gs / "im")
    tiny_imagenet.rename(gs / "tiny")
    for name, folder in (("image_folder", "im"), ("tiny_imagenet", "tiny")):
        local = index({"format": name, "path": f"{gs}/{folder}"})
        remote = index({"format": name, "path": f"gs://pictures/{folder}"})
        same_rows(local, remote, gs / folder, f"gs://pictures/{folder}")
    assert expand("gs://pictures/im/*/[12].png", ("png",)) == [
        f"gs://pictures/im/{label}/{number}.png" for label in "ab" for number in (1, 2)
    ]
    assert len(expand("gs://pictures/im/?", ("png",))) == len(expand("gs://pictures/im", ("png",))) == 7
    raw = (gs / "im" / "a" / "1.png").read_bytes()
    with open_file("gs://pictures/im/a/1.png") as file:
        file.seek(5)
        assert file.read(9) == raw[5:14]
    assert file_size("gs://pictures/im/a/1.png") == len(raw)


def test_what_is_not_on_gs(gs: Path, image_folder: Path) -> None:
    image_folder.rename(gs / "im")
    for call in (open_file, file_size, lambda uri: read_files([uri])):
        with pytest.raises(FileNotFoundError):
            call("gs://pictures/im/gone.png")

    def said(path: str) -> str:
        return problem(index, {"format": "image_folder", "path": path}).removeprefix("data.train.path: ")

    assert said("gs://pictures/imm") == "no such folder: gs://pictures/imm"
    assert said("gs://nowhere/im").startswith("no such ")
    assert said("gs://nowhere") == "no such bucket: gs://nowhere"
    text = problem(expand, "gs://pictures/im/*.tar", ("tar",))
    assert text == "data.train.path: no file matches gs://pictures/im/*.tar (gs://pictures/im holds a, b)"


def test_gs_says_why_it_cannot_be_read(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", closed)
    text = problem(index, {"format": "image_folder", "path": "gs://pictures/im"})
    assert text.startswith("data.train.path: gs://pictures/im cannot be read: ")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in text
