"""Whether decoded images are kept or streamed, decided by their bytes."""

from __future__ import annotations

import os

from raymix.data.frame import Frame
from raymix.plan import SHARDS
from raymix.report import words
from raymix.spec import Data, JobError

HOST_SHARE = 0.6  # of a machine's memory that images may take
CHUNK_BYTES = 32 * 2**20  # decoded, that a stream reads at once: smaller costs more, larger fills the object store
WINDOW_BYTES = 64 * 2**20  # of decoded images that are shuffled together, where neighbours are read together


def room_of_machine() -> int:
    """Bytes that images may take on this machine."""
    return int(HOST_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def is_kept(data: Data, num_images: int, frame: Frame, room: int) -> bool:
    """True: the images are kept, False: streamed. `room` is what the smallest node can hold, in bytes.

    Raises:
        JobError: the job asks to keep what does not fit.
    """
    wanted = num_images * frame.nbytes
    if data.cache == "auto":
        return wanted <= room
    if data.cache != "stream" and wanted > room:
        problem = f"{words.size(wanted)} of images do not fit into the {words.size(room)} that a node has for them"
        raise JobError("data.cache", problem, "use auto or stream")
    return data.cache != "stream"


def decision(num_images: int, frame: Frame, room: int) -> str:
    """What `auto` has decided and why, in a sentence."""
    wanted = num_images * frame.nbytes
    tiles = "" if frame.tile is None else f" in {frame.num_tiles} tiles"
    what = f"{num_images:,} images{tiles} of {frame.size} pixels take {words.size(wanted)} decoded"
    if wanted <= room:
        return f"{what}: they are kept (a node has {words.size(room)} for them)"
    return f"{what}, more than the {words.size(room)} that a node has for them: they are streamed"


def streamed_run(run: int, frame: Frame) -> int:
    """Neighbouring rows that a stream reads together, at least 1: as they lie in their files, within WINDOW_BYTES.

    With tiles it counts those, and all of an image are read together.
    """
    return max(1, min(run, WINDOW_BYTES // (SHARDS * frame.nbytes))) * frame.num_tiles
