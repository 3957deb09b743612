"""Tokens of 16-bit residuals, compiled: what `reference.split` and `reference.join` mean."""
# The compiled functions are typed by numba, at run time.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.tokens import LAST_16_BIT_TOKEN
from gpushrink.errors import CorruptError

__all__ = ["join", "split"]

_compiled = numba.njit(cache=True, nogil=True, boundscheck=False)


@_compiled
def _split(values, coded):
    """Write the tokens; return how many raw bits they ask for."""
    bits = 0
    for i in range(len(values)):
        value = np.uint32(values[i])
        if value < 64:
            coded[i] = np.uint8(value)
        else:
            below = 3
            while value >> np.uint32(below + 4):
                below += 1
            coded[i] = np.uint8(64 + 8 * (below - 3) + ((value >> np.uint32(below)) & np.uint32(7)))
            bits += below
    return bits


@_compiled
def _pack(values, coded, raw):
    held = np.uint64(0)
    count = 0
    place = 0
    for i in range(len(values)):
        token = np.int64(coded[i])
        if token >= 64:
            below = (token - 64) // 8 + 3
            held |= np.uint64(np.uint64(values[i]) & np.uint64((1 << below) - 1)) << np.uint64(count)
            count += below
            while count >= 8:
                raw[place] = np.uint8(held & np.uint64(255))
                held >>= np.uint64(8)
                count -= 8
                place += 1
    if count:
        raw[place] = np.uint8(held & np.uint64(255))


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
def _unpack(coded, raw, values):
    held = np.uint64(0)
    count = 0
    place = 0
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


def split(values: NDArray[np.uint16]) -> tuple[NDArray[np.uint8], bytes]:
    """Do what `reference.split` does."""
    coded = np.empty(len(values), np.uint8)
    raw = np.zeros((_split(values, coded) + 7) // 8, np.uint8)
    _pack(values, coded, raw)
    return coded, raw.tobytes()


def join(coded: NDArray[np.uint8], raw: bytes) -> NDArray[np.uint16]:
    """Do what `reference.join` does."""
    bits, most = _count_bits(coded)
    if most > LAST_16_BIT_TOKEN:
        raise CorruptError("a residual of a volume slab has more than 16 bits; the archive is damaged")
    if (bits + 7) // 8 != len(raw):
        raise CorruptError("the raw bits of a volume slab have the wrong length; the archive is damaged")
    values = np.empty(len(coded), np.uint16)
    _unpack(coded, np.frombuffer(raw, np.uint8), values)
    return values
