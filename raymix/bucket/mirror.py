"""The local side of run folders on object storage: what is fetched, what is written back and when."""

from __future__ import annotations

import atexit
import errno
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePath

from raymix.bucket.lease import BEAT_SECONDS, LOCK_FOLDER, Lease
from raymix.bucket.saved import Saved
from raymix.bucket.store import Object, Store, refused
from raymix.data.remote import in_threads
from raymix.report.folder import CHECKPOINTS, JOB_FILE
from raymix.spec import JobError

Tell = Callable[[str], None]

SYNC_SECONDS = 30.0  # between two times that what was written here is written to the bucket
_TELL_SECONDS = 60.0
_BUCKET = re.compile(r"s3:/+(.+)")  # a Path makes one slash of two


class Unsynced(OSError):  # noqa: N818 (it is what happened)
    """What a command wrote is not in the bucket; the message is one line that says where it is."""


_roots: dict[Path, str] = {}  # local folders of this process, and the storage that each stands for
_held: dict[Path, Mirror] = {}  # run folders that this process has the lease of
_keep: set[Path] = set()  # roots that hold what no bucket does


def is_bucket(path: str | Path) -> bool:
    """Whether a path is of object storage."""
    return _BUCKET.fullmatch(str(path)) is not None


@lru_cache
def storage_root(uri: str) -> Path:
    """A folder that stands for a storage in this process, and goes with it; it says nothing of what the bucket holds.

    Raises:
        OSError: none can be made.
    """
    root = Path(tempfile.mkdtemp(prefix="raymix-bucket-"))
    _roots[root] = uri.rstrip("/")
    atexit.register(_take_away, root)
    return root


def shown(path: Path) -> str:
    """How a user knows a path: by its place in the bucket where it stands for one."""
    uri = _uri_of(path)
    return str(path) if uri is None else uri


def visited(path: str | Path, only: Collection[str] = (), must: bool = False, field: str | None = None) -> Path:
    """A local folder with what is below a place in a bucket now, checkpoints aside; another path as it is.

    `only`: files of these names; none: all; `must`: there is something; `field`: of the job, which names the place;
    None: none does.

    Raises:
        JobError: the bucket cannot be read, or has nothing there and must.
    """
    named = _BUCKET.fullmatch(str(path))
    if named is None:
        return Path(path)
    storage, _, name = named[1].rstrip("/").rpartition("/")
    # of a whole bucket it is another one than that of runs which are trained there
    folder = storage_root(f"s3://{storage}") / name if storage else storage_root(f"s3://{name}/")
    Mirror(folder, shown(folder)).fetch(only, field or "storage")
    if must and not folder.exists():
        where, hint = shown(folder), "see raymix runs ls --storage"
        told = "there is nothing by that name in the bucket"
        raise JobError(where, told, hint) if field is None else JobError(field, f"{where}: {told}", hint)
    return folder


def mirror_for(path: Path, apart: Collection[str] = ()) -> Mirror | None:
    """The mirror of a run folder; None: it is on a disk, or in a folder that this process holds.

    `apart`: folders in it that other processes keep.
    """
    uri = _uri_of(path)
    return None if uri is None or _holder(path) is not None else Mirror(path, uri, apart)


def leave(path: Path) -> None:
    """Takes away what a process keeps here of the storage that a path lies in, which it otherwise does at its end."""
    for root in [root for root in _roots if path.is_relative_to(root)]:
        del _roots[root]
        _take_away(root)
        storage_root.cache_clear()


def publish(path: Path) -> None:
    """Writes to the bucket a folder or file below a storage in one; of others, nothing.

    Raises:
        OSError: it could not be written there.
    """
    mirror, uri = _holder(path), _uri_of(path)
    if mirror is not None:
        mirror.sync()
    elif uri is not None:
        files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
        place = Store(uri.rpartition("/")[0])
        in_threads(lambda file: place.upload(file, file.relative_to(path.parent).as_posix()), files)


def carry(path: Path) -> None:
    """As `publish`, where a bucket that is away is no trouble: it has the path later, or another knows what it says."""
    with suppress(OSError):
        publish(path)


def saved_for(checkpoints: Path) -> Saved | None:
    """Where the checkpoints of a run that this process holds go; None: they stay where they are."""
    mirror, uri = _holder(checkpoints), _uri_of(checkpoints)
    return None if mirror is None or uri is None else Saved(Store(uri), mirror.store, mirror.lease.ticket)


def saved_of(checkpoints: Path) -> Saved | None:
    """The same of any run, to be read alone; None: they are in the folder itself."""
    uri = _uri_of(checkpoints)
    return None if uri is None else Saved(Store(uri), Store(uri.rpartition("/")[0]), ticket="")


class Mirror:
    """A run folder on object storage and its local copy, but for its checkpoints. Nothing is written before `held`."""

    def __init__(self, path: Path, uri: str, apart: Collection[str] = ()) -> None:
        """`apart`: folders in it that other processes keep, and that are not copied."""
        self.path, self.store, self._apart = path, Store(uri), frozenset(apart)
        self.lease = Lease(self.store)
        self._same: dict[str, tuple[int, int]] = {}  # files as they are in the bucket: time and size here
        self._syncing, self._told_at = threading.Lock(), -_TELL_SECONDS

    def fetch(self, only: Collection[str] = (), field: str = "storage") -> None:
        """Makes the local folder what the bucket holds, or as much of it as `visited` says.

        Raises:
            JobError: the bucket cannot be read.
        """
        self._same = {}
        try:
            names = self.store.list()
            shutil.rmtree(self.path, ignore_errors=True)
            wanted = [name for name in names if self._is_ours(name) and (not only or name.rpartition("/")[2] in only)]
            in_threads(lambda name: self._get(name, names[name]), wanted)
        except OSError as error:
            raise refused(self.store.uri, error, field) from None
        if any(name.startswith(f"{CHECKPOINTS}/") for name in names):
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        self._same = self._files()

    def clear(self) -> None:
        """Takes away all that the bucket holds of the run, but for who holds it. The job goes last.

        Raises:
            OSError: that cannot be done.
        """
        names = [name for name in self.store.list() if not name.startswith(f"{LOCK_FOLDER}/")]
        in_threads(self.store.delete, [name for name in names if name != JOB_FILE])
        self.store.delete(JOB_FILE)
        self._same = {}

    @contextmanager
    def held(self, tell: Tell) -> Iterator[None]:
        """Keeps every other command out, and the bucket up to date every `SYNC_SECONDS` and at the end.

        Raises:
            JobError: another command is in it, or the bucket cannot be written.
            Unsynced: what was written last is not in the bucket, and stays here.
        """
        try:
            self.lease.take()
        except OSError as error:
            raise refused(self.store.uri, error) from None
        over = threading.Event()
        keeper = threading.Thread(target=self._keep_up, args=(over, tell), name="raymix-bucket", daemon=True)
        try:
            self.fetch()  # as whoever had it a moment ago left it
            _held[self.path] = self
            keeper.start()
            try:
                yield
            except BaseException:
                self._save(tell)
                raise
            self._settle()
        finally:
            over.set()
            if keeper.ident is not None:
                keeper.join()
            _held.pop(self.path, None)
            self.lease.release()

    def sync(self) -> None:
        """Writes to the bucket what is not the same there. What is gone here stays: nobody but a cleaner takes files.

        Raises:
            OSError: it could not be written, or another command has taken the run over.
        """
        with self._syncing:
            if self.lease.lost:
                raise OSError(errno.EBUSY, "another command has taken the run over", self.store.uri)
            here = self._files()
            changed = [name for name, stamp in here.items() if self._same.get(name) != stamp]
            in_threads(self._put, [(name, here[name]) for name in changed if name != JOB_FILE])
            if JOB_FILE in changed:
                self._put((JOB_FILE, here[JOB_FILE]))

    def _get(self, name: str, there: Object) -> None:
        self.store.download(name, self.path / name)
        os.utime(self.path / name, (there.written.timestamp(),) * 2)  # who looks on goes by it

    def _put(self, file: tuple[str, tuple[int, int]]) -> None:
        name, stamp = file
        self.store.upload(self.path / name, name)
        self._same[name] = stamp  # of before: what is written meanwhile is written again

    def _settle(self) -> None:
        """The last sync.

        Raises:
            Unsynced: as `held` says.
        """
        try:
            self.sync()
        except OSError as error:
            _keep.update(root for root in _roots if self.path.is_relative_to(root))
            why = f"{error.strerror or error}: {self.store.uri}"
            trouble = f"what was written last is not in the bucket ({why}); it is in {self.path}"
            raise Unsynced(error.errno, trouble) from error

    def _save(self, tell: Tell) -> None:
        """After an exception, what can be written."""
        try:
            self._settle()
        except Unsynced as error:
            tell(str(error.strerror))

    def _keep_up(self, over: threading.Event, tell: Tell) -> None:
        """What the thread does. A bucket that is away stops nobody."""
        synced = time.monotonic()
        while not over.wait(BEAT_SECONDS):
            try:
                self.lease.beat()
                if time.monotonic() - synced >= SYNC_SECONDS:
                    self.sync()
                    synced = time.monotonic()
            except OSError as error:
                self._say(error, tell)

    def _say(self, error: OSError, tell: Tell) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            tell(f"{self.store.uri} cannot be written ({error.strerror or error}); it is tried again")

    def _files(self) -> dict[str, tuple[int, int]]:
        """What belongs into the bucket, with time and size."""
        found = {}
        for folder, _, files in os.walk(self.path):
            for file in files:
                path = Path(folder) / file
                name = path.relative_to(self.path).as_posix()
                if self._is_ours(name) and not path.is_symlink() and path.is_file():
                    about = path.stat()
                    found[name] = about.st_mtime_ns, about.st_size
        return found

    def _is_ours(self, name: str) -> bool:
        """Whether a file is the mirror's to carry: no checkpoint, no lock, nothing that is being written or apart."""
        parts = PurePath(name).parts
        if CHECKPOINTS in parts[:-1] or LOCK_FOLDER in parts or parts[-1].endswith(".tmp"):
            return False
        return parts[0] not in self._apart


def _uri_of(path: Path) -> str | None:
    for root, uri in _roots.items():
        if path == root:
            return uri
        if path.is_relative_to(root):
            return f"{uri}/{path.relative_to(root).as_posix()}"
    return None


def _holder(path: Path) -> Mirror | None:
    return next((mirror for held, mirror in _held.items() if path.is_relative_to(held)), None)


def _take_away(root: Path) -> None:
    if root not in _keep:
        shutil.rmtree(root, ignore_errors=True)
