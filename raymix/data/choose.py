"""Which whole groups (parts, lots, days) judge: a share of the rows, stratified as far as whole groups allow."""

from __future__ import annotations

import math

import numpy as np

from raymix.data.rows import Ids

_PASSES = 10  # over all groups, each to lower the distance from what is asked


def whole_groups(groups: Ids, labels: Ids, share: float, seed: list[int]) -> Ids:
    """Some of the groups, sorted; empty where each holds all rows of some class.

    A class always keeps a group, and one of three or more keeps two, so that another part can be cut as well. A class
    in two groups or more gets rows among those chosen wherever that leaves the other classes theirs. Both come before
    the share. Then groups are taken or left, in a random order, as long as that brings the rows of each class and of
    all together nearer to their share.

    Args:
        groups: int64 (n,), of the labelled rows.
        labels: int64 (n,), none below 0.
        share: in (0, 1), of the rows.
        seed: of the order.
    """
    found, of_row = np.unique(groups, return_inverse=True)
    choice = _Choice(of_row, labels, share)
    order = np.random.default_rng(seed).permutation(len(found)).tolist()
    choice.cover(order)
    for _ in range(_PASSES):
        if not choice.improve(order):
            break
    chosen: Ids = found[np.array(choice.taken)]
    return chosen


class _Choice:
    """Groups that are taken so far, and how far their rows are from what is wanted."""

    def __init__(self, of_row: Ids, labels: Ids, share: float) -> None:
        num_groups, num_classes = int(of_row.max()) + 1, int(labels.max()) + 1
        pairs, counts = np.unique(of_row * num_classes + labels, return_counts=True)
        # of each group its classes and their rows, in plain lists: most groups have a few, and each is looked at often
        self._held: list[list[tuple[int, int]]] = [[] for _ in range(num_groups)]
        for group, label, count in zip(
            (pairs // num_classes).tolist(), (pairs % num_classes).tolist(), counts.tolist(), strict=True
        ):
            self._held[group].append((label, count))
        num_holders = np.bincount(pairs % num_classes, minlength=num_classes)
        self._left: list[int] = num_holders.tolist()  # of each class the groups that hold it and are not taken
        self._keeps: list[int] = np.where(num_holders < 3, 1, 2).tolist()
        self._wanted: list[float] = (share * np.bincount(labels, minlength=num_classes)).tolist()
        self._rows, self._holders = [0] * num_classes, [0] * num_classes  # taken, by class
        self._all_rows, self._all_wanted = 0, share * len(labels)
        self.taken = [False] * num_groups

    def cover(self, order: list[int]) -> None:
        """Takes a group for each class that has none yet, the class in fewest groups first."""
        holders: list[list[int]] = [[] for _ in self._left]
        for group in order:
            for label, _ in self._held[group]:
                holders[label].append(group)
        for label in sorted(range(len(holders)), key=lambda label: len(holders[label])):
            if not self._holders[label]:
                first = self._first(holders[label])
                if first is not None:
                    self._move(first, 1)

    def _first(self, groups: list[int]) -> int | None:
        """The first of them that brings the rows nearer, else the one that takes them least far away."""
        least, best = math.inf, None
        for group in groups:
            if self._may_take(group):
                change = self._change(group, 1)
                if change < 0:
                    return group
                if change < least:
                    least, best = change, group
        return best

    def improve(self, order: list[int]) -> bool:
        """Takes and leaves groups while that brings the rows nearer to what is wanted. Returns whether any was."""
        changed = False
        for group in order:
            way = -1 if self.taken[group] else 1
            if self._change(group, way) < -1e-9 and (self._may_take(group) if way > 0 else self._may_leave(group)):
                self._move(group, way)
                changed = True
        return changed

    def _may_take(self, group: int) -> bool:
        return all(self._left[label] > self._keeps[label] for label, _ in self._held[group])

    def _may_leave(self, group: int) -> bool:
        return all(self._holders[label] > 1 for label, _ in self._held[group])

    def _change(self, group: int, way: int) -> float:
        """Of the sum over classes, and over all rows, of (taken - wanted)^2 / wanted."""
        total, change, rows, wanted, twice = 0, 0.0, self._rows, self._wanted, 2 * way
        for label, count in self._held[group]:
            change += count * (twice * (rows[label] - wanted[label]) + count) / wanted[label]
            total += count
        return change + total * (2 * way * (self._all_rows - self._all_wanted) + total) / self._all_wanted

    def _move(self, group: int, way: int) -> None:
        self.taken[group] = way > 0
        for label, count in self._held[group]:
            self._rows[label] += way * count
            self._all_rows += way * count
            self._holders[label] += way
            self._left[label] -= way
