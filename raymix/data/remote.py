"""Files that stand elsewhere: s3:// and gs:// through pyarrow, https:// through fsspec. Every failure is an OSError.

Credentials, region and endpoint are what the stores' own tools take from the environment: AWS_ACCESS_KEY_ID,
AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS, STORAGE_EMULATOR_HOST. GS_NO_SIGN_REQUEST=YES
reads a public gs:// bucket without credentials; a public s3:// bucket needs nothing.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from raymix.spec import JobError

PATH = "data.train.path"  # index_data turns it into data.val.path where the source is data.val
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KNOWN = "s3://, gs://, https:// and http://"
_CONNECT_SECONDS = 2  # three tries of it: a wrong endpoint is told within ten seconds
_READ_SECONDS = 10  # without a byte
_RETRY_SECONDS = 3  # of gs; its last try may start at the end of them
# images are small objects, so the time goes into waiting: at 30 ms a request, 16 threads read 250 images/s, 64 read 860
_THREADS = 64
T = TypeVar("T")
R = TypeVar("R")


class Entry(NamedTuple):
    """A file or a folder of a store."""

    uri: str
    is_folder: bool


def is_remote(path: str) -> bool:
    """Whether a path has a scheme, as in s3://bucket/key."""
    return _SCHEME.match(path) is not None


def is_http(path: str) -> bool:
    """Whether a path is a web address: it can be read but not listed."""
    return path.startswith(("https://", "http://"))


def file_system(path: str) -> tuple[Any, str]:
    """The pyarrow.fs.FileSystem that holds a remote path, one a process, and the path inside it.

    Raises:
        JobError: nothing here reads its scheme.
        OSError: the store's settings in the environment are not usable.
    """
    match = _SCHEME.match(path)
    scheme, inside = (match[1], path[match.end() :]) if match else ("", path)
    with named_errors(path):
        if scheme == "s3":
            bucket = inside.partition("/")[0]
            return _s3(bucket, os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")), inside
        if scheme == "gs":
            unsigned = os.environ.get("GS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "1")
            return _gs(unsigned, os.environ.get("STORAGE_EMULATOR_HOST", "")), inside
        if scheme in ("https", "http"):
            return _web(), path
    raise JobError(PATH, f"{path}: {scheme}:// cannot be read", f"name a local path, or {_KNOWN}")


@lru_cache
def _s3(bucket: str, endpoint: str) -> Any:
    import pyarrow
    from pyarrow import fs

    if pyarrow.io_thread_count() < _THREADS:
        pyarrow.set_io_thread_count(_THREADS)  # as many connections it opens, but 25 at least
    settings: dict[str, Any] = {}
    if endpoint:  # pyarrow does not read AWS_ENDPOINT_URL itself
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        settings = {"endpoint_override": parts.netloc + parts.path.rstrip("/"), "scheme": parts.scheme}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    else:
        try:  # a bucket answers in its own region alone, which need not be that of the machine
            region = fs.resolve_s3_region(bucket)
        except OSError:
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        region=region,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_READ_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
        **settings,
    )


@lru_cache
def _gs(unsigned: bool, endpoint: str) -> Any:
    from pyarrow import fs

    settings: dict[str, Any] = {}
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        settings = {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    limit = timedelta(seconds=_RETRY_SECONDS)
    return fs.GcsFileSystem(anonymous=unsigned or bool(endpoint), retry_time_limit=limit, **settings)


@lru_cache
def _web() -> Any:
    from aiohttp import ClientTimeout
    from fsspec.implementations.http import HTTPFileSystem
    from pyarrow import fs

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    # trust_env: a proxy, as the environment names it
    web = HTTPFileSystem(client_kwargs={"timeout": timeout, "trust_env": True}, use_listings_cache=False)
    return fs.PyFileSystem(fs.FSSpecHandler(web))


class _WebFile(io.RawIOBase):
    """fsspec's file over HTTP, which raises all sorts of errors, as a file that raises OSError."""

    def __init__(self, uri: str, file: Any) -> None:
        self._uri, self._file = uri, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        with named_errors(self._uri):
            found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        with named_errors(self._uri):
            return cast(bytes, self._file.read())


def open_remote(uri: str) -> BinaryIO:
    """A remote file, which can seek; a read fetches what it asks for and no more, so many small ones want a buffer.

    Raises:
        OSError: it cannot be opened; FileNotFoundError or PermissionError where that is why.
    """
    if is_http(uri):
        info = _web_info(uri)
        if info.get("size") is None or not info.get("partial", True):
            raise OSError(errno.ESPIPE, "the server does not serve parts of a file", uri)
        with named_errors(uri):
            file = file_system(uri)[0].handler.fs.open(uri, size=info["size"], cache_type="none")
            return cast(BinaryIO, _WebFile(uri, file))
    system, inside = file_system(uri)
    with named_errors(uri):
        return cast(BinaryIO, system.open_input_file(inside))


def _web_info(uri: str) -> dict[str, Any]:
    """What a server says of a file: "size", and "partial", which is false where it refuses ranges."""
    web = file_system(uri)[0].handler.fs
    with named_errors(uri):
        try:
            return cast(dict[str, Any], web.info(uri))
        except FileNotFoundError:
            web.cat_file(uri, start=0, end=1)  # fsspec says so of a server that does not answer, too; this tells
            raise


def remote_size(uri: str) -> int:
    """Bytes of a remote file.

    Raises:
        OSError: it cannot be told; FileNotFoundError or PermissionError where that is why.
    """
    if is_http(uri):
        size = _web_info(uri).get("size")
        if size is None:
            raise OSError(errno.ESPIPE, "the server does not say how large it is", uri)
        return int(size)
    system, inside = file_system(uri)
    with named_errors(uri):
        info = system.get_file_info(inside)
        if not info.is_file:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return int(info.size)


def read_remote(uris: Sequence[str]) -> list[bytes]:
    """The bytes of each remote file, many at a time.

    Raises:
        OSError: one of them cannot be read.
    """
    return in_threads(_read, uris)


def _read(uri: str) -> bytes:
    if is_http(uri):
        system, inside = file_system(uri)
        with named_errors(uri):
            return cast(bytes, system.handler.fs.cat_file(inside))  # one request; opening it would ask for its size
    with open_remote(uri) as file, named_errors(uri):
        return file.read()


def in_threads(call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """call(item) for each, in that order, on threads that a process shares: callers are many threads themselves."""
    waiting = [_pool().submit(call, item) for item in items]
    try:
        return [future.result() for future in waiting]
    finally:
        for future in waiting:
            future.cancel()  # after an error, what was not begun is dropped


@lru_cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="raymix-fetch")


def remote_kind(uri: str) -> Literal["file", "folder", "none"]:
    """What is at a remote path.

    Raises:
        OSError: this cannot be told.
    """
    if is_http(uri):
        try:
            _web_info(uri)
        except FileNotFoundError:
            return "none"
        return "file"
    from pyarrow import fs

    system, inside = file_system(uri)
    with named_errors(uri):
        found = system.get_file_info(inside.rstrip("/")).type
    return "file" if found == fs.FileType.File else "folder" if found == fs.FileType.Directory else "none"


def listed(uri: str, recursive: bool) -> list[Entry]:
    """What is in a folder of s3:// or gs://, or, `recursive`, below it: one listing call, in no order.

    Raises:
        OSError: it cannot be listed; FileNotFoundError where there is no such folder.
    """
    from pyarrow import fs

    root = uri.rstrip("/")
    system, inside = file_system(root)
    scheme = root[: len(root) - len(inside)]
    is_gs = scheme == "gs://"  # where pyarrow lists no folders, only what is below them
    with named_errors(uri):
        found = system.get_file_info(fs.FileSelector(inside, recursive=recursive or is_gs))
    entries = [Entry(scheme + info.path, info.type == fs.FileType.Directory) for info in found]
    if not is_gs:
        return entries
    entries = _with_folders(root, entries)
    return [entry for entry in entries if recursive or "/" not in entry.uri[len(root) + 1 :]]


def _with_folders(root: str, entries: list[Entry]) -> list[Entry]:
    folders = {entry.uri for entry in entries if entry.is_folder} | {root}
    files = [entry for entry in entries if not entry.is_folder]
    for entry in files:
        folder = entry.uri.rpartition("/")[0]
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return [*files, *(Entry(folder, True) for folder in sorted(folders - {root}))]


@contextmanager
def named_errors(uri: str) -> Iterator[None]:
    """Whatever a store's library raises, as an OSError of the type that says why, with the uri and a short reason."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        raise _named(uri, error) from error


def _named(uri: str, error: Exception) -> OSError:
    text = " ".join(str(error).split())
    status = getattr(error, "status", None)  # of an HTTP answer
    if "NO_SUCH_BUCKET" in text or re.search(r"[Bb]ucket '?\S*'? (was )?not (be )?found", text):
        return FileNotFoundError(errno.ENOENT, "no such bucket", uri)
    if isinstance(error, FileNotFoundError) or status in (404, 410) or "AWS Error NO_SUCH_KEY" in text:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
    denied = "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|PERMISSION_DENIED|UNAUTHENTICATED"
    if isinstance(error, PermissionError) or status in (401, 403) or re.search(denied, text):
        return PermissionError(errno.EACCES, f"access denied: {_short(text)}", uri)
    if isinstance(error, TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, "the server does not answer", uri)
    return OSError(errno.EIO, _short(text) or type(error).__name__, uri)


def _short(text: str) -> str:
    """The part of a store's message that says what happened, without request ids and the names of its own methods."""
    if "OAuth2 access token" in text:
        return "no credentials"
    text = text.partition(" (Request ID")[0].partition(" error_info=")[0]
    text = re.sub(r"^.*AWS Error \w+ during \w+ operation: ", "", text)
    text = re.sub(r"^.*with a last message of ", "", text)
    return re.sub(r"^curlCode: \d+, .*; Details: ", "", text)[:300]


def problem(uri: str, error: OSError) -> JobError:
    """The user's view of a file or folder, local or remote, that cannot be read."""
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        what = "no such bucket" if reason == "no such bucket" else "no such file or folder"
        return JobError(PATH, f"{what}: {uri}")
    hint = ""
    if uri.startswith("s3://"):
        keys = "AWS_ACCESS_KEY_ID, AWS_PROFILE or the role of this machine"
        hint = f"check {keys if isinstance(error, PermissionError) else 'the network, AWS_ENDPOINT_URL and AWS_REGION'}"
    elif uri.startswith("gs://"):
        hint = "check GOOGLE_APPLICATION_CREDENTIALS and the network; GS_NO_SIGN_REQUEST=YES for a public bucket"
    elif is_http(uri) and not isinstance(error, PermissionError):
        hint = "check the address and the network"
    return JobError(PATH, f"{uri} cannot be read: {reason}", hint)
