"""How far a training process is: the loop writes it, and a thread beside it tells whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from raymix.plan import Kind, Segment

Work = Literal["loading", "preparing", "stepping", "between", "waiting"]


class Process(NamedTuple):
    """A worker's process."""

    node: str  # Ray's id of it
    host: str
    pid: int
    began: float  # time.time() at which it began: a number is given to another process one day
    stacks: str  # the file that its signal writes stacks to, as another process of the node opens it


class Now(NamedTuple):
    """What a process works at."""

    work: Work
    first: int = 0  # global step at which the segment begins
    since: int = 0  # moves before it
    slowest: float = 0.0  # seconds of a step, of the slowest kind in the segment
    ahead: float = 0.0  # seconds of steps that a device may have been given and not done


class Beat(NamedTuple):
    """What a worker tells of itself every second."""

    rank: int
    world: int
    process: Process
    now: Now
    moves: int

    @property
    def step(self) -> int:
        """The step that it is in, counted from 1; of interest while it is stepping."""
        return self.now.first + max(1, self.moves - self.now.since)


class Pulse:
    """How far this process is.

    Attributes:
        moves: Grows with every step, batch of an evaluation and change of work. A device may be a segment behind.
        now: What it works at.
    """

    def __init__(self) -> None:
        self.moves, self.now = 0, Now("loading")

    def enter(self, work: Work) -> None:
        """Other work begins."""
        self.now = Now(work)
        self.moves += 1

    def enter_steps(self, segment: Segment, step_seconds: Mapping[Kind, float], ahead: bool) -> None:
        """A segment's steps begin. `ahead`: they are given to a device that does them later."""
        prices = [(step_seconds.get(kind, 0.0), steps) for kind, steps in segment.pattern]
        whole = sum(seconds * steps for seconds, steps in prices) if ahead else 0.0
        slowest = max(seconds for seconds, _ in prices)
        self.now = Now("stepping", segment.start, self.moves, slowest, whole)
