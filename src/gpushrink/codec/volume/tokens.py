"""Whole numbers as one-byte tokens and raw bits.

::

    value < 64          token = value, no raw bits
    value >= 64         n = floor(log2(value)) >= 6
                        token = 64 + 8 * (n - 6) + (the 3 bits below the leading one)
                        raw bits: the n - 3 bits below those, least significant first

Raw bits lie in one stream in the order of the values, first bit in the least significant place of
the first byte. Every value's place there is a prefix sum over the tokens, so they unpack in parallel.
Source: docs/format-volume.md, section "Tokens".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.errors import CorruptError

__all__ = ["LAST_16_BIT_TOKEN", "MOST_VALUE", "count_raw_bits", "fold", "join", "split", "unfold"]

MOST_VALUE: Final = (1 << 30) - 1
_DIRECT: Final = 64
# 65535 has 15 bits below its leading one.
LAST_16_BIT_TOKEN: Final = _DIRECT + 8 * (15 - 6) + 7
# Values are walked in blocks, so that the temporaries of a slab stay small beside the slab.
_BLOCK: Final = 1 << 20

_TOKENS: Final = np.arange(256)
_RAW_BITS: Final = np.where(_TOKENS < _DIRECT, 0, (_TOKENS - _DIRECT) // 8 + 3).astype(np.uint8)
_BASE: Final = np.where(
    _TOKENS < _DIRECT, _TOKENS, (8 + (_TOKENS - _DIRECT) % 8) << np.maximum((_TOKENS - _DIRECT) // 8 + 3, 0)
).astype(np.int64)


def fold(values: NDArray[Any]) -> NDArray[np.int64]:
    """Map 0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    wide = values.astype(np.int64)
    return (wide << 1) ^ (wide >> 63)


def unfold(values: NDArray[Any]) -> NDArray[np.int64]:
    """Undo `fold`."""
    wide = values.astype(np.int64)
    return (wide >> 1) ^ -(wide & 1)


def count_raw_bits(tokens: NDArray[np.uint8]) -> int:
    """Return how many raw bits follow from these tokens."""
    blocks = (tokens[start : start + _BLOCK] for start in range(0, len(tokens), _BLOCK))
    return sum(int(_RAW_BITS[block].sum(dtype=np.int64)) for block in blocks)


def split(values: NDArray[Any]) -> tuple[NDArray[np.uint8], bytes]:
    """Split values of at most `MOST_VALUE` into tokens and packed raw bits."""
    tokens = np.empty(len(values), np.uint8)
    pieces: list[NDArray[np.uint8]] = []
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        out = tokens[start : start + _BLOCK]
        out[:] = np.minimum(block, _DIRECT - 1)
        large = np.flatnonzero(block >= _DIRECT)
        if len(large) == 0:
            continue
        wide = block[large].astype(np.int64)
        # frexp is exact below 2**53 and gives the bit length.
        top = np.frexp(wide.astype(np.float64))[1].astype(np.int64) - 1
        out[large] = _DIRECT + 8 * (top - 6) + ((wide >> (top - 3)) & 7)
        count = top - 3
        first = np.cumsum(count) - count
        rank = np.arange(int(count.sum())) - np.repeat(first, count)
        pieces.append((np.repeat(wide, count) >> rank & 1).astype(np.uint8))
    bits = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
    return tokens, np.packbits(bits, bitorder="little").tobytes()


def join(tokens: NDArray[np.uint8], raw: bytes | memoryview) -> NDArray[np.int32]:
    """Undo `split`.

    Raises
    ------
    CorruptError
        If the raw stream is not exactly as long as the tokens ask for.
    """
    if (count_raw_bits(tokens) + 7) // 8 != len(raw):
        raise CorruptError("the raw bits of a volume slab have the wrong length; the archive is damaged")
    # Seven zero bytes behind, so that eight bytes may be read at every place.
    padded = np.frombuffer(bytes(raw) + bytes(8), np.uint8)
    values = np.empty(len(tokens), np.int32)
    at = 0
    for start in range(0, len(tokens), _BLOCK):
        block = tokens[start : start + _BLOCK]
        out = values[start : start + _BLOCK]
        out[:] = _BASE[block]
        large = np.flatnonzero(block >= _DIRECT)
        if len(large) == 0:
            continue
        count = _RAW_BITS[block[large]].astype(np.int64)
        first = at + np.cumsum(count) - count
        at += int(count.sum())
        byte = first >> 3
        window = np.zeros(len(large), np.int64)
        for step in range(5):  # 7 bits of skew and at most 26 bits of value
            window |= padded[byte + step].astype(np.int64) << (8 * step)
        out[large] += ((window >> (first & 7)) & ((np.int64(1) << count) - 1)).astype(np.int32)
    return values
