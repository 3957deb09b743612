"""The adaptive binary arithmetic coder under the head of a payload.

Plain functions over indexable integers: the reference calls them with lists, the numba engine
compiles the same text for arrays, so there is one meaning. One call either writes or reads,
as ``coder[DECODING]`` says; the model above it is therefore written once for both ways.

Source: docs/format-entropy.md#bits.
"""

from __future__ import annotations

from typing import Any

__all__ = ["NUMBER_CONTEXTS", "code_bit", "code_number", "finish", "new_coder", "start_reading"]

# Places in the coder's state. A list rather than a class, so that numba can take it as an array.
LOW, RANGE, CACHE, PENDING, POSITION, CODE, DECODING = range(7)

FULL_RANGE = 0xFFFFFFFF
RENORMALISE_BELOW = 1 << 24
# Counts are halved here: recent decisions weigh more, and the smallest probability stays near 1/500.
COUNT_LIMIT = 250

# A number of up to 18 + 1 bits: one context for each length, two for each length's later bits.
LONGEST_NUMBER = 18
NUMBER_CONTEXTS = 64


def new_coder() -> list[int]:
    """Start a coder that writes. The first byte it writes is always 0 and is not stored."""
    return [0, FULL_RANGE, 0, 1, 0, 0, 0]


def start_reading(data: bytes) -> list[int]:
    """Start a coder that reads `data`; bytes after its end count as 0."""
    return [0, FULL_RANGE, 0, 0, 4, int.from_bytes(data[:4].ljust(4, b"\0"), "big"), 1]


def shift_low(coder: Any, data: Any) -> None:
    """Move the top byte of ``low`` out, holding back bytes that a carry may still change."""
    low = coder[LOW]
    if low < 0xFF000000 or low > 0xFFFFFFFF:
        carry = low >> 32
        byte = coder[CACHE] + carry
        while coder[PENDING] > 0:
            if coder[POSITION] < len(data):
                data[coder[POSITION]] = byte & 255
            coder[POSITION] += 1
            byte = 255 + carry
            coder[PENDING] -= 1
        coder[CACHE] = (low >> 24) & 255
    coder[PENDING] += 1
    coder[LOW] = (low & 0x00FFFFFF) << 8


def code_bit(coder: Any, data: Any, counts: Any, context: int, bit: int) -> int:
    """Write `bit`, or read and return one, in the context whose two counts lie at ``2 * context``."""
    zeros = counts[2 * context]
    ones = counts[2 * context + 1]
    size = coder[RANGE]
    bound = (size >> 16) * (((2 * ones + 1) << 15) // (zeros + ones + 1))
    if coder[DECODING] == 1:
        bit = 1 if coder[CODE] < bound else 0
    if bit == 1:
        size = bound
        ones += 1
    else:
        size -= bound
        zeros += 1
        if coder[DECODING] == 1:
            coder[CODE] -= bound
        else:
            coder[LOW] += bound
    while size < RENORMALISE_BELOW:
        size <<= 8
        if coder[DECODING] == 1:
            byte = data[coder[POSITION]] if coder[POSITION] < len(data) else 0
            coder[POSITION] += 1
            coder[CODE] = (coder[CODE] << 8) | byte
        else:
            shift_low(coder, data)
    coder[RANGE] = size
    if zeros + ones > COUNT_LIMIT:
        zeros = (zeros + 1) >> 1
        ones = (ones + 1) >> 1
    counts[2 * context] = zeros
    counts[2 * context + 1] = ones
    return bit


def code_number(coder: Any, data: Any, counts: Any, base: int, value: int) -> int:
    """Write `value` >= 0, or read one, as an Elias gamma code of adaptive bits; -1 if it is too long."""
    x = value + 1
    length = 0
    while code_bit(coder, data, counts, base + length, 1 if (x >> (length + 1)) > 0 else 0) == 1:
        length += 1
        if length > LONGEST_NUMBER:
            return -1
    result = 1
    context = base + 22 + 2 * length
    for place in range(length - 1, -1, -1):
        result = 2 * result + code_bit(coder, data, counts, context, (x >> place) & 1)
        context = base + 23 + 2 * length
    return result - 1


def finish(coder: Any, data: Any) -> int:
    """Write the shortest end that still means what was written; return the size written to `data`.

    The caller drops the first byte, which is 0, and zero bytes at the end, which reading restores.
    """
    low = coder[LOW]
    for shift in (24, 16, 8, 0):
        rounded = ((low + (1 << shift) - 1) >> shift) << shift
        if rounded < low + coder[RANGE]:
            coder[LOW] = rounded
            break
    for _ in range(5):
        shift_low(coder, data)
    return int(coder[POSITION])
