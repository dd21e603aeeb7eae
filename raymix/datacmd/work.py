"""Who works on blocks of rows, and what is told of it meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from raymix.data.blocks import MapBlocks, map_threads
from raymix.runfolder import in_ray_job
from raymix.signals import Interrupted
from raymix.spec import Cluster
from raymix.watch.console import ConsoleSink

R = TypeVar("R")

# rows from which on Ray is worth its seconds: to start one takes five, in which threads check 25,000 images of 64 px
CLUSTER_ROWS, OWN_ROWS = 5_000, 50_000


@dataclass(frozen=True)
class How:
    """How a command works: `local` without Ray, `verbose` with Ray's own log lines, `quiet` without progress."""

    local: bool = False
    verbose: bool = False
    quiet: bool = False


@contextmanager
def console(how: How, ended: str) -> Iterator[ConsoleSink]:
    """Where progress is told.

    Args:
        ended: What to say after Ctrl-C.

    Raises:
        Interrupted: on Ctrl-C.
    """
    sink = ConsoleSink(quiet=how.quiet)
    try:
        yield sink
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, ended) from None
    finally:
        sink.close()


@contextmanager
def workers(cluster: Cluster, num_rows: int, how: How, sink: ConsoleSink) -> Iterator[MapBlocks]:
    """Who goes through blocks of so many rows: threads, or Ray where they are many.

    Raises:
        JobError: the job's cluster does not answer.
    """
    enough = CLUSTER_ROWS if cluster.address or in_ray_job() else OWN_ROWS
    if how.local or cluster.max_workers == 0 or num_rows < enough:
        yield map_threads
        return
    from raymix.on_ray.blocks import map_ray, ray_for_blocks

    sink.stage("starting Ray")
    with ray_for_blocks(cluster, how.verbose):
        yield map_ray


def told(
    results: Generator[R, None, None], sink: ConsoleSink, text: str, total: int, count: Callable[[R], int]
) -> Generator[R, None, None]:
    """The results as they come; the console hears how many of `total` things they are about.

    To be closed by who stops taking them (`contextlib.closing`): no thread works on behind its back.
    """
    done = 0
    sink.stage(text, done, total)
    with closing(results):
        for result in results:
            yield result
            done += count(result)
            sink.stage(text, done, total)
