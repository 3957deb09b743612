"""What an engine must offer, and how one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.tables import Tables
from gpushrink.codec.parallel import Threads
from gpushrink.errors import UsageError

__all__ = ["Engine", "EngineName", "RangeInput", "RangeParts", "resolve_engine"]

EngineName = Literal["auto", "numpy", "numba"]


@dataclass(frozen=True)
class RangeInput:
    """Where rANS codes what, the same in both ways.

    Attributes
    ----------
    bounds
        int64, shape (chunks + 1,): where chunks begin and end in the sequence of symbols.
    run_ends
        int64, strictly increasing: where each run of symbols with one table ends; the last is the sequence's length.
    run_tables
        int64, same shape: the table of each run, a valid row of `tables`.
    tables
        The frequency tables.
    lanes
        Interleaved states in each chunk, a power of two up to 32.
    """

    bounds: NDArray[np.int64]
    run_ends: NDArray[np.int64]
    run_tables: NDArray[np.int64]
    tables: Tables
    lanes: int


RangeParts: TypeAlias = tuple[NDArray[np.int64], Sequence[NDArray[np.uint16]]]
"""What rANS makes of the symbols of a payload: word_counts and ranges, as `layout.Sections` has them."""


class Engine(Protocol):
    """The loops that are worth more than one implementation; all give identical results."""

    def count(self, symbols: NDArray[np.uint8], bounds: NDArray[np.int64], *, threads: Threads) -> NDArray[np.int64]:
        """Count the symbols in each segment: int64, shape (segments, 256)."""
        ...

    def cluster(
        self, histograms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
        """Decide which segments share a table: see `gpushrink.codec.entropy.cluster.cluster`."""
        ...

    def encode_ranges(self, symbols: NDArray[np.uint8], where: RangeInput, *, threads: Threads) -> RangeParts:
        """Encode chunks."""
        ...

    def decode_ranges(self, parts: RangeParts, where: RangeInput, *, threads: Threads) -> NDArray[np.uint8]:
        """Give the symbols back, or raise CorruptError where words or states do not come out even.

        The counts must be those of the ranges.
        """
        ...

    def write_head(self, kinds: NDArray[np.int64], values: NDArray[np.int64], levels: NDArray[np.int64]) -> bytes:
        """Write the head of a payload."""
        ...

    def read_head(self, head: bytes, segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Read kinds and values of `segments` segments and the levels of the tables, or raise CorruptError."""
        ...


def resolve_engine(name: EngineName | Engine) -> tuple[str, Engine]:
    """Load the engine that `name` asks for; ``auto`` takes numba where it is installed; an engine is given back.

    Raises
    ------
    UsageError
        The name is unknown, or numba was asked for and is not installed.
    """
    if not isinstance(name, str):
        return type(name).__name__, name
    if name not in ("auto", "numpy", "numba"):
        raise UsageError(f"unknown engine {name!r}; choose auto, numpy or numba")
    # Imports stay inside: numba takes most of a second, and not every run needs it.
    if name != "numpy" and find_spec("numba") is not None:
        from gpushrink.codec.entropy import numba_engine

        return "numba", numba_engine.NumbaEngine()
    if name == "numba":
        raise UsageError("the numba engine was asked for, but numba is not installed; use auto or numpy")
    from gpushrink.codec.entropy import reference

    return "numpy", reference.NumpyEngine()
