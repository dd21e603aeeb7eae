"""What `raymix doctor` finds out about Ray: in a process of its own, which connects as a run does and then leaves."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray._private import ray_constants
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymix.bucket import Store, is_bucket
from raymix.on_ray.cluster import connect, disconnect, smallest_store, store_bytes
from raymix.report import words
from raymix.report.finding import Asked, Told, worst
from raymix.runfolder import in_ray_job, storage_of
from raymix.spec import Cluster, JobError, JobSpec

NODE_SECONDS = 45.0  # in which every node must have answered
CLOCK_SECONDS = 1.0  # that clocks of nodes may differ
SHM = Path("/dev/shm")
UNSEEN = "writes there, and the driver does not see it"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Seen(NamedTuple):
    """What a node says of itself."""

    host: str
    seconds: float  # time.time()
    shm: int  # bytes of /dev/shm
    tokens: bool  # it serves nobody without one
    storage: str  # what keeps it from the probe's folder; "": nothing


class Node:
    """An actor on a node."""

    def look(self, folder: str, mine: str) -> Seen:
        """Reads what the driver wrote into a folder, and writes a file of its own beside it."""
        wrong = ""
        try:
            if _read(folder, "driver") != b"driver":
                wrong = "reads something else there"
            _write(folder, mine)
        except OSError as error:
            wrong = error.strerror or str(error)
        shm = shutil.disk_usage(SHM).total if SHM.is_dir() else 0
        return Seen(socket.gethostname(), time.time(), shm, is_token_auth_enabled(), wrong)


def main() -> None:
    """Tells of ray, object store, access and nodes."""
    asked = Asked()
    spec = asked.spec
    own = spec.cluster.address is None and not in_ray_job()
    if own:
        asked.tell("object store", own_store(spec.cluster))
    try:
        connect(spec.cluster, verbose=False)
    except (JobError, ValueError, RuntimeError, OSError) as error:
        asked.tell("ray", _unreached(error))
        for name in ("object store", "access", "nodes")[own:]:
            asked.tell(name, None)
        return
    try:
        found = f"answers {words.seconds(time.monotonic() - asked.started)} after the start of its process"
        asked.tell("ray", Told("ok", f"{'a Ray of its own starts and ' if own else ''}{found}, {_resources()}"))
        visit = Visit(spec)
        asked.tell("access", _access(own, visit.seen))
        asked.tell("nodes", None if own else _nodes(spec, visit))
        if not own:
            asked.tell("object store", _stores(visit.seen))
    finally:
        disconnect()


def own_store(cluster: Cluster) -> Told:
    """The object store of a Ray that is to be started, against the shared memory that there is for it."""
    wanted, there = store_bytes(cluster), os.statvfs(SHM) if SHM.is_dir() else None
    free = there.f_bavail * there.f_bsize if there else 0
    if free >= wanted:
        return Told("ok", f"{words.size(wanted)} in {SHM}, which has {words.size(free)} free")
    todo = f"a larger {SHM} (docker --shm-size, an emptyDir of medium Memory in Kubernetes), or cluster.object_store"
    found = f"{SHM} has {words.size(free)} free, and the object store takes {words.size(wanted)}"
    if wanted > ray_constants.REQUIRE_SHM_SIZE_THRESHOLD and not os.environ.get("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"):
        return Told("problem", f"{found}: Ray refuses to start", todo)
    return Told("note", f"{found}: Ray takes files below /tmp instead, which are slower", todo)


class Visit:
    """Every node, asked twice: once to start there, once for its clock."""

    def __init__(self, spec: JobSpec) -> None:
        self.seen, self.late, self.silent = dict[str, Seen](), dict[str, float](), list[str]()
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        with _probe(spec) as folder:
            actors = {node: _actor(node) for node in nodes}
            until = time.monotonic() + NODE_SECONDS
            asked = {node: actor.look.remote(folder, node) for node, actor in actors.items()}
            for node, reference in asked.items():
                try:
                    ray.get(reference, timeout=max(0.1, until - time.monotonic()))
                    before = time.time()
                    seen: Seen = ray.get(actors[node].look.remote(folder, node), timeout=5.0)
                except ray.exceptions.RayError:
                    self.silent.append(nodes[node])
                    continue
                # the answer was given in between: what is outside of it is a difference
                self.late[node] = max(seen.seconds - time.time(), before - seen.seconds, 0.0)
                if folder and not seen.storage and not _sees(folder, node):
                    seen = seen._replace(storage=UNSEEN)
                self.seen[node] = seen
            for actor in actors.values():
                ray.kill(actor)


@contextmanager
def _probe(spec: JobSpec) -> Iterator[str]:
    """A folder below the job's storage with a file of the driver's; where none can be made, another check says why."""
    if is_bucket(spec.storage):
        place = Store(f"{spec.storage}/.raymix-doctor-{uuid.uuid4().hex}")
        try:
            with suppress(OSError):
                _write(place.uri, "driver")
            yield place.uri
        finally:
            with suppress(OSError):
                place.delete_folder("")
        return
    here = None
    with suppress(JobError, OSError):
        here = storage_of(spec)
        while not here.exists():
            here = here.parent
        here = Path(tempfile.mkdtemp(prefix=".raymix-doctor-", dir=here))
        (here / "driver").write_text("driver")
    try:
        yield str(here or "")
    finally:
        if here is not None:
            shutil.rmtree(here, ignore_errors=True)


def check_storage(spec: JobSpec) -> None:
    """Finds out whether all nodes of the cluster that this process is connected to have the job's storage.

    Raises:
        JobError: one has not: what its workers save would be nowhere when they are needed.
    """
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2 or is_bucket(spec.storage):
        return
    with _probe(spec) as folder:
        actors = {node: _actor(node) for node in nodes}
        asked = {node: actor.look.remote(folder, node) for node, actor in actors.items()}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=NODE_SECONDS)
        for node, reference in asked.items():
            wrong = ""
            with suppress(ray.exceptions.RayError):  # one that does not answer is no reason not to start
                wrong = ray.get(reference, timeout=0).storage
                wrong = wrong or ("" if _sees(folder, node) else UNSEEN)
            if wrong:
                problem = f"{spec.storage} is not the same folder on {nodes[node]}: {wrong}"
                raise JobError("storage", problem, "name a folder that every node mounts, as on NFS, or a bucket")
        for actor in actors.values():
            ray.kill(actor)


def _read(folder: str, name: str) -> bytes:
    return Store(folder).read(name) if is_bucket(folder) else (Path(folder) / name).read_bytes()


def _write(folder: str, name: str) -> None:
    if is_bucket(folder):
        Store(folder).write(name, name.encode())
    else:
        (Path(folder) / name).write_text(name)


def _sees(folder: str, name: str) -> bool:
    with suppress(OSError):
        return _read(folder, name) == name.encode()
    return False


def _actor(node: str) -> Any:
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(Node).options(num_cpus=0, scheduling_strategy=where).remote()


def _unreached(error: Exception) -> Told:
    """Why Ray does not start, or does not answer, or is too small."""
    if isinstance(error, JobError):
        return Told("problem", f"{error.field}: {error.problem}", error.hint or "is it running?")
    line = " ".join(str(error).split())[:250]
    return Told("problem", f"Ray does not start: {line}", "the newest folder in /tmp/ray has its logs")


def _resources() -> str:
    there = ray.cluster_resources()
    nodes = words.plural(sum(node["Alive"] for node in ray.nodes()), "node")
    return f"{nodes}, {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs"


def _stores(seen: dict[str, Seen]) -> Told:
    """The object stores of a cluster that somebody else has started."""
    told = [Told("ok", f"{words.size(smallest_store())} on the smallest node")]
    stores = {node["NodeID"]: node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]}
    for node, here in seen.items():
        if here.shm < stores.get(node, 0):
            found = f"{here.host}: {SHM} has {words.size(here.shm)} for a store of {words.size(int(stores[node]))}"
            told.append(Told("note", f"{found}, which lies below /tmp then", "give its container a larger /dev/shm"))
    return worst(*told)


def _access(own: bool, seen: dict[str, Seen]) -> Told:
    """Who reaches this Ray: whoever does, and needs no token, runs code on it."""
    tokens = all(here.tokens for here in seen.values())
    hosts = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
    outside = sorted({host for host in hosts if host not in LOOPBACK})
    if not outside:
        found = "listens on loopback alone" + (", and asks for a token" if tokens else ", and asks for no token")
        todo = "others on this machine may run code on it: unset RAY_AUTH_MODE"
        return Told("ok", found) if tokens else Told("note", found, todo)
    shown = ", ".join(outside[:3]) + (", ..." if len(outside) > 3 else "")
    if tokens:
        return Told("ok", f"listens on {shown}, and asks for a token")
    todo = "start every node with RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN_PATH (ray get-auth-token --generate)"
    return Told("problem", f"listens on {shown} without a token: whoever reaches it runs code on it", todo)


def _nodes(spec: JobSpec, visit: Visit) -> Told:
    """What several nodes must have in common: the storage, the time."""
    told = [Told("ok", f"{words.plural(len(visit.seen), 'node')} read and write {spec.storage}, clocks alike")]
    for host in visit.silent:
        told.append(Told("problem", f"{host} does not answer", "look at its raylet's log, or take it out"))
    for node, here in visit.seen.items():
        if here.storage:
            found = f"storage {spec.storage} is not the same folder on {here.host}: {here.storage}"
            told.append(Told("problem", found, "name a folder that every node mounts, as on NFS: --set storage=DIR"))
        if visit.late[node] > CLOCK_SECONDS:
            found = f"the clock of {here.host} differs by {visit.late[node]:.1f} s"
            told.append(Told("note", found, "let all nodes go by NTP: budgets of time end by it"))
    return worst(*told)
