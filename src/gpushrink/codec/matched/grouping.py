"""Which contexts share a frequency table. Only the encoder needs this; any answer decodes.

`assign` and `merge` are loops as in loops.py. Costs are integers of 2^-16 bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.cost import FRACTION_BITS, histogram_cost, log2_fixed

if TYPE_CHECKING:
    from gpushrink.codec.matched.engine import Engine

__all__ = [
    "LOGARITHMS",
    "Grouping",
    "Sparse",
    "assign",
    "estimate",
    "group_contexts",
    "literal_prices",
    "log2_of",
    "logarithms",
    "merge",
    "order_cost",
]

LOGARITHMS = 4096
_SMALL_COUNTS = 4096
_BITS_PER_SYMBOL = 3
_BITS_PER_TABLE = 24


@cache
def logarithms() -> NDArray[np.int64]:
    """Tabulate log2 of 0 to 4096 in 2^-16 bit; of 0 it is 0."""
    return log2_fixed(np.arange(LOGARITHMS + 1, dtype=np.int64))


def log2_of(table: Any, count: int) -> int:
    """Return log2 of a count from the table, to about 2^-8 bit for large ones."""
    more = 0
    while count > LOGARITHMS:
        count >>= 3
        more += 3
    return int(table[count]) + (more << 16)


def assign(
    order: Any, starts: Any, symbols: Any, values: Any, costs: Any, groups: int, owner: Any, sums: Any, bits: Any
) -> None:
    """Give each context, in `order`, to the group that codes it with fewest bits, and sum counts up.

    Parameters
    ----------
    values, costs, bits
        Whole numbers as floating point, exact below 2^53, which processors multiply faster: the counts that are not 0,
        ``costs[groups * symbol + group]``, and a place for each group.
    """
    for k in range(len(order)):
        context = order[k]
        for group in range(groups):
            bits[group] = 0.0
        for i in range(starts[context], starts[context + 1]):
            value = values[i]
            row = costs[groups * symbols[i] : groups * symbols[i] + groups]
            for group in range(groups):
                bits[group] += value * row[group]
        best = 0
        for group in range(1, groups):
            if bits[group] < bits[best]:
                best = group
        owner[context] = best
        for i in range(starts[context], starts[context + 1]):
            sums[256 * best + symbols[i]] += values[i]


def _together(table: Any, sums: Any, first: int, second: int, alone: int) -> int:
    """Return what two groups cost with one table, the table too; with ``alone`` 1, the first without the second."""
    count = 0
    used = 0
    bits = 0
    for symbol in range(256):
        value = sums[256 * first + symbol]
        if alone == 0:
            value += sums[256 * second + symbol]
        if value > 0:
            count += value
            used += 1
            bits -= value * log2_of(table, value)
    return bits + count * log2_of(table, count) + ((_BITS_PER_SYMBOL * used + _BITS_PER_TABLE) << 16)


def merge(table: Any, sums: Any, groups: int, into: Any, alone: Any, gains: Any) -> None:
    """Merge the pair of groups that saves most, while one does; ``into[group]`` is where its counts went last."""
    for a in range(groups):
        into[a] = a
        alone[a] = _together(table, sums, a, a, 1)
    for a in range(groups):
        for b in range(a + 1, groups):
            gains[a * groups + b] = alone[a] + alone[b] - _together(table, sums, a, b, 0)
    while True:
        best = 0
        first = -1
        second = -1
        for a in range(groups):
            if into[a] == a:
                for b in range(a + 1, groups):
                    if into[b] == b and gains[a * groups + b] > best:
                        best = gains[a * groups + b]
                        first = a
                        second = b
        if first < 0:
            return
        into[second] = first
        for symbol in range(256):
            sums[256 * first + symbol] += sums[256 * second + symbol]
            sums[256 * second + symbol] = 0
        alone[first] = _together(table, sums, first, first, 1)
        for other in range(groups):
            if into[other] == other and other != first:
                gain = alone[first] + alone[other] - _together(table, sums, first, other, 0)
                if other < first:
                    gains[other * groups + first] = gain
                else:
                    gains[first * groups + other] = gain


def order_cost(table: Any, counts: Any, contexts: int) -> int:
    """Return what literals with these counts cost with a table for each context, the tables too."""
    total = 0
    for context in range(contexts):
        count = 0
        for symbol in range(256):
            value = counts[256 * context + symbol]
            if value > 0:
                count += value
                total += (_BITS_PER_SYMBOL << 16) - value * log2_of(table, value)
        total += count * log2_of(table, count)
    return total


@dataclass(frozen=True)
class Grouping:
    """The group of each context, and the sizes that follow.

    Attributes
    ----------
    owner
        int64, shape (contexts,); 0 for contexts that do not occur.
    sizes
        int64, shape (groups,): the literals of each group, all above 0.
    """

    owner: NDArray[np.int64]
    sizes: NDArray[np.int64]


class Sparse(NamedTuple):
    """Hold the counts that are not 0, context after context.

    Attributes
    ----------
    starts
        int64, shape (contexts + 1,): where each context's counts begin.
    symbols, values
        int64 and float64: the symbol and its count.
    totals
        int64, shape (contexts,).
    """

    starts: NDArray[np.int64]
    symbols: NDArray[np.int64]
    values: NDArray[np.float64]
    totals: NDArray[np.int64]

    def order(self) -> NDArray[np.int64]:
        """Give the contexts that occur, the most frequent first."""
        order = np.argsort(-self.totals, kind="stable")
        return order[: int(np.count_nonzero(self.totals))]


def literal_prices(counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """Give the cost of each byte after each other one, flat, from counts of shape (256, 256)."""
    return _costs(counts).ravel()


def _costs(sums: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Give the cost of each symbol in each group, absent ones as half a count."""
    totals = 2 * sums.sum(axis=1, keepdims=True, dtype=np.int64) + 256
    return log2_fixed(totals) - _log2_of_odd(sums)


@cache
def _small_odd() -> NDArray[np.int64]:
    """Tabulate log2 of 1, 3, 5, .. for the counts that most contexts have."""
    return log2_fixed(2 * np.arange(_SMALL_COUNTS, dtype=np.int64) + 1)


def _log2_of_odd(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Give log2 of ``2 * count + 1``."""
    out: NDArray[np.int64] = _small_odd()[np.minimum(counts, _SMALL_COUNTS - 1)]
    large = counts >= _SMALL_COUNTS
    out[large] = log2_fixed(2 * counts[large].astype(np.int64) + 1)
    return out


def estimate(counts: NDArray[np.int32], engine: Engine, groups: int, every: int) -> int:
    """Estimate the coded size, in 2^-16 bit, of literals of which one in `every` has these counts."""
    sparse = engine.compact(counts)
    order = sparse.order()
    if not len(order):
        return 0
    owner, sums = _assign(sparse, order, counts[order[:groups]], engine)
    in_use = np.bincount(owner[order])[None]
    tables = (_BITS_PER_SYMBOL * int(np.count_nonzero(sums)) + _BITS_PER_TABLE * len(sums)) << FRACTION_BITS
    return every * int(histogram_cost(sums).sum()) + int(histogram_cost(in_use).sum()) + tables


def group_contexts(counts: NDArray[np.int32], engine: Engine, groups: int) -> Grouping:
    """Put contexts together that are alike, in at most `groups` groups.

    Parameters
    ----------
    counts
        int32, shape (contexts, 256).
    """
    sparse = engine.compact(counts)
    order = sparse.order()
    if not len(order):
        return Grouping(np.zeros(len(counts), np.int64), np.zeros(0, np.int64))
    _, sums = _assign(sparse, order, counts[order[:groups]], engine)
    kept = engine.merge(logarithms(), sums[sums.any(axis=1)])
    owner, sums = _assign(sparse, order, kept, engine)
    # Numbered by first use, so that contexts side by side have numbers near each other.
    used = owner[np.sort(order)]
    _, first = np.unique(used, return_index=True)
    names = used[np.sort(first)]
    renamed = np.zeros(len(sums), np.int64)
    renamed[names] = np.arange(len(names))
    numbers = np.zeros(len(counts), np.int64)
    numbers[order] = renamed[owner[order]]
    return Grouping(numbers, sums.sum(axis=1)[names])


def _assign(
    sparse: Sparse, order: NDArray[np.int64], sums: NDArray[np.integer[Any]], engine: Engine
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return engine.assign(sparse, order, _costs(sums).T.astype(np.float64))
