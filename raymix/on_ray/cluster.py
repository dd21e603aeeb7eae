"""Which Ray: one of its own on this machine, the cluster of the job that this is, or the one at an address."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import grpc  # type: ignore[import-untyped]
import ray
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymix.data.keep import room_of_machine
from raymix.on_ray.shell import quoted_python
from raymix.runfolder import in_ray_job
from raymix.signals import CAUGHT, Interrupted
from raymix.spec import Cluster, JobError

# set before Ray starts; what the user has set stays
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # failures and ends show sooner than at 2 s
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints every line of a worker twice
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process and an error line more; see `leaving`
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a job stay what they were
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # CPU actors keep the GPU variables they started with
}
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_SMALLEST_STORE = 80 * 10**6  # Ray refuses less
DATA_CPUS = 1  # reading needs a CPU beside those that the workers hold
# A signal to every process, as of Slurm, ends the head of a Ray of our own at once, and nothing starts another. By
# itself Ray waits a minute for one, and Slurm 30 s before it kills; a checkpoint and the report take about five.
HEAD_SECONDS = 25
ANSWER_SECONDS = 10.0  # in which a cluster must answer; left to itself, Ray tries for minutes


def connect(cluster: Cluster, verbose: bool) -> bool:
    """Connects this process to Ray; True if that Ray is its own and must be shut down.

    Raises:
        JobError: nothing answers at the address, or the cluster has less than the job asks for.
    """
    set_environment()
    if ray.is_initialized():
        check_resources(cluster)
        return False
    options: dict[str, object] = {
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
        "configure_logging": True,
    }
    address = cluster.address or ("auto" if in_ray_job() else None)
    if address is None:
        _check_alone(cluster)
        with signals_later():
            _start(cluster, options)
        return True
    try:
        _knock(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        with signals_later():
            ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        hint = "is it running? if it asks for a token, set RAY_AUTH_MODE=token"
        raise JobError("cluster.address", f"no Ray cluster answers at {address}: {reason}", hint) from error
    try:
        check_resources(cluster)
    except JobError:
        disconnect()
        raise
    return True


def disconnect() -> None:
    """Ends the Ray of this process's own, or leaves a cluster; the next one may have another token, or none."""
    ray.shutdown()
    _read_token()


def set_environment() -> None:
    """Sets `ENVIRONMENT` in this process, for what Ray imports and starts from now on."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def smallest_store() -> int:
    """Bytes of the smallest object store among the nodes."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return int(min(resources.get("object_store_memory", 0) for resources in nodes))


def store_bytes(cluster: Cluster) -> int:
    """Bytes of the object store of a Ray of our own: blocks on their way.

    Without a word half of what images may take, which is only used by streams.
    """
    return max(cluster.object_store or room_of_machine() // 2, _SMALLEST_STORE)


def room(cluster: Cluster, owned: bool) -> int:
    """Bytes of images that the smallest node can hold: what its operator granted Ray for data that is shared."""
    return room_of_machine() if owned and cluster.object_store is None else smallest_store()


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Where an actor is lost no sooner than this process."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def session_folder() -> str:
    """Ray's own folder of this machine: what a killed driver leaves there lies with what Ray leaves."""
    folder: str = ray._private.worker._global_node.get_session_dir_path()
    return folder


def hush_data() -> None:
    """Keeps Ray Data's own progress lines off the screen; they stay in Ray's session folder."""
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)
            handler.addFilter(_is_a_fault)


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Ray Data takes a signal that comes in its midst for a fault of its own, and asks the user to report it."""
    return not isinstance(sys.exc_info()[1], Interrupted | KeyboardInterrupt)


def _start(cluster: Cluster, options: dict[str, object]) -> None:
    """A Ray of this machine alone. CPUs are logical: reading goes on beside workers that hold them all."""
    cpus = max(os.cpu_count() or 1, math.ceil(cluster.max_workers * cluster.cpus_per_worker) + DATA_CPUS + 1)
    with _to_itself(), _apart():
        ray.init(
            address="local",
            num_cpus=cpus,
            object_store_memory=store_bytes(cluster),
            include_dashboard=False,
            _system_config={"gcs_rpc_server_reconnect_timeout_s": HEAD_SECONDS},
            runtime_env=quoted_python() or None,
            **options,
        )


def _check_alone(cluster: Cluster) -> None:
    """Raises JobError where a Ray of this machine alone cannot be what the job asks for."""
    hint = "name a cluster: cluster.address=auto, or host:port"
    for name in cluster.resources_per_worker:
        raise JobError(f"cluster.resources_per_worker.{name}", "a Ray of raymix's own has none", hint)
    if cluster.placement == "strict_spread" and cluster.min_workers > 1:
        problem = f"{cluster.min_workers} workers on a node each, and a Ray of raymix's own has one"
        raise JobError("cluster.placement", problem, hint)


@contextmanager
def _to_itself() -> Iterator[None]:
    """A Ray that starts in here listens on loopback, and serves nobody but who has its token.

    The token is of this Ray alone, and what the user has set stays. Ray's own would lie in a file of the home folder
    that others may read, and that must be writable.
    """
    token = {"RAY_AUTH_MODE": "token"}
    if not any(name in os.environ for name in _TOKENS):
        token["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    added = {} if "RAY_AUTH_MODE" in os.environ else token
    os.environ.update(added)
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    _read_token()
    try:
        yield
    finally:  # what Ray has started has it in its environment; this process has read it
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        for name in added:
            del os.environ[name]


@contextmanager
def _apart() -> Iterator[None]:
    """What Ray starts in here has process groups of its own: a signal to this process's group is for this process.

    `timeout` and a shell that ends a job send SIGTERM to the whole group, and without Ray nothing could be saved.
    """
    popen = services.ConsolePopen
    services.ConsolePopen = partial(popen, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = popen


def _read_token() -> None:
    """Ray reads its mode and token of the environment once; this makes it read them anew."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def signals_later() -> Iterator[None]:
    """A signal that comes while Ray starts is heard when it has; a second one is not kept waiting.

    An exception in the midst of Ray's C code is lost, or ends the process. `ray.init` also takes SIGTERM for itself.
    What is started meanwhile never hears a hang-up: a terminal that closes sends it to the whole group, and without its
    workers a run could save nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers, kept = {signum: signal.getsignal(signum) for signum in CAUGHT}, list[int]()

    def keep(signum: int, frame: FrameType | None) -> None:
        handler = handlers[signal.Signals(signum)]
        if kept and callable(handler):
            handler(signum, frame)
        kept.append(signum)

    for signum in handlers:
        signal.signal(signum, keep)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # processes inherit what is blocked
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for come in kept:
        signal.raise_signal(come)


def _knock(address: str) -> None:
    """Finds out quickly whether something that may be Ray answers.

    Raises:
        ConnectionError: nothing does, or something else.
    """
    if "://" in address:
        raise ConnectionError("it is the address of the jobs API; Ray's own has the form host:6379")
    host, _, port = address.rpartition(":")
    if not port.isdigit() or os.environ.get("RAY_USE_TLS", "0") == "1":
        return  # auto, local or a session file: Ray finds out quickly itself; TLS needs the cluster's certificates
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise ConnectionError("something answers that is not Ray; its port is 6379 unless told otherwise") from None


def check_resources(cluster: Cluster) -> None:
    """Ray would wait for ever for what its cluster does not have.

    Raises:
        JobError: the cluster has less than the job asks for.
    """
    there = ray.cluster_resources()
    cpus = cluster.min_workers * cluster.cpus_per_worker + DATA_CPUS
    gpus = cluster.min_workers * cluster.gpus_per_worker
    if there.get("CPU", 0) < cpus:
        wanted = f"{cluster.min_workers} x {cluster.cpus_per_worker:g} CPUs and {DATA_CPUS} to read"
        problem = f"{wanted} are more than the cluster's {there.get('CPU', 0):g}"
        raise JobError("cluster.workers", problem, "ask for fewer, or add nodes")
    if there.get("GPU", 0) < gpus:
        problem = f"{gpus:g} GPU(s) asked for in all, the cluster has {there.get('GPU', 0):g}"
        raise JobError("cluster.gpus_per_worker", problem, "set it to 0 to train on CPUs, or add nodes")
    for name, amount in cluster.resources_per_worker.items():
        if there.get(name, 0) < (total := amount * cluster.min_workers):
            problem = f"{total:g} asked for in all, the cluster has {there.get(name, 0):g}"
            raise JobError(f"cluster.resources_per_worker.{name}", problem, "start nodes with ray start --resources")
    nodes = sum(node["Alive"] for node in ray.nodes())
    if cluster.placement == "strict_spread" and nodes < cluster.min_workers:
        problem = f"{cluster.min_workers} workers on a node each, and the cluster has {nodes}"
        raise JobError("cluster.placement", problem, "ask for fewer, take spread, or add nodes")
