"""Lists of integers as bytes, many at a time. Source: docs/format.md#notation, varint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpushrink.codec.varint import VARINT_BYTES
from gpushrink.errors import CorruptError

__all__ = ["fold", "pack_numbers", "unfold", "unpack_numbers"]


def fold(value: int) -> int:
    """Turn a signed integer into an unsigned one, small magnitudes small."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unfold(value: int) -> int:
    """Invert `fold`."""
    return -((value + 1) >> 1) if value & 1 else value >> 1


def pack_numbers(values: Sequence[int]) -> bytes:
    """Code integers from 0 to 2^63 - 1 as varints, one after another."""
    if not values or max(values) < 0x80:
        return bytes(values)
    array = np.array(values, np.int64)
    sizes = np.ones(array.size, np.int64)
    for shift in range(7, 7 * VARINT_BYTES, 7):
        sizes += array >> shift > 0
    starts = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    for k in range(int(sizes.max())):
        has = sizes > k
        more = (sizes[has] > k + 1).astype(np.int64) << 7
        out[starts[has] + k] = array[has] >> 7 * k & 0x7F | more
    return out.tobytes()


def unpack_numbers(data: bytes | memoryview, most: int) -> list[int]:
    """Decode varints that fill `data`.

    Raises
    ------
    CorruptError
        If there are more than `most`, or one is too long or cut off.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if ends.size > most:
        raise CorruptError(f"a list has {ends.size} numbers; the limit is {most}")
    if ends.size == raw.size:
        return list(bytes(data))
    if not ends.size or ends[-1] != raw.size - 1:
        raise CorruptError("a list of numbers is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    if sizes.max() > VARINT_BYTES:
        raise CorruptError("an integer has too many bytes")
    places = np.arange(raw.size) - np.repeat(starts, sizes)
    parts = (raw & 0x7F).astype(np.int64) << (7 * places)
    values: list[int] = np.add.reduceat(parts, starts).tolist()
    return values
