"""The everyday engine: the reference's loops compiled by numba, chunks over threads without the GIL.

Imported only when asked for. numba does not check bounds, so every index below is bounded by a test
or by an argument given beside it.

Source: docs/format-entropy.md#rans.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled, compiled_text
from gpushrink.codec.entropy import binary, head, numba_cluster
from gpushrink.codec.entropy.engine import RangeInput, RangeParts
from gpushrink.codec.entropy.head import COUNTS_SIZE
from gpushrink.codec.entropy.layout import chunk_begins, join_ranges, lay_chunk
from gpushrink.codec.entropy.reference import LOWEST_STATE, head_buffer_size
from gpushrink.codec.entropy.tables import SCALE, SCALE_BITS, Tables
from gpushrink.codec.parallel import Threads, most_of, run_over
from gpushrink.errors import CorruptError

__all__ = ["NumbaEngine"]

FULL_LANES = 32

_LOW = np.uint32(LOWEST_STATE)
_SLOT_MASK = np.uint32(SCALE - 1)
_SCALE = np.uint32(SCALE)
_BITS = np.uint32(SCALE_BITS)
_WORD = np.uint32(16)
_FULL_SHIFT = np.uint64(32 - SCALE_BITS)
_RECIPROCAL_SHIFT = np.uint64(32 + SCALE_BITS)


_shift_low = compiled_text(binary.shift_low)
_code_bit = compiled_text(binary.code_bit, shift_low=_shift_low)
_code_number = compiled_text(binary.code_number, code_bit=_code_bit)
_finish = compiled_text(binary.finish, shift_low=_shift_low)
_code_byte = compiled_text(head.code_byte, code_bit=_code_bit)
_level_bucket = compiled_text(head.level_bucket)
_code_table = compiled_text(head.code_table, code_bit=_code_bit, code_number=_code_number, level_bucket=_level_bucket)
_code_head = compiled_text(head.code_head, code_number=_code_number, code_byte=_code_byte, code_table=_code_table)


@compiled()
def _count(symbols, bounds, first, last, counts):  # type: ignore[no-untyped-def]
    """Count segments first..last-1; four partial histograms, since equal neighbours would wait for each other."""
    part = np.zeros((4, 256), np.int64)
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    for segment in range(first, last):
        part[:] = 0
        # Unsigned places: signed ones are tested for wrap-around at every step.
        i, end = np.uint64(bounds[segment]), np.uint64(bounds[segment + 1])
        while i + four <= end:
            part[0, symbols[i]] += 1
            part[1, symbols[i + one]] += 1
            part[2, symbols[i + two]] += 1
            part[3, symbols[i + three]] += 1
            i += four
        while i < end:
            part[0, symbols[i]] += 1
            i += one
        for value in range(256):
            counts[segment, value] = part[0, value] + part[1, value] + part[2, value] + part[3, value]


@compiled(inline="always")
def _encode_symbol(symbol, lane, entries, inverses, states, out, cursor):  # type: ignore[no-untyped-def]
    """Take a symbol into a lane's state; return where the words written so far begin."""
    state = states[lane]
    entry = entries[symbol]
    frequency = entry & np.uint32(0xFFFF)
    # The word is always written, and kept by moving the cursor: no branch to guess wrong.
    out[cursor - np.uint64(1)] = np.uint16(state)
    full = np.uint64(state) >= (np.uint64(frequency) << _FULL_SHIFT)
    state = np.uint32(state >> _WORD) if full else state
    # state < frequency * 2^18, so this product stays below 2^64 and the quotient is exact.
    quotient = np.uint32((np.uint64(state) * inverses[symbol]) >> _RECIPROCAL_SHIFT)
    states[lane] = np.uint32(state + (entry >> _WORD) + quotient * (_SCALE - frequency))
    return cursor - np.uint64(full)


@compiled()
def _encode_chunk(symbols, begin, end, run_ends, run_tables, packed, reciprocals, lanes, states, out):  # type: ignore[no-untyped-def]
    """Encode symbols begin..end-1 backwards into `out` (end - begin + 1 words); return where its words begin.

    There are at most end - begin words and `out` has one more, so a symbol finds its cursor at 1 or above.
    """
    # Places are unsigned: signed ones are tested for wrap-around at every step.
    one, step = np.uint64(1), np.uint64(FULL_LANES)
    cursor = np.uint64(out.size)
    lane_mask = np.uint64(lanes - 1)
    for k in range(lanes):
        states[k] = _LOW
    run = np.searchsorted(run_ends, end - 1, side="right")
    first, i = np.uint64(begin), np.uint64(end)
    while i > first:
        run_begin = np.uint64(max(run_ends[run - 1] if run > 0 else 0, begin))
        entries = packed[run_tables[run]]
        inverses = reciprocals[run_tables[run]]
        while i > run_begin:
            if lanes == FULL_LANES and (i - first) & lane_mask == 0 and i >= run_begin + step:
                # A whole step with one table: nothing to ask in the loop.
                i -= step
                part = symbols[i : i + step]
                for k in range(FULL_LANES):
                    lane = np.uint64(FULL_LANES - 1 - k)
                    cursor = _encode_symbol(part[lane], lane, entries, inverses, states, out, cursor)
            else:
                i -= one
                lane = (i - first) & lane_mask
                cursor = _encode_symbol(symbols[i], lane, entries, inverses, states, out, cursor)
        run -= 1
    return np.int64(cursor)


@compiled()
def _decode_chunk(symbols, begin, end, run_ends, run_tables, slots, packed, lanes, states, words, cursor, stop):  # type: ignore[no-untyped-def]
    """Decode into symbols begin..end-1 from words cursor..stop-1; return the new cursor, or -1 for want of words."""
    lane_mask = lanes - 1
    run = np.searchsorted(run_ends, begin, side="right")
    i = begin
    while i < end:
        run_end = min(run_ends[run], end)
        row = slots[run_tables[run]]
        entries = packed[run_tables[run]]
        while i < run_end:
            lane = (i - begin) & lane_mask
            if lanes == FULL_LANES and lane == 0 and i + FULL_LANES <= run_end and cursor + FULL_LANES <= stop:
                # A whole step with one table and words to spare: nothing to test in the loop.
                for k in range(FULL_LANES):
                    state = states[k]
                    slot = state & _SLOT_MASK
                    symbol = row[slot]
                    symbols[i + k] = symbol
                    entry = entries[symbol]
                    state = np.uint32((entry & np.uint32(0xFFFF)) * (state >> _BITS) + slot - (entry >> _WORD))
                    low = state < _LOW
                    refilled = np.uint32((state << _WORD) | words[cursor])
                    states[k] = refilled if low else state
                    cursor += np.int64(low)
                i += FULL_LANES
            else:
                state = states[lane]
                slot = state & _SLOT_MASK
                symbol = row[slot]
                symbols[i] = symbol
                entry = entries[symbol]
                state = np.uint32((entry & np.uint32(0xFFFF)) * (state >> _BITS) + slot - (entry >> _WORD))
                if state < _LOW:
                    if cursor >= stop:
                        return -1
                    state = np.uint32((state << _WORD) | words[cursor])
                    cursor += 1
                states[lane] = state
                i += 1
        run += 1
    return cursor


class NumbaEngine:
    """Compiled loops, cached on disk, one task for each chunk."""

    def count(self, symbols: NDArray[np.uint8], bounds: NDArray[np.int64], *, threads: Threads) -> NDArray[np.int64]:
        """See `Engine`."""
        counts = np.zeros((len(bounds) - 1, 256), np.int64)
        # Parts of about equal numbers of symbols; a segment is never split.
        parts = most_of(threads)
        cuts = np.searchsorted(bounds, np.linspace(0, int(bounds[-1]), parts + 1)[1:-1].astype(np.int64))
        edges = [0, *np.minimum(cuts, len(bounds) - 1).tolist(), len(bounds) - 1]
        run_over(lambda p: _count(symbols, bounds, edges[p], edges[p + 1], counts), range(parts), threads=threads)
        return counts

    def cluster(
        self, histograms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
        """See `Engine`."""
        return numba_cluster.cluster(histograms)

    def encode_ranges(self, symbols: NDArray[np.uint8], where: RangeInput, *, threads: Threads) -> RangeParts:
        """See `Engine`."""
        bounds = where.bounds
        frequencies = where.tables.frequencies.astype(np.uint64)
        packed = where.tables.packed()
        # ceil(2^46 / f): 2^46 / f + 1 at most, so that times a state below f * 2^18 it stays below 2^64.
        divisor = np.maximum(frequencies, np.uint64(1))
        reciprocals = (np.uint64(1 << (32 + SCALE_BITS)) + divisor - np.uint64(1)) // divisor
        states = np.empty((len(bounds) - 1, where.lanes), np.uint32)
        rooms = threading.local()  # new memory for each chunk would be a page fault for each of its pages
        most = int(np.diff(bounds).max(initial=0)) + 1

        def encode(chunk: int) -> NDArray[np.uint16]:
            begin, end = int(bounds[chunk]), int(bounds[chunk + 1])
            if not hasattr(rooms, "words"):
                rooms.words = np.empty(most, np.uint16)
            out: NDArray[np.uint16] = rooms.words[: end - begin + 1]
            cursor = _encode_chunk(
                symbols, begin, end, where.run_ends, where.run_tables, packed, reciprocals, where.lanes,
                states[chunk], out,
            )  # fmt: skip
            return lay_chunk(states[chunk], out[cursor:])

        ranges = run_over(encode, range(len(bounds) - 1), threads=threads)
        return np.array([len(part) for part in ranges], np.int64) - 2 * where.lanes, ranges

    def decode_ranges(self, parts: RangeParts, where: RangeInput, *, threads: Threads) -> NDArray[np.uint8]:
        """See `Engine`."""
        bounds, lanes = where.bounds, where.lanes
        slots, packed = where.tables.slots(), where.tables.packed()
        symbols = np.empty(int(bounds[-1]), np.uint8)
        word_counts, ranges = parts
        words, begins = join_ranges(ranges), chunk_begins(word_counts, lanes).tolist()

        def decode(chunk: int) -> None:
            first, stop = begins[chunk] + 2 * lanes, begins[chunk + 1]
            halves = words[begins[chunk] : first].astype(np.uint32)
            states = halves[::2] | halves[1::2] << _WORD
            if (states < LOWEST_STATE).any():
                raise CorruptError(f"rANS chunk {chunk} starts in a state below 2^16")
            cursor = _decode_chunk(
                symbols, int(bounds[chunk]), int(bounds[chunk + 1]), where.run_ends, where.run_tables, slots, packed,
                lanes, states, words, first, stop,
            )  # fmt: skip
            if cursor < 0:
                raise CorruptError(f"rANS chunk {chunk} needs more words than it has")
            if cursor != stop or (states != LOWEST_STATE).any():
                raise CorruptError(f"rANS chunk {chunk} does not end in the state it was begun from")

        run_over(decode, range(len(bounds) - 1), threads=threads)
        return symbols

    def write_head(self, kinds: NDArray[np.int64], values: NDArray[np.int64], levels: NDArray[np.int64]) -> bytes:
        """See `Engine`."""
        data = np.zeros(head_buffer_size(len(kinds), len(levels)), np.uint8)
        coder = np.array(binary.new_coder(), np.int64)
        _code_head(coder, data, np.zeros(COUNTS_SIZE, np.int64), kinds.copy(), values.copy(), levels.copy())
        size = _finish(coder, data)
        return data[1:size].tobytes().rstrip(b"\0")

    def read_head(self, head: bytes, segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `Engine`."""
        kinds, values = np.zeros(segments, np.int64), np.zeros(segments, np.int64)
        levels = np.zeros((segments, 256), np.int64)
        coder = np.array(binary.start_reading(head), np.int64)
        data = np.frombuffer(head, np.uint8).copy()
        tables = _code_head(coder, data, np.zeros(COUNTS_SIZE, np.int64), kinds, values, levels)
        if tables < 0:
            raise CorruptError("entropy payload has a head that was never written")
        return kinds, values, levels[:tables]
