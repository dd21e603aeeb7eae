"""What a pilot was asked for when it began, and at each extension: seeds fixed beforehand, or raised after a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from raymix.report import words
from raymix.spec import Section


class Request(Section):
    """The comparison that one command asked for."""

    seeds: dict[str, int] = Field(description="at T, by arm")
    lengths: dict[str, int] = Field(description="seeds at each length, which some arms exceed at T")
    seen: int = Field(0, description="seeds that some arm had finished at T when it was asked")
    measured: tuple[str, ...] = Field((), description="arms whose step times were measured then, after the others'")

    def same(self, other: Request) -> bool:
        """Whether it asks for the same runs."""
        return (self.seeds, self.lengths) == (other.seeds, other.lengths)


def requests_note(requests: Sequence[Request], num_merged: int = 0) -> str:
    """Sentences that a reader of an extended or merged pilot must know; '' where all was fixed beforehand."""
    told, most, lengths = [], dict[str, int](), dict[str, int]()
    for index, request in enumerate(requests):
        if index:
            told += _extension(request, most, lengths)
        most |= {arm: max(n, most.get(arm, n)) for arm, n in request.seeds.items()}
        lengths |= {length: max(n, lengths.get(length, n)) for length, n in request.lengths.items()}
    if requests:
        if requests[0].seen:
            seen = words.plural(requests[0].seen, "seed")
            told.insert(0, f"What was asked for before {seen} had been seen was not kept, so it may have been raised.")
        last = requests[-1].seeds
        if gone := [arm for arm, n in most.items() if last.get(arm, 0) < n]:
            told.append(f"Of {', '.join(gone)} more was asked for earlier than is shown.")
    if num_merged:
        runs = f"{words.plural(num_merged, 'run')} {'was' if num_merged == 1 else 'were'}"
        told.append(f"{runs} made by another copy of this pilot, on the same kind of device, and merged.")
    return " ".join(told)


def _extension(request: Request, most: Mapping[str, int], lengths: Mapping[str, int]) -> list[str]:
    """What one extension added to the most that was asked before it."""
    told, seen = [], words.plural(request.seen, "seed")
    raised = [arm for arm, n in request.seeds.items() if n > most.get(arm, n)]
    if raised and request.seen:
        change = f"{_numbers(most, raised)} to {_numbers(request.seeds, raised)} ({', '.join(raised)})"
        told.append(
            f"The number of seeds was not fixed beforehand: it was raised from {change} after {seen} had been seen, "
            "which the intervals do not allow for."
        )
    new = [arm for arm in request.seeds if arm not in most]
    new += [f"length {length}" for length in request.lengths if length not in lengths]
    new += [
        f"seeds at {length}" for length, n in request.lengths.items() if length != "T" and n > lengths.get(length, n)
    ]
    if new and request.seen:
        told.append(f"Added after {seen} had been seen: {', '.join(new)}.")
    if request.measured:
        told.append(f"Step times measured later than those of the other arms: {', '.join(request.measured)}.")
    return told


def _numbers(seeds: Mapping[str, int], arms: Sequence[str]) -> str:
    return " and ".join(str(n) for n in sorted({seeds[arm] for arm in arms}))
