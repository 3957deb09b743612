"""The everyday engine: the loops compiled by numba, without the GIL. Imported only when asked for.

numba does not check bounds, so every index in the loops is bounded by a test or by what the stage checked before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled, compiled_text
from gpushrink.codec.matched import grouping, loops
from gpushrink.codec.matched.engine import Context, Matches
from gpushrink.codec.matched.grouping import Sparse

__all__ = ["NumbaEngine"]


@compiled()
def _byte_at(data, at):  # type: ignore[no-untyped-def]
    return np.int64(data[at])


@compiled()
def _word_at(data, at):  # type: ignore[no-untyped-def]
    low = np.int64(data[at]) | (np.int64(data[at + 1]) << 8)
    return low | (np.int64(data[at + 2]) << 16) | (np.int64(data[at + 3]) << 24)


@compiled()
def _log2_of(table, count):  # type: ignore[no-untyped-def]
    more = 0
    while count > grouping.LOGARITHMS:
        count >>= 3
        more += 3
    return table[count] + (more << 16)


_match_length = compiled_text(loops.match_length)
_context_at = compiled_text(loops.context_at, byte_at=_byte_at)
_find = compiled_text(loops.find_matches, byte_at=_byte_at, word_at=_word_at, match_length=_match_length)
_count = compiled_text(loops.count_contexts, byte_at=_byte_at, context_at=_context_at)
_gather = compiled_text(loops.gather_literals, context_at=_context_at)
_rebuild = compiled_text(loops.rebuild, byte_at=_byte_at, context_at=_context_at)
_compact = compiled_text(loops.compact)
_put_bits = compiled_text(loops.put_bits)
_take_bits = compiled_text(loops.take_bits, byte_at=_byte_at)
_together = compiled_text(grouping._together, log2_of=_log2_of)
_order_cost = compiled_text(grouping.order_cost, log2_of=_log2_of)
_assign = compiled_text(grouping.assign)
_merge = compiled_text(grouping.merge, _together=_together)


# Places of smaller data, times 256, fit 32 bits.
_SMALL = 1 << 23


class NumbaEngine:
    """Compiled loops, cached on disk."""

    def find(self, data: bytes, prices: NDArray[np.int64], heads_log2: int) -> Matches:
        """See `Engine`."""
        most = min(len(data) // loops.SHORTEST + 1, loops.LONGEST_LIST)
        runs, lengths, codes = (np.empty(most, np.int64) for _ in range(3))
        heads = np.full(1 << heads_log2, -1, np.int32 if len(data) < _SMALL else np.int64)
        found = _find(np.frombuffer(data, np.uint8), len(data), prices, heads, heads_log2, runs, lengths, codes)
        return Matches(*(column[:found].copy() for column in (runs, lengths, codes)))

    def count(self, data: bytes, matches: Matches, context: Context, every: int) -> NDArray[np.int32]:
        """See `Engine`."""
        counts = np.zeros(256 * context.places, np.int32)
        array = np.frombuffer(data, np.uint8)
        _count(array, len(data), matches.runs, matches.lengths, len(matches.runs), every, *context, counts)
        return counts.reshape(-1, 256)

    def gather(
        self, data: bytes, matches: Matches, context: Context, owner: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """See `Engine`."""
        literals = np.empty(int(sizes.sum()), np.uint8)
        _gather(
            np.frombuffer(data, np.uint8), len(data), matches.runs, matches.lengths, len(matches.runs), *context,
            owner, np.cumsum(sizes) - sizes, literals,
        )  # fmt: skip
        return literals

    def rebuild(
        self,
        size: int,
        matches: Matches,
        context: Context,
        owner: NDArray[np.int64],
        sizes: NDArray[np.int64],
        literals: NDArray[np.uint8],
    ) -> bytes | memoryview | None:
        """See `Engine`."""
        out = np.empty(size, np.uint8)
        ends = np.cumsum(sizes)
        failed = _rebuild(out, size, *matches, len(matches.runs), *context, owner, ends - sizes, ends, literals)
        return None if failed else memoryview(out)  # type: ignore[arg-type]  # numpy's stubs lack the protocol before 3.12

    def compact(self, counts: NDArray[np.int32]) -> Sparse:
        """See `Engine`."""
        contexts = len(counts)
        starts, totals = np.zeros(contexts + 1, np.int64), np.zeros(contexts, np.int64)
        symbols, values = np.empty(counts.size, np.int64), np.empty(counts.size)
        filled = _compact(counts.ravel(), contexts, starts, symbols, values, totals)
        return Sparse(starts, symbols[:filled], values[:filled], totals)

    def assign(
        self, sparse: Sparse, order: NDArray[np.int64], costs: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Engine`."""
        groups = costs.shape[1]
        owner, sums, bits = np.zeros(len(sparse.totals), np.int64), np.zeros(costs.size), np.zeros(groups)
        _assign(order, *sparse[:3], costs.ravel(), groups, owner, sums, bits)
        return owner, sums.astype(np.int64).reshape(groups, 256)

    def order_cost(self, table: NDArray[np.int64], counts: NDArray[np.int32]) -> int:
        """See `Engine`."""
        return int(_order_cost(table, counts.ravel(), len(counts)))

    def put_bits(self, values: NDArray[np.int64], widths: NDArray[np.int64]) -> bytes:
        """See `Engine`."""
        out = np.zeros((int(widths.sum()) + 7) // 8, np.uint8)
        _put_bits(values, widths, out)
        return out.tobytes()

    def take_bits(self, data: NDArray[np.uint8], widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Engine`."""
        values = np.zeros(len(widths), np.int64)
        _take_bits(data, widths, values)
        return values

    def merge(self, table: NDArray[np.int64], sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Engine`."""
        groups, flat = len(sums), sums.ravel().copy()
        into, alone = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        _merge(table, flat, groups, into, alone, np.zeros(groups**2, np.int64))
        merged: NDArray[np.int64] = flat.reshape(sums.shape)[into == np.arange(groups)]
        return merged
