"""Sizes in bits, estimated with integers only: whatever decides bytes must not depend on a maths library."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FRACTION_BITS",
    "SMALL_BITS",
    "TABLE_BITS",
    "histogram_cost",
    "log2_fixed",
    "log2_table",
    "scaled_log2",
    "small_scaled",
]

# Estimates are in units of 2^-16 bit. A count below 2^31 times its logarithm then stays below 2^52.
FRACTION_BITS = 16

# Entries of the logarithm table between 1 and 2; between entries it is interpolated, to about 10^-8.
TABLE_BITS = 12


# Counts below 2^14 have their c * log2(c) looked up.
SMALL_BITS = 14


@cache
def log2_table() -> NDArray[np.int64]:
    """Tabulate ``log2(1 + i / 4096)`` for i in 0..4096 by repeated squaring of integers."""
    x = (np.arange(1 << TABLE_BITS, dtype=np.uint64) << np.uint64(31 - TABLE_BITS)) + np.uint64(1 << 31)
    result = np.zeros(x.shape, np.int64)
    for _ in range(FRACTION_BITS + 2):
        x = (x * x) >> np.uint64(31)
        carry = x >> np.uint64(32)
        x >>= carry
        result = 2 * result + carry.astype(np.int64)
    return np.append((result + 2) >> 2, 1 << FRACTION_BITS)


def log2_fixed(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give log2 of each value in units of 2^-16; 0 for values below 1.

    Parameters
    ----------
    values
        Any shape, below 2^48.
    """
    table = log2_table()
    safe = np.maximum(values, 1)
    # frexp only takes the exponent apart: exact for integers below 2^53.
    exponent = np.frexp(safe.astype(np.float64))[1].astype(np.int64) - 1
    # The value as 1.mantissa with 12 + 16 bits after the point.
    shift = TABLE_BITS + 16 - exponent
    mantissa = np.where(shift >= 0, safe << np.maximum(shift, 0), safe >> np.maximum(-shift, 0))
    mantissa -= 1 << (TABLE_BITS + 16)
    index = mantissa >> 16
    rest = mantissa & 0xFFFF
    low = table[index]
    logarithm: NDArray[np.int64] = (exponent << FRACTION_BITS) + low + (((table[index + 1] - low) * rest) >> 16)
    return logarithm


@cache
def small_scaled() -> NDArray[np.int64]:
    """Tabulate ``c * log2(c)`` for the counts that most histograms have."""
    counts = np.arange(1 << SMALL_BITS, dtype=np.int64)
    return counts * log2_fixed(counts)


def scaled_log2(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give ``c * log2(c)`` for each count, in units of 2^-16 bit."""
    table = small_scaled()
    scaled = table[np.minimum(counts, len(table) - 1)]
    large = np.nonzero(counts >= len(table))
    scaled[large] = counts[large] * log2_fixed(counts[large])
    return scaled


def histogram_cost(histograms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the ideal order-0 size of each histogram (last axis), in units of 2^-16 bit."""
    bits: NDArray[np.int64] = scaled_log2(histograms.sum(axis=-1)) - scaled_log2(histograms).sum(axis=-1)
    return bits
