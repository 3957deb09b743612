"""Say how a value comes from the one before it: what to copy, what to put in. Source: docs/format-headers.md#edits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Step", "find_steps"]

_LARGE = 64
_GAP = 4
_STEP_COST = 6  # bytes put that cost as much as one more step, about


class Step(NamedTuple):
    """Copy some bytes of the old value, pass over some, put new ones in their place."""

    copied: int
    dropped: int
    put: bytes


def find_steps(old: bytes, new: bytes) -> list[Step]:
    """Return the steps from one value to another; after the last, the rest of the old value is copied.

    An empty list says that nothing is worth copying.
    """
    if not old or not new:
        return []
    if len(old) == len(new) > _LARGE:
        return _find_runs(old, new)
    return _find_middle(old, new)


def _find_middle(old: bytes, new: bytes) -> list[Step]:
    """Keep what both begin and end with."""
    if old[0] != new[0] and old[-1] != new[-1]:
        return []
    common = min(len(old), len(new))
    differs = int.from_bytes(old[:common], "big") ^ int.from_bytes(new[:common], "big")
    head = common - (differs.bit_length() + 7) // 8
    differs = int.from_bytes(old[len(old) - common :], "big") ^ int.from_bytes(new[len(new) - common :], "big")
    tail = common if not differs else ((differs & -differs).bit_length() - 1) // 8
    tail = min(tail, common - head)
    if not head and not tail:
        return []
    return [Step(head, len(old) - head - tail, new[head : len(new) - tail])]


def _find_runs(old: bytes, new: bytes) -> list[Step]:
    """Find the runs of bytes that differ between values of one size."""
    places = np.flatnonzero(np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8))
    breaks = np.flatnonzero(np.diff(places) > _GAP)
    if 2 * (places.size + _STEP_COST * breaks.size) > len(new):
        return []
    starts = places[np.concatenate(([0], breaks + 1))].tolist()
    ends = (places[np.concatenate((breaks, [places.size - 1]))] + 1).tolist()
    steps, at = [], 0
    for start, end in zip(starts, ends, strict=True):
        steps.append(Step(start - at, end - start, new[start:end]))
        at = end
    return steps
