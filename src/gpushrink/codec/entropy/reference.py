"""The reference engine: numpy, every lane of every chunk one step at a time. It is the meaning.

Source: docs/format-entropy.md#rans.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy import binary, cluster
from gpushrink.codec.entropy.engine import RangeInput, RangeParts
from gpushrink.codec.entropy.head import COUNTS_SIZE, KIND_NEW_TABLE, code_head
from gpushrink.codec.entropy.layout import chunk_begins, join_ranges, lay_chunk
from gpushrink.codec.entropy.tables import SCALE, SCALE_BITS, Tables
from gpushrink.codec.parallel import Threads
from gpushrink.errors import CorruptError

__all__ = ["LOWEST_STATE", "NumpyEngine", "head_buffer_size"]

# States live in [2^16, 2^32): below, a word of 16 bits moves in or out.
LOWEST_STATE = 1 << 16
WORD_BITS = 16

# Bounds the temporary copies bincount makes.
COUNT_AT_ONCE = 1 << 20


def head_buffer_size(segments: int, tables: int) -> int:
    """Bound the size of a head in bytes: no value takes more than 42 decisions of under 2 bytes each."""
    return 64 + 84 * (2 * segments + 256 * tables)


class NumpyEngine:
    """Vectorised over chunks and lanes; one Python step for each `lanes` symbols of the longest chunk."""

    def count(self, symbols: NDArray[np.uint8], bounds: NDArray[np.int64], *, threads: Threads) -> NDArray[np.int64]:
        """See `Engine`; threads are not used."""
        counts = np.zeros((len(bounds) - 1, 256), np.int64)
        for segment in range(len(bounds) - 1):
            for begin in range(int(bounds[segment]), int(bounds[segment + 1]), COUNT_AT_ONCE):
                end = min(begin + COUNT_AT_ONCE, int(bounds[segment + 1]))
                counts[segment] += np.bincount(symbols[begin:end], minlength=256)
        return counts

    def cluster(
        self, histograms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
        """See `Engine`."""
        return cluster.cluster(histograms)

    def encode_ranges(self, symbols: NDArray[np.uint8], where: RangeInput, *, threads: Threads) -> RangeParts:
        """See `Engine`; threads are not used."""
        begins, ends, lanes = where.bounds[:-1], where.bounds[1:], where.lanes
        table_of = _table_of_position(where)
        frequencies = where.tables.frequencies.ravel()
        starts = where.tables.starts.ravel()
        states = np.full((len(begins), lanes), LOWEST_STATE, np.uint64)
        lane = np.arange(lanes)
        # Words come out last first. Each chunk fills its own stretch of the buffer from the end.
        buffer = np.zeros(int(where.bounds[-1]), np.uint16)
        cursors = ends.copy()
        for step in range(-(-int((ends - begins).max()) // lanes) - 1, -1, -1):
            rows = np.flatnonzero(begins + step * lanes < ends)
            position = (begins[rows] + step * lanes)[:, None] + lane
            active = position < ends[rows, None]
            position = np.minimum(position, ends[rows, None] - 1)
            entry = table_of[position].astype(np.int64) * 256 + symbols[position]
            frequency = frequencies[entry].astype(np.uint64)
            state = states[rows]
            # Shrink first where coding would leave the range; lanes put their words in order of the lane.
            full = active & (state >= frequency << np.uint64(32 - SCALE_BITS))
            emitted = full.sum(axis=1)
            place = (cursors[rows] - emitted)[:, None] + np.cumsum(full, axis=1) - 1
            buffer[place[full]] = (state[full] & np.uint64(0xFFFF)).astype(np.uint16)
            cursors[rows] -= emitted
            state = np.where(full, state >> np.uint64(WORD_BITS), state)
            quotient = state // frequency
            coded = (quotient << np.uint64(SCALE_BITS)) + (state - quotient * frequency) + starts[entry]
            states[rows] = np.where(active, coded, state)
        ranges = [
            lay_chunk(own.astype(np.uint32), buffer[cursor:end])
            for own, cursor, end in zip(states, cursors, ends, strict=True)
        ]
        return ends - cursors, ranges

    def decode_ranges(self, parts: RangeParts, where: RangeInput, *, threads: Threads) -> NDArray[np.uint8]:
        """See `Engine`; threads are not used."""
        begins, ends, lanes = where.bounds[:-1], where.bounds[1:], where.lanes
        table_of = _table_of_position(where)
        slots = where.tables.slots().ravel()
        frequencies = where.tables.frequencies.ravel().astype(np.uint64)
        starts = where.tables.starts.ravel().astype(np.uint64)
        symbols = np.empty(int(where.bounds[-1]), np.uint8)
        lane = np.arange(lanes)
        word_counts, ranges = parts
        words, chunks = join_ranges(ranges), chunk_begins(word_counts, lanes)
        cursors, word_ends = chunks[:-1] + 2 * lanes, chunks[1:]
        halves = words[chunks[:-1, None] + np.arange(2 * lanes)].astype(np.uint64)
        wide = halves[:, ::2] | halves[:, 1::2] << np.uint64(16)
        if (wide < LOWEST_STATE).any():
            raise CorruptError("rANS chunk starts in a state below 2^16")
        for step in range(-(-int((ends - begins).max()) // lanes)):
            rows = np.flatnonzero(begins + step * lanes < ends)
            position = (begins[rows] + step * lanes)[:, None] + lane
            active = position < ends[rows, None]
            table = table_of[np.minimum(position, ends[rows, None] - 1)].astype(np.int64)
            state = wide[rows]
            slot = state & np.uint64(SCALE - 1)
            symbol = slots[table * SCALE + slot.astype(np.int64)]
            symbols[position[active]] = symbol[active]
            entry = table * 256 + symbol
            state = np.where(
                active, frequencies[entry] * (state >> np.uint64(SCALE_BITS)) + slot - starts[entry], state
            )
            low = active & (state < LOWEST_STATE)
            taken = low.sum(axis=1)
            if (cursors[rows] + taken > word_ends[rows]).any():
                raise CorruptError("rANS chunk needs more words than it has")
            place = cursors[rows, None] + np.cumsum(low, axis=1) - 1
            state[low] = (state[low] << np.uint64(WORD_BITS)) | words[place[low]]
            cursors[rows] += taken
            wide[rows] = state
        if (cursors != word_ends).any() or (wide != LOWEST_STATE).any():
            raise CorruptError("rANS chunk does not end in the state it was begun from")
        return symbols

    def write_head(self, kinds: NDArray[np.int64], values: NDArray[np.int64], levels: NDArray[np.int64]) -> bytes:
        """See `Engine`."""
        data = bytearray(head_buffer_size(len(kinds), len(levels)))
        coder = binary.new_coder()
        code_head(coder, data, [0] * COUNTS_SIZE, kinds.tolist(), values.tolist(), levels.tolist())
        size = binary.finish(coder, data)
        return bytes(data[1:size]).rstrip(b"\0")

    def read_head(self, head: bytes, segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `Engine`."""
        kinds, values = [0] * segments, [0] * segments
        levels = [[0] * 256 for _ in range(segments)]
        tables = code_head(binary.start_reading(head), head, [0] * COUNTS_SIZE, kinds, values, levels)
        if tables < 0:
            raise CorruptError("entropy payload has a head that was never written")
        assert tables == kinds.count(KIND_NEW_TABLE)
        return (
            np.array(kinds, np.int64),
            np.array(values, np.int64),
            np.array(levels[:tables], np.int64).reshape(tables, 256),
        )


def _table_of_position(where: RangeInput) -> NDArray[np.uint16]:
    """Give the table of every position in the sequence."""
    lengths = np.diff(where.run_ends, prepend=0)
    return np.repeat(where.run_tables.astype(np.uint16), lengths)
