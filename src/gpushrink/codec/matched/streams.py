"""Which runs of bytes are so alike that one set of tables serves them. Only the encoder asks; any answer decodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.matched.engine import Context, EngineName, Matches, resolve_engine
from gpushrink.codec.matched.grouping import logarithms

__all__ = ["group_streams"]

_BYTE_BEFORE = Context(1, 8, 1, 0)
_MOST_STREAMS = 8
# Shorter ones cannot pay for tables of their own: they join what was before them.
_SHORT = 1 << 13
# Of long ones, so many bytes are looked at.
_SAMPLE = 1 << 18


def group_streams(parts: Sequence[bytes | memoryview], *, engine: EngineName = "auto") -> list[int]:
    """Give each run of bytes the number of its group, counted from 0.

    A run joins the group whose order-1 code grows least by it, or begins a new one where that is less.
    """
    run = resolve_engine(engine)
    nothing = Matches(*(np.zeros(0, np.int64) for _ in range(3)))
    groups: list[NDArray[np.int32]] = []
    costs: list[int] = []
    out: list[int] = []
    for part in parts:
        if len(part) < _SHORT:
            out.append(out[-1] if out else 0)
            continue
        counts = run.count(bytes(part[:_SAMPLE]), nothing, _BYTE_BEFORE, 1)
        together = [group + counts for group in groups]
        cost = [run.order_cost(logarithms(), one) for one in (counts, *together)]
        more = [new - old for new, old in zip(cost[1:], costs, strict=True)]
        if not groups or (cost[0] < min(more) and len(groups) < _MOST_STREAMS):
            groups.append(counts)
            costs.append(cost[0])
            out.append(len(groups) - 1)
        else:
            best = more.index(min(more))
            groups[best], costs[best] = together[best], cost[1 + best]
            out.append(best)
    return out
