"""What a process of its own finds out with torch: GPUs, and whether processes reach each other."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import timedelta
from typing import Any

from raymix.report import words
from raymix.report.finding import Asked, Told, worst
from raymix.spec import Import, JobSpec

GROUP_SECONDS = 40.0  # in which two processes must have added up a few numbers
FREE_SHARE = 0.5  # of a GPU's memory: with less, somebody else is on it
NUM_CLASSES = 1000  # for the size of a checkpoint, of which the classifier is a small part


def main() -> None:
    """Tells of gpus, gloo, nccl, and the bytes of a job's checkpoint."""
    asked = Asked()
    import torch

    # two processes are forked before anything touches CUDA, which does not survive it
    if sys.platform == "linux" and not asked.spec.cluster.address:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # as workers of one node have it
    asked.tell("gloo", _group("gloo", "fork"))
    asked.tell("gpus", gpus(asked.spec, torch))
    num = torch.cuda.device_count()
    asked.tell("nccl", _group("nccl", "spawn") if num > 1 and torch.cuda.is_available() else None)
    if asked.is_job:
        asked.tell("checkpoint bytes", Told("ok", str(checkpoint_bytes(asked.spec))))


def checkpoint_bytes(spec: JobSpec) -> int:
    """Bytes of a job's checkpoint, near enough; 0: it is not known, since a factory may not be imported here."""
    from raymix.method.backbones import How
    from raymix.method.steps import Model

    if isinstance(spec.backbone, Import):
        return 0
    import torch

    try:
        with torch.device("meta"):
            model = Model(spec, NUM_CLASSES, How(start=False, meta=True))
    except Exception:  # one that computes with its weights while it is made
        return 0
    weights: int = sum(value.nbytes for value in model.state_dict().values())
    moments: int = 2 * sum(value.nbytes for value in model.parameters())
    return weights * (1 if spec.optim.ema is None else 2) + moments


def gpus(spec: JobSpec, torch: Any) -> Told:
    """The GPUs that torch sees, against those that the driver has and the job wants."""
    cluster = spec.cluster
    wanted = 0.0 if cluster.address else cluster.gpus_per_worker * cluster.min_workers
    driver = _driver()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    why = f" ({' '.join(str(heard[-1].message).split())[:150]})" if heard else ""
    if not there:
        if driver:
            found = f"NVIDIA driver {driver} is there, and torch {torch.__version__} sees no GPU{why}"
            todo = (
                "a torch built for that driver's CUDA: https://pytorch.org/get-started; or unset CUDA_VISIBLE_DEVICES"
            )
            return Told("problem", found, todo)
        if wanted:
            found = f"the job wants {wanted:g} GPU(s), and there is no NVIDIA driver"
            return Told("problem", found, "install the driver, or --set cluster.gpus_per_worker=0")
        return Told("ok", "none: trains on CPUs")
    told = [_gpu(torch, number) for number in range(there)]
    if wanted > there:
        found = f"the job wants {wanted:g} GPU(s), and torch sees {there}"
        told.append(Told("problem", found, "set cluster.workers lower, or unset CUDA_VISIBLE_DEVICES"))
    return worst(*told)


def _gpu(torch: Any, number: int) -> Told:
    """One GPU: whether this torch has kernels for it, and its memory is free."""
    name, (major, minor) = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
    built = [int(arch.split("_")[1].rstrip("af")) // 10 for arch in torch.cuda.get_arch_list() if "_" in arch]
    if built and major < min(built):
        found = f"{name} has compute capability {major}.{minor}, below what torch {torch.__version__} is built for"
        return Told("problem", found, "an older torch, or a newer GPU")
    free, total = torch.cuda.mem_get_info(number)
    found = f"{name}, compute capability {major}.{minor}, {words.size(free)} free of {words.size(total)}"
    if free < FREE_SHARE * total:
        return Told("note", found, "something else uses it (nvidia-smi): batches that would fit may not")
    if major < 8:
        return Told("note", found, "it has no bf16: training takes longer there")
    return Told("ok", found)


def _driver() -> str | None:
    """The NVIDIA driver's version, as its own tool says it; None: there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.split("\n")[0].strip() or None if told.returncode == 0 else None


def _group(backend: str, method: str) -> Told:
    """Two processes add up a few numbers, as workers do their gradients."""
    context: Any = multiprocessing.get_context(method)
    folder = tempfile.mkdtemp(prefix="raymix-doctor-")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    started = time.monotonic()
    processes = [
        context.Process(target=_member, args=(backend, rank, folder, pipes[rank][1]), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    until, answers = started + GROUP_SECONDS, list[str]()
    for (reader, writer), process in zip(pipes, processes, strict=True):
        writer.close()
        ready = multiprocessing.connection.wait([reader], max(0.0, until - time.monotonic()))
        try:
            answers.append(reader.recv() if ready else f"no answer within {GROUP_SECONDS:g} s")
        except EOFError:
            process.join(5.0)
            answers.append(f"its process ended with code {process.exitcode}")
    for process in processes:
        process.kill()
        process.join()
    shutil.rmtree(folder, ignore_errors=True)
    wrong = [answer for answer in answers if answer]
    if not wrong:
        return Told("ok", f"two processes added up numbers in {words.seconds(time.monotonic() - started)}")
    todo = "a firewall or a wrong interface: set GLOO_SOCKET_IFNAME (ip addr names them)"
    if backend == "nccl":
        todo = "NCCL_DEBUG=INFO says more; NCCL_P2P_DISABLE=1 helps where GPUs do not reach each other directly"
    return Told("problem", f"two processes cannot add up numbers: {wrong[0][:200]}", todo)


def _member(backend: str, rank: int, folder: str, answer: Any) -> None:
    """One of the two processes; answers with what went wrong, or nothing."""
    import torch
    import torch.distributed as dist

    try:
        limit = timedelta(seconds=GROUP_SECONDS)
        device = torch.device("cpu" if backend == "gloo" else f"cuda:{rank}")
        where = f"file://{folder}/store"
        dist.init_process_group(backend, init_method=where, rank=rank, world_size=2, timeout=limit)
        numbers = torch.full((1000,), float(rank + 1), device=device)
        dist.all_reduce(numbers)
        wrong = "" if numbers.eq(3).all() else f"1 + 2 came to {numbers[0].item():g}"
        answer.send(wrong)
        dist.destroy_process_group()
    except Exception as error:
        answer.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
        sys.exit(1)
