"""The two ways of the entropy stage: segments to a payload, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts, view_bytes
from gpushrink.codec.entropy import layout
from gpushrink.codec.entropy.engine import Engine, EngineName, RangeInput, RangeParts, resolve_engine
from gpushrink.codec.entropy.head import KIND_CONSTANT, KIND_NEW_TABLE, KIND_OLD_TABLE, KIND_RAW, KIND_ZSTD
from gpushrink.codec.entropy.plan import Policy, make_plan
from gpushrink.codec.entropy.tables import Tables
from gpushrink.codec.entropy.zstd_chunks import decode_frames, encode_frames
from gpushrink.codec.parallel import Threads
from gpushrink.errors import CorruptError, UsageError

__all__ = [
    "NO_RANGES",
    "checked_lengths",
    "decode_segments",
    "encode_parts",
    "encode_segments",
    "range_input",
    "table_of_segment",
]

# What rANS makes of no symbols.
NO_RANGES: Final[RangeParts] = np.zeros(0, np.int64), ()


def encode_segments(
    symbols: NDArray[np.uint8],
    lengths: Sequence[int] | NDArray[np.integer],
    *,
    engine: EngineName | Engine = "auto",
    policy: Policy = "auto",
    threads: Threads = 1,
) -> bytes:
    """Code consecutive segments of symbols, each taken as order-0 data of its own.

    Parameters
    ----------
    symbols
        uint8, one axis, C-contiguous: the segments one after another.
    lengths
        Symbols in each segment; zeros allowed. `decode_segments` needs the same.
    engine
        Who computes; the bytes are the same.
    policy
        ``rans``: own stage only; ``apart``: that with a table for each segment; ``zstd``: the stage shared with nvCOMP
        only; ``auto``: the smaller for each segment.
    threads
        Threads to use at most.

    Returns
    -------
    bytes
        The payload. zstd frames within may differ between versions of libzstd; everything else may not.

    Raises
    ------
    UsageError
        The arguments contradict each other or exceed 2^31 - 1 symbols.

    Source: docs/format-entropy.md.
    """
    return b"".join(encode_parts(symbols, lengths, engine=engine, policy=policy, threads=threads))


def encode_parts(
    symbols: NDArray[np.uint8],
    lengths: Sequence[int] | NDArray[np.integer],
    *,
    engine: EngineName | Engine = "auto",
    policy: Policy = "auto",
    threads: Threads = 1,
) -> Parts:
    """Give what `encode_segments` gives in parts: large ones are views of arrays, `symbols` among them."""
    sizes = checked_lengths(lengths)
    if symbols.dtype != np.uint8 or symbols.ndim != 1:
        raise UsageError(f"symbols must be uint8 with one axis, not {symbols.dtype} with {symbols.ndim}")
    if len(symbols) != sizes.sum():
        raise UsageError(f"{len(symbols)} symbols do not fill segments of {sizes.sum()}")
    if policy not in ("auto", "rans", "apart", "zstd"):
        raise UsageError(f"unknown policy {policy!r}; choose auto, rans, apart or zstd")
    if len(symbols) == 0:
        return ()
    _, loops = resolve_engine(engine)
    symbols = np.ascontiguousarray(symbols)
    sizes = sizes[sizes > 0]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    plan = make_plan(symbols, bounds, loops.count(symbols, bounds, threads=threads), policy, loops)

    coded = plan.tables >= 0
    if coded.any():
        where = range_input(sizes[coded], plan.tables[coded], plan.frequencies, plan.lanes_log2, plan.chunk_log2)
        ranges = loops.encode_ranges(_gather(symbols, bounds, coded), where, threads=threads)
    else:
        ranges = NO_RANGES
    return layout.list_parts(
        lanes_log2=plan.lanes_log2,
        chunk_log2=plan.chunk_log2,
        head=loops.write_head(plan.kinds, plan.values, plan.levels),
        sections=layout.Sections(
            view_bytes(_gather(symbols, bounds, plan.kinds == KIND_RAW)),
            encode_frames(_gather(symbols, bounds, plan.kinds == KIND_ZSTD), threads=threads),
            *ranges,
        ),
    )


def decode_segments(
    payload: Buffer,
    lengths: Sequence[int] | NDArray[np.integer],
    *,
    engine: EngineName | Engine = "auto",
    threads: Threads = 1,
) -> NDArray[np.uint8]:
    """Give back the symbols that `encode_segments` coded.

    Returns
    -------
    ndarray
        uint8, shape (sum of lengths,), new memory.

    Raises
    ------
    CorruptError
        The payload is not what was written. Damage that leaves the structure whole goes unnoticed here:
        checksums are the caller's.
    NewerVersionError
        The payload has another version.
    UsageError
        The arguments exceed 2^31 - 1 symbols.
    """
    sizes = checked_lengths(lengths)
    count = int(sizes.sum())
    if count == 0:
        if payload:
            raise CorruptError(f"entropy payload has {len(payload)} bytes for no symbols")
        return np.zeros(0, np.uint8)
    lanes_log2, chunk_log2, head, offset = layout.split_head(payload)
    _, loops = resolve_engine(engine)
    sizes = sizes[sizes > 0]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    kinds, values, levels = loops.read_head(head, len(sizes))
    tables = table_of_segment(kinds)
    coded = tables >= 0
    zstd_bytes = int(sizes[kinds == KIND_ZSTD].sum())
    chunk_bounds = layout.range_chunk_bounds(int(sizes[coded].sum()), chunk_log2)
    sections = layout.split_sections(
        payload,
        offset,
        lanes=1 << lanes_log2,
        raw_bytes=int(sizes[kinds == KIND_RAW].sum()),
        zstd_chunks=len(layout.zstd_chunk_bounds(zstd_bytes)) - 1,
        range_chunks=np.diff(chunk_bounds).tolist(),
    )
    if coded.all():
        symbols = np.zeros(0, np.uint8)
    else:
        symbols = np.empty(count, np.uint8)
        _scatter(symbols, bounds, kinds == KIND_RAW, np.frombuffer(sections.raw, np.uint8))
        _scatter(symbols, bounds, kinds == KIND_ZSTD, decode_frames(sections.frames, zstd_bytes, threads=threads))
        for segment in np.flatnonzero(kinds == KIND_CONSTANT):
            symbols[bounds[segment] : bounds[segment + 1]] = values[segment]
    if coded.any():
        where = range_input(sizes[coded], tables[coded], Tables.from_levels(levels), lanes_log2, chunk_log2)
        decoded = loops.decode_ranges((sections.word_counts, sections.ranges), where, threads=threads)
        if coded.all():
            return decoded
        _scatter(symbols, bounds, coded, decoded)
    return symbols


def checked_lengths(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Give the lengths as int64, refusing what the format cannot hold."""
    sizes = np.asarray(lengths, np.int64)
    if sizes.ndim != 1 or (sizes < 0).any() or (sizes > layout.LARGEST_SYMBOLS).any():
        raise UsageError("segment lengths must be one axis of numbers from 0 to 2^31 - 1")
    if sizes.sum() > layout.LARGEST_SYMBOLS:
        raise UsageError(f"{sizes.sum()} symbols are more than one payload can hold (2^31 - 1)")
    return sizes


def range_input(
    sizes: NDArray[np.int64], tables: NDArray[np.int64], frequencies: Tables, lanes_log2: int, chunk_log2: int
) -> RangeInput:
    """Describe the sequence of rANS-coded segments to an engine."""
    ends = np.cumsum(sizes)
    return RangeInput(
        bounds=layout.range_chunk_bounds(int(ends[-1]), chunk_log2),
        run_ends=ends,
        run_tables=tables,
        tables=frequencies,
        lanes=1 << lanes_log2,
    )


def table_of_segment(kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the table of each segment, -1 where rANS has no part in it. The head's reader has checked the numbers."""
    new_tables = 0
    tables = np.full(len(kinds), -1, np.int64)
    for segment, kind in enumerate(kinds.tolist()):
        if kind == KIND_NEW_TABLE:
            tables[segment] = new_tables
            new_tables += 1
        elif kind >= KIND_OLD_TABLE:
            tables[segment] = new_tables - 1 - (kind - KIND_OLD_TABLE)
    return tables


def _gather(symbols: NDArray[np.uint8], bounds: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Join the chosen segments; all of them are not copied."""
    if chosen.all():
        return symbols
    parts = [symbols[bounds[segment] : bounds[segment + 1]] for segment in np.flatnonzero(chosen)]
    # Of none not a view: it would keep all symbols alive.
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _scatter(
    symbols: NDArray[np.uint8], bounds: NDArray[np.int64], chosen: NDArray[np.bool_], source: NDArray[np.uint8]
) -> None:
    """Put joined segments back in their places."""
    begin = 0
    for segment in np.flatnonzero(chosen):
        size = int(bounds[segment + 1] - bounds[segment])
        symbols[bounds[segment] : bounds[segment + 1]] = source[begin : begin + size]
        begin += size
