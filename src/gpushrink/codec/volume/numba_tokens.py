"""Tokens of 16-bit residuals, compiled: what `reference.split` and `reference.join` mean."""
# The compiled functions are typed by numba, at run time.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, view_bytes
from gpushrink.codec.compiled import compiled
from gpushrink.codec.parallel import Threads, most_of, run_over
from gpushrink.codec.volume.tokens import LAST_16_BIT_TOKEN
from gpushrink.errors import CorruptError

__all__ = ["join", "split"]

# Runs looked at together: where none of them needs raw bits, vector code does.
_BLOCK = 64
# Tokens that one call takes: enough that calls cost nothing, few enough to go round.
_PART = 1 << 20

_compiled = compiled(boundscheck=False)


@_compiled
def _split_large(values, coded):
    """Write the tokens of a block; return how many raw bits they ask for."""
    bits = np.int32(0)
    for i in range(len(values)):
        value = np.int32(values[i])
        # The bits below the leading one and three more, counted without a branch: vector code again.
        below = np.int32(
            np.int32(3)
            + np.int32(value >= 128)
            + np.int32(value >= 256)
            + np.int32(value >= 512)
            + np.int32(value >= 1024)
            + np.int32(value >= 2048)
            + np.int32(value >= 4096)
            + np.int32(value >= 8192)
            + np.int32(value >= 16384)
            + np.int32(value >= 32768)
        )
        large = np.int32(np.int32(40) + (below << np.int32(3)) + ((value >> below) & np.int32(7)))
        coded[i] = np.uint8(large if value >= 64 else value)
        bits += below if value >= 64 else np.int32(0)
    return bits


@_compiled
def _narrow(values, coded):
    """Write the values as tokens; return all bits that occur in them."""
    seen = np.uint16(0)
    for i in range(len(values)):
        coded[i] = np.uint8(values[i])
        seen |= values[i]
    return seen


@_compiled
def _find_begins(counts, first):
    """Return where context `first` begins in each plane."""
    begins = np.zeros(len(counts), np.int64)
    for z in range(len(counts)):
        for context in range(first):
            begins[z] += counts[z, context]
    return begins


@_compiled
def _split(by_plane, counts, first, last, coded):
    """Write the tokens of contexts first..last-1, plane after plane; return how many raw bits they ask for."""
    begins = _find_begins(counts, first)
    place = begins.sum()
    bits = np.int64(0)
    for context in range(first, last):
        for z in range(len(counts)):
            count = counts[z, context]
            values, out = by_plane[z, begins[z] : begins[z] + count], coded[place : place + count]
            for begin in range(0, count, _BLOCK):
                block = values[begin : begin + _BLOCK]
                if _narrow(block, out[begin : begin + _BLOCK]) > np.uint16(63):
                    bits += _split_large(block, out[begin : begin + _BLOCK])
            begins[z] += count
            place += count
    return bits


@_compiled
def _pack_block(values, coded, raw, state):
    """Pack a block's raw bits into whole 32-bit words; `state` holds the bits left, their number and the next word."""
    held, count, place = state[0], state[1], state[2]
    for i in range(len(coded)):
        token = np.uint64(coded[i])
        below = ((token - np.uint64(64)) >> np.uint64(3)) + np.uint64(3) if token >= np.uint64(64) else np.uint64(0)
        held |= (np.uint64(values[i]) & ((np.uint64(1) << below) - np.uint64(1))) << count
        count += below
        if count >= np.uint64(32):
            raw[place] = np.uint32(held)
            held >>= np.uint64(32)
            count -= np.uint64(32)
            place += np.uint64(1)
    state[0], state[1], state[2] = held, count, place


@_compiled
def _pack(by_plane, counts, first, last, coded, skip, raw):
    """Pack the raw bits of contexts first..last-1 into `raw`, after `skip` bits of 0."""
    begins = _find_begins(counts, first)
    place = begins.sum()
    state = np.array([0, skip, 0], np.uint64)
    for context in range(first, last):
        for z in range(len(counts)):
            count = counts[z, context]
            values, out = by_plane[z, begins[z] : begins[z] + count], coded[place : place + count]
            for begin in range(0, count, _BLOCK):
                tokens = out[begin : begin + _BLOCK]
                most = np.uint8(0)
                for i in range(len(tokens)):
                    most |= tokens[i]
                if most >= 64:
                    _pack_block(values[begin : begin + _BLOCK], tokens, raw, state)
            begins[z] += count
            place += count
    if state[1]:
        raw[state[2]] = np.uint32(state[0])


@_compiled
def _count_bits(coded):
    bits = 0
    most = np.uint8(0)
    for i in range(len(coded)):
        token = coded[i]
        most = max(most, token)
        if token >= 64:
            bits += (np.int64(token) - 64) // 8 + 3
    return bits, most


@_compiled
def _unpack(coded, raw, begin, values):
    """Put together the values of tokens whose raw bits begin at bit `begin`."""
    place = begin >> 3
    skip = begin & 7
    held = np.uint64(raw[place] >> skip) if skip else np.uint64(0)
    count = 8 - skip if skip else 0
    place += 1 if skip else 0
    for i in range(len(coded)):
        token = np.int64(coded[i])
        if token < 64:
            values[i] = np.uint16(token)
        else:
            below = (token - 64) // 8 + 3
            while count < below:
                held |= np.uint64(raw[place]) << np.uint64(count)
                count += 8
                place += 1
            low = held & np.uint64((1 << below) - 1)
            values[i] = np.uint16((np.uint64(8 + (token - 64) % 8) << np.uint64(below)) | low)
            held >>= np.uint64(below)
            count -= below


def split(
    by_plane: NDArray[np.uint16], counts: NDArray[np.int64], *, threads: Threads = 1
) -> tuple[NDArray[np.uint8], memoryview]:
    """Do what `reference.split` does."""
    coded = np.empty(by_plane.size, np.uint8)
    # Parts of about equal numbers of values; a context is never split.
    ends = np.cumsum(counts.sum(axis=0))
    parts = most_of(threads)
    cuts = np.searchsorted(ends, by_plane.size * np.arange(1, parts) // parts).tolist()
    edges = [0, *cuts, len(ends)]
    spans = [(first, last) for first, last in pairwise(edges) if first < last]
    bits = run_over(lambda span: _split(by_plane, counts, *span, coded), spans, threads=threads)
    begins = [0, *accumulate(bits)]
    raw = np.zeros((begins[-1] + 31) // 32, np.uint32)

    def pack(k: int) -> NDArray[np.uint32]:
        skip = begins[k] & 31
        part = np.zeros((skip + bits[k] + 31) // 32, np.uint32)
        _pack(by_plane, counts, *spans[k], coded, skip, part)
        return part

    for begin, part in zip(begins, run_over(pack, range(len(spans)), threads=threads), strict=False):
        # The first word of a part may be the last of the one before.
        raw[begin >> 5 : (begin >> 5) + len(part)] |= part
    return coded, view_bytes(raw.astype("<u4", copy=False))[: (begins[-1] + 7) // 8]


def join(coded: NDArray[np.uint8], raw: Buffer, *, threads: Threads = 1) -> NDArray[np.uint16]:
    """Do what `reference.join` does."""
    parts = [slice(at, at + _PART) for at in range(0, len(coded), _PART)]
    counted = run_over(lambda part: _count_bits(coded[part]), parts, threads=threads)
    begins = [0, *accumulate(bits for bits, _ in counted)]
    bits = begins.pop()
    if max((most for _, most in counted), default=0) > LAST_16_BIT_TOKEN:
        raise CorruptError("a residual of a volume slab has more than 16 bits; the archive is damaged")
    if (bits + 7) // 8 != len(raw):
        raise CorruptError("the raw bits of a volume slab have the wrong length; the archive is damaged")
    values = np.empty(len(coded), np.uint16)
    packed = np.frombuffer(raw, np.uint8)

    def unpack(place: tuple[slice, int]) -> None:
        part, begin = place
        _unpack(coded[part], packed, begin, values[part])

    run_over(unpack, zip(parts, begins, strict=True), threads=threads)
    return values
