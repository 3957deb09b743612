"""The encoder's choices: how each segment is coded, with which table, in how many chunks and lanes.

Integers only, and the same for every engine. Any choice decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import zstandard
from numpy.typing import NDArray

from gpushrink.codec.entropy.cluster import keep_apart, table_cost
from gpushrink.codec.entropy.cost import FRACTION_BITS
from gpushrink.codec.entropy.engine import Engine, resolve_engine
from gpushrink.codec.entropy.head import KIND_CONSTANT, KIND_NEW_TABLE, KIND_OLD_TABLE, KIND_RAW, KIND_ZSTD
from gpushrink.codec.entropy.layout import LARGEST_LANES_LOG2
from gpushrink.codec.entropy.tables import Tables
from gpushrink.codec.entropy.zstd_chunks import LEVEL

__all__ = ["Plan", "Policy", "make_plan", "sample_part"]

Policy = Literal["auto", "rans", "apart", "zstd"]

# A chunk aims at 2^19 coded bits: 32 lanes then cost 0.15 %, and a series still has hundreds of chunks.
CHUNK_BITS_LOG2 = 19
SMALLEST_CHOSEN_CHUNK_LOG2, LARGEST_CHOSEN_CHUNK_LOG2 = 16, 20

# A lane costs 24 bits: it may not be more than this part of its chunk.
LANE_BITS = 24
LANES_AT_MOST_ONE_PART_IN = 256

# zstd is tried on one part in 32 of a segment; only a gain of more than 1 % (by repetition) is believed.
SAMPLE_ONE_PART_IN = 32
SMALLEST_SAMPLE, LARGEST_SAMPLE = 1 << 12, 1 << 16


@dataclass(frozen=True)
class Plan:
    """What the encoder decided.

    Attributes
    ----------
    kinds, values
        int64, shape (segments,), as the head stores them.
    tables
        int64, shape (segments,): the table of each segment coded by rANS, -1 elsewhere.
    levels, frequencies
        int64, shape (tables, 256), and what they stand for.
    lanes_log2, chunk_log2
        The shape of rANS chunks.
    """

    kinds: NDArray[np.int64]
    values: NDArray[np.int64]
    tables: NDArray[np.int64]
    levels: NDArray[np.int64]
    frequencies: Tables
    lanes_log2: int
    chunk_log2: int


def make_plan(
    symbols: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    counts: NDArray[np.int64],
    policy: Policy,
    engine: Engine | None = None,
) -> Plan:
    """Decide for segments of at least one symbol each.

    Parameters
    ----------
    bounds
        int64, shape (segments + 1,): where segments begin and end in `symbols`.
    counts
        int64, shape (segments, 256).
    engine
        Who decides which segments share a table; without, the fastest that this machine has.
    """
    share = keep_apart if policy == "apart" else (engine or resolve_engine("auto")[1]).cluster
    lengths = np.diff(bounds)
    constant = counts.max(axis=1) == lengths
    kinds = np.where(constant, KIND_CONSTANT, KIND_ZSTD if policy == "zstd" else KIND_NEW_TABLE)
    values = np.where(constant, counts.argmax(axis=1), 0)
    tables = np.full(len(lengths), -1, np.int64)
    levels = np.zeros((0, 256), np.int64)
    frequencies = Tables.from_frequencies(levels)
    bits = np.zeros(0, np.int64)
    while (coded := np.flatnonzero(kinds == KIND_NEW_TABLE)).size:
        owner, levels, bits, frequencies = share(counts[coded])
        rivals = np.full(len(coded), KIND_NEW_TABLE)
        limit = 8 * lengths[coded] << FRACTION_BITS
        # A table that does not save what it costs sends all its segments to raw.
        saved = np.zeros(len(levels), np.int64)
        np.add.at(saved, owner, limit - bits)
        rivals[(bits >= limit) | (saved <= table_cost(levels))[owner]] = KIND_RAW
        if policy == "auto":
            compressor = zstandard.ZstdCompressor(level=LEVEL)
            for place in np.flatnonzero(lengths[coded] >= SMALLEST_SAMPLE).tolist():
                begin, end = bounds[coded[place] : coded[place] + 2].tolist()
                if _zstd_wins(symbols[begin:end], int(bits[place]), compressor):
                    rivals[place] = KIND_ZSTD
        if (rivals == KIND_NEW_TABLE).all():
            tables[coded] = owner
            break
        # Tables fitted without those that left; what leaves does not come back, so this ends.
        kinds[coded] = rivals
        policy = "apart" if policy == "apart" else "rans"
        levels, bits = levels[:0], bits[:0]
        frequencies = Tables.from_frequencies(levels)
    new_tables = 0
    for segment in np.flatnonzero(tables >= 0):
        if tables[segment] == new_tables:
            new_tables += 1
        else:
            kinds[segment] = KIND_OLD_TABLE + new_tables - 1 - tables[segment]
    lanes_log2, chunk_log2 = _shape(int(lengths[tables >= 0].sum()), int(bits.sum()) >> FRACTION_BITS)
    return Plan(kinds, values, tables, levels, frequencies, lanes_log2, chunk_log2)


def sample_part(length: int) -> tuple[int, int]:
    """Give where the part of a segment begins that zstd is tried on first, and its size; none of a short one."""
    if length < SMALLEST_SAMPLE:
        return 0, 0
    size = min(max(length // SAMPLE_ONE_PART_IN, SMALLEST_SAMPLE), LARGEST_SAMPLE)
    return (length - size) // 2, size


def _zstd_wins(segment: NDArray[np.uint8], bits: int, compressor: zstandard.ZstdCompressor) -> bool:
    """Ask whether zstd makes `segment` more than 1 % smaller than `bits` (units of 2^-16), by a sample first.

    Segments shorter than the smallest sample are not asked about.
    """
    for begin, size in (sample_part(len(segment)), (0, len(segment))):
        coded = sum(
            len(compressor.compress(segment[at : min(at + LARGEST_SAMPLE, begin + size)].tobytes()))
            for at in range(begin, begin + size, LARGEST_SAMPLE)
        )
        if (coded * 8 << FRACTION_BITS) * len(segment) * 100 >= bits * size * 99:
            return False
    return True


def _shape(symbols: int, bits: int) -> tuple[int, int]:
    """Choose lanes and chunk size for so many symbols that take so many bits."""
    chunk_log2 = SMALLEST_CHOSEN_CHUNK_LOG2
    while chunk_log2 < LARGEST_CHOSEN_CHUNK_LOG2 and bits << chunk_log2 < symbols << CHUNK_BITS_LOG2:
        chunk_log2 += 1
    chunk_bits = bits if symbols < 1 << chunk_log2 else (bits << chunk_log2) // max(symbols, 1)
    lanes_log2 = LARGEST_LANES_LOG2
    while lanes_log2 > 0 and LANE_BITS << lanes_log2 > chunk_bits // LANES_AT_MOST_ONE_PART_IN:
        lanes_log2 -= 1
    return lanes_log2, chunk_log2
