"""A drawer of hostile images: broken, odd, huge. What becomes of 10,000 of them, and of 1,000 decompression bombs.

Measured in a process of its own, over files that another one has written, so that only reading is counted.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from raymix.bench.bombs import BOMBS
from raymix.bench.drawer import GOOD, KINDS, good_file, good_pixels
from raymix.data.frame import Frame
from raymix.data.reading import read_local, read_part
from raymix.data.rows import Rows
from raymix.spec import ImageFolderSource

_MANIFEST = "manifest.json"
_FRAME = Frame(GOOD[1])  # the shorter side of the good neighbours, so that they must come out pixel by pixel
_NUM_SHOWN = 20
_MEBIBYTE = 2**20


def write_folder(folder: Path, per_kind: int) -> dict[str, str | None]:
    """`per_kind` images of each kind below `folder`, and after each of them a good neighbour.

    Returns:
        Path -> the cause it must be refused for, None where it is readable; in the order of a sorted listing.
    """
    expected: dict[str, str | None] = {}
    for seed in range(per_kind):
        for number, kind in enumerate(KINDS.values()):
            place = seed * len(KINDS) + number
            path = folder / "a" / f"{place:06}-bad.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            kind.place(path, seed)
            expected[str(path)] = kind.cause
            neighbour = path.with_name(f"{place:06}-good.png")
            neighbour.write_bytes(good_file(place))
            expected[str(neighbour)] = None
    return expected


def write_bombs(folder: Path, num: int) -> list[str]:
    """`num` decompression bombs below `folder`, of all kinds in turn; a kind's bytes are made once."""
    names = list(BOMBS)
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: BOMBS[name]() for name in names[:num]}
    paths = []
    for i in range(num):
        path = folder / f"{i:05} {names[i % len(names)]}.jpg"
        path.write_bytes(made[names[i % len(names)]])
        paths.append(str(path))
    return paths


def read_hostile(expected: dict[str, str | None]) -> dict[str, Any]:
    """Read what `write_folder` wrote, as a run does, and compare: counts by cause, and what came out otherwise."""
    rows = _rows(list(expected))
    images = read_local(rows, np.arange(len(rows)), _FRAME)
    wrong = []
    for i, (uri, cause) in enumerate(expected.items()):
        got = images.skipped.get(i)
        if got != cause:
            wrong.append({"path": os.path.basename(uri), "expected": cause, "got": got})
        elif uri.endswith("-good.png") and (images.pixels[images.slots[i]] != good_pixels(i // 2)).any():
            wrong.append({"path": os.path.basename(uri), "expected": "its own pixels", "got": "other pixels"})
    counts = Counter(images.skipped.values())
    return {
        "num_files": len(rows),
        "num_read": len(images.pixels),
        "skipped": dict(counts.most_common()),
        "num_wrong": len(wrong),
        "wrong": wrong[:_NUM_SHOWN],
    }


def read_bombs(paths: list[str]) -> dict[str, Any]:
    """Decode bombs one by one, in two threads: what the process grows by, and the CPU seconds of the slowest."""
    rows = _rows(paths)
    frame = Frame(64)

    def timed(i: int) -> tuple[float, str]:
        started = time.thread_time()
        part = read_part(rows, np.array([i]), frame)
        return time.thread_time() - started, part.skipped.get(i, "read")

    before = peak_bytes()
    with ThreadPoolExecutor(max_workers=2) as pool:
        done = list(pool.map(timed, range(len(paths))))
    slowest = max(range(len(done)), key=lambda i: done[i][0], default=None)
    return {
        "num_bombs": len(paths),
        "outcomes": dict(Counter(outcome for _, outcome in done).most_common()),
        "growth_mebibytes": round((peak_bytes() - before) / _MEBIBYTE, 1),
        "slowest_cpu_seconds": round(done[slowest][0], 3) if slowest is not None else 0.0,
        "slowest": os.path.basename(paths[slowest]) if slowest is not None else None,
    }


def bench_hostile(num: int = 10_000, num_bombs: int = 1_000) -> dict[str, Any]:
    """At least `num` bad images of all kinds with as many good neighbours, and `num_bombs` bombs, each told apart.

    Returns:
        `images` as read_hostile, `bombs` as read_bombs, `seconds` of the whole.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raymix-hostile-") as folder:
        per_kind = -(-num // len(KINDS))
        for step in (["write", folder, str(per_kind), str(num_bombs)], ["read", folder]):
            command = [sys.executable, "-W", "ignore", "-m", "raymix.bench.hostile", *step]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:  # what this is there to find out
                raise RuntimeError(f"hostile images ended the process with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "seconds": round(time.monotonic() - started, 1)}


def peak_bytes() -> int:
    """The most memory that this process has held."""
    try:
        # not ru_maxrss: on Linux it starts at what the parent held
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _rows(uris: list[str]) -> Rows:
    source = ImageFolderSource(format="image_folder", path=os.path.dirname(uris[0]) if uris else ".")
    return Rows.of(source, uris, [0] * len(uris), ("a",), len(uris))


def _main(step: str, folder: Path, *numbers: str) -> None:
    if step == "write":
        per_kind, num_bombs = map(int, numbers)
        manifest = {"images": write_folder(folder, per_kind), "bombs": write_bombs(folder / "bombs", num_bombs)}
        (folder / _MANIFEST).write_text(json.dumps(manifest))
        return
    manifest = json.loads((folder / _MANIFEST).read_text())
    # a few images first, so that libraries and pools count as there already
    read_hostile(dict(list(manifest["images"].items())[: 2 * len(KINDS)]))
    bombs = read_bombs(manifest["bombs"])
    print(json.dumps({"bombs": bombs, "images": read_hostile(manifest["images"])}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
