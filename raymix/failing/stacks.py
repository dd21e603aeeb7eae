"""What the stacks of a group's workers, as `faulthandler` writes them, say of who is stuck and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)(?: in (?P<name>\S+))?')
_TRAINING = "in work_off"  # the outermost function of raymix's own in the thread that trains
# where a worker stands that waits for the others: gradients are averaged within backward, other values are gathered
_TOGETHER = ("/torch/distributed/", "/torch/autograd/graph.py", "/torch/nn/parallel/distributed.py")
_NEEDLESS = ("/torch/nn/modules/module.py",)


class Place(NamedTuple):
    """Where a worker stands."""

    words: str  # file:line in function
    together: bool  # it waits for the others


def place(text: str) -> Place | None:
    """Where the training thread is, its last calls first; None: the stacks do not show it."""
    threads = re.split(r"\n\s*\n", text)
    training = next((thread for thread in threads if _TRAINING in thread), None)
    frames = list(_FRAME.finditer(training)) if training else []
    if not frames:
        return None
    innermost = next((frame for frame in frames if not frame["file"].endswith(_NEEDLESS)), frames[0])
    words = f"{'/'.join(innermost['file'].split('/')[-2:])}:{innermost['line']}"
    name = f" in {innermost['name']}" if innermost["name"] else ""
    return Place(words + name, any(part in innermost["file"] for part in _TOGETHER))


def stuck(stacks: Mapping[int, str]) -> tuple[int, ...]:
    """Ranks of those that do not wait for the others; of all where each seems to."""
    places = {rank: place(text) for rank, text in stacks.items()}
    alone = tuple(sorted(rank for rank, of in places.items() if of is not None and not of.together))
    return alone or tuple(sorted(stacks))
