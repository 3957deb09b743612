"""What an engine must offer, the reference that runs the loops as they are, and how one is chosen."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.matched import grouping, loops
from gpushrink.codec.matched.grouping import Sparse
from gpushrink.errors import UsageError

__all__ = ["Context", "Engine", "EngineName", "Matches", "ReferenceEngine", "resolve_engine"]

EngineName = Literal["auto", "numpy", "numba"]


class Context(NamedTuple):
    """Say what a literal's context is: `near_bits` top bits of the byte `near` before it, then those of `far`."""

    near: int
    near_bits: int
    far: int
    far_bits: int

    @property
    def places(self) -> int:
        """Count the contexts there are."""
        return 1 << (self.near_bits + self.far_bits)


class Matches(NamedTuple):
    """Hold matches, int64 each: the literals before, the length, the distance's code."""

    runs: NDArray[np.int64]
    lengths: NDArray[np.int64]
    codes: NDArray[np.int64]


class Engine(Protocol):
    """The loops that are worth more than one implementation; all give identical results."""

    def find(self, data: bytes, prices: NDArray[np.int64], heads_log2: int) -> Matches:
        """Find matches."""
        ...

    def count(self, data: bytes, matches: Matches, context: Context, every: int) -> NDArray[np.int32]:
        """Count the literals, shape (contexts, 256); of `every` stretches of 4096 bytes, one."""
        ...

    def gather(
        self, data: bytes, matches: Matches, context: Context, owner: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Give the literals, group after group."""
        ...

    def rebuild(
        self,
        size: int,
        matches: Matches,
        context: Context,
        owner: NDArray[np.int64],
        sizes: NDArray[np.int64],
        literals: NDArray[np.uint8],
    ) -> bytes | memoryview | None:
        """Put literals and matches together; None if they do not fit each other."""
        ...

    def compact(self, counts: NDArray[np.int32]) -> Sparse:
        """List the counts of shape (contexts, 256) that are not 0."""
        ...

    def assign(
        self, sparse: Sparse, order: NDArray[np.int64], costs: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give each context to a group by costs of shape (256, groups); return the groups and their counts."""
        ...

    def order_cost(self, table: NDArray[np.int64], counts: NDArray[np.int32]) -> int:
        """Return the cost of literals with counts of shape (contexts, 256), a table for each context."""
        ...

    def put_bits(self, values: NDArray[np.int64], widths: NDArray[np.int64]) -> bytes:
        """Write the low bits of each value."""
        ...

    def take_bits(self, data: NDArray[np.uint8], widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read values of so many bits, as many bytes as they fill."""
        ...

    def merge(self, table: NDArray[np.int64], sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """Merge groups while that saves bits; return the counts of those left."""
        ...


class ReferenceEngine:
    """The loops as they stand, over bytes and lists."""

    def find(self, data: bytes, prices: NDArray[np.int64], heads_log2: int) -> Matches:
        """See `Engine`."""
        most = min(len(data) // loops.SHORTEST + 1, loops.LONGEST_LIST)
        runs, lengths, codes = [0] * most, [0] * most, [0] * most
        heads = [-1] * (1 << heads_log2)
        found = loops.find_matches(data, len(data), prices.tolist(), heads, heads_log2, runs, lengths, codes)
        return Matches(*(np.array(column[:found], np.int64) for column in (runs, lengths, codes)))

    def count(self, data: bytes, matches: Matches, context: Context, every: int) -> NDArray[np.int32]:
        """See `Engine`."""
        counts = [0] * (256 * context.places)
        loops.count_contexts(
            data, len(data), matches.runs.tolist(), matches.lengths.tolist(), len(matches.runs), every, *context, counts
        )
        return np.array(counts, np.int32).reshape(-1, 256)

    def gather(
        self, data: bytes, matches: Matches, context: Context, owner: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """See `Engine`."""
        literals = bytearray(int(sizes.sum()))
        cursors = (np.cumsum(sizes) - sizes).tolist()
        loops.gather_literals(
            data, len(data), matches.runs.tolist(), matches.lengths.tolist(), len(matches.runs), *context,
            owner.tolist(), cursors, literals,
        )  # fmt: skip
        return np.frombuffer(bytes(literals), np.uint8)

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
        out = bytearray(size)
        ends = np.cumsum(sizes)
        failed = loops.rebuild(
            out, size, matches.runs.tolist(), matches.lengths.tolist(), matches.codes.tolist(), len(matches.runs),
            *context, owner.tolist(), (ends - sizes).tolist(), ends.tolist(), literals.tobytes(),
        )  # fmt: skip
        return None if failed else bytes(out)

    def compact(self, counts: NDArray[np.int32]) -> Sparse:
        """See `Engine`."""
        most = counts.size
        starts, symbols, values, totals = [0] * (len(counts) + 1), [0] * most, [0.0] * most, [0] * len(counts)
        filled = loops.compact(counts.ravel().tolist(), len(counts), starts, symbols, values, totals)
        return Sparse(
            np.array(starts, np.int64),
            np.array(symbols[:filled], np.int64),
            np.array(values[:filled], np.float64),
            np.array(totals, np.int64),
        )

    def assign(
        self, sparse: Sparse, order: NDArray[np.int64], costs: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Engine`."""
        groups = costs.shape[1]
        owner, sums, bits = [0] * len(sparse.totals), [0.0] * costs.size, [0.0] * groups
        grouping.assign(
            order.tolist(), sparse.starts.tolist(), sparse.symbols.tolist(), sparse.values.tolist(),
            costs.ravel().tolist(), groups, owner, sums, bits,
        )  # fmt: skip
        return np.array(owner, np.int64), np.array(sums, np.float64).astype(np.int64).reshape(groups, 256)

    def order_cost(self, table: NDArray[np.int64], counts: NDArray[np.int32]) -> int:
        """See `Engine`."""
        return grouping.order_cost(table.tolist(), counts.ravel().tolist(), len(counts))

    def put_bits(self, values: NDArray[np.int64], widths: NDArray[np.int64]) -> bytes:
        """See `Engine`."""
        out = bytearray((int(widths.sum()) + 7) // 8)
        loops.put_bits(values.tolist(), widths.tolist(), out)
        return bytes(out)

    def take_bits(self, data: NDArray[np.uint8], widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Engine`."""
        values = [0] * len(widths)
        loops.take_bits(data.tobytes(), widths.tolist(), values)
        return np.array(values, np.int64)

    def merge(self, table: NDArray[np.int64], sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Engine`."""
        groups, flat = len(sums), sums.ravel().tolist()
        into = [0] * groups
        grouping.merge(table.tolist(), flat, groups, into, [0] * groups, [0] * groups**2)
        merged: NDArray[np.int64] = np.array(flat, np.int64).reshape(sums.shape)[np.array(into) == np.arange(groups)]
        return merged


def resolve_engine(name: EngineName | Engine) -> Engine:
    """Load the engine that `name` asks for; ``auto`` takes numba where it is installed; an engine is given back.

    Raises
    ------
    UsageError
        If the name is unknown, or numba was asked for and is not installed.
    """
    if not isinstance(name, str):
        return name
    if name not in ("auto", "numpy", "numba"):
        raise UsageError(f"unknown engine {name!r}; choose auto, numpy or numba")
    # Imports stay inside: numba takes most of a second, and not every run needs it.
    if name != "numpy" and find_spec("numba") is not None:
        from gpushrink.codec.matched import numba_engine

        return numba_engine.NumbaEngine()
    if name == "numba":
        raise UsageError("the numba engine was asked for, but numba is not installed; use auto or numpy")
    return ReferenceEngine()
