"""Frequency tables: counts to levels (what is stored), levels to frequencies (what rANS uses).

Source: docs/format-entropy.md#tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.head import LARGEST_LEVEL

__all__ = ["SCALE", "SCALE_BITS", "Tables", "frequencies_from_levels", "levels_from_counts"]

# Frequencies of a table sum to 2^14. 12 bits lose 0.1-0.5 % where a smooth context has a long tail of rare
# symbols, each of which takes at least one part; 15 gain nothing on 14 once states of 32 bits round.
SCALE_BITS = 14
SCALE = 1 << SCALE_BITS


def levels_from_counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Quantise counts to levels, ``sqrt(count / 2)`` rounded, at least 1 where a symbol occurs.

    The square root has the same sampling noise at every count, so one level is always about one standard
    deviation: finer would store noise, coarser would lose code length.
    """
    # Correctly rounded square roots of integers below 2^52 have the right integer part everywhere.
    root = np.sqrt((2 * counts).astype(np.float64)).astype(np.int64)
    levels: NDArray[np.int64] = np.clip((root + 1) >> 1, (counts > 0).astype(np.int64), LARGEST_LEVEL)
    return levels


def frequencies_from_levels(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn the levels of one table (256 values, at least two of them > 0) into frequencies that sum to 2^14.

    Every level > 0 gets a frequency of at least 1 and at most 2^14 - 1. Integer arithmetic below 2^52 throughout.
    """
    weights = levels * levels
    total = int(weights.sum())
    rare = (weights > 0) & (weights * SCALE <= total)
    frequencies = rare.astype(np.int64)
    common = (weights > 0) & ~rare
    share = SCALE - int(rare.sum())
    scaled = np.where(common, weights, 0) * share
    divisor = int(weights[common].sum())
    frequencies[common] = np.maximum(scaled[common] // divisor, 1)
    # What rounding down left over goes to the largest remainders, lower symbols first among equals.
    left = SCALE - int(frequencies.sum())
    if left > 0:
        order = np.argsort(-(scaled % divisor), kind="stable")
        frequencies[order[:left]] += 1
    elif left < 0:
        # Raising shares just below 1 can overdraw by a few parts; the largest, at least 64, can spare them.
        frequencies[int(np.argmax(frequencies))] += left
    return frequencies


@dataclass(frozen=True)
class Tables:
    """The frequency tables of one payload.

    Attributes
    ----------
    frequencies
        uint32, shape (tables, 256); every row sums to 2^14.
    starts
        uint32, shape (tables, 256); sum of the frequencies of lower symbols.
    """

    frequencies: NDArray[np.uint32]
    starts: NDArray[np.uint32]

    @classmethod
    def from_levels(cls, levels: NDArray[np.int64]) -> Tables:
        """Build tables from levels of shape (tables, 256)."""
        frequencies = np.zeros(levels.shape, np.int64)
        for index in range(levels.shape[0]):
            frequencies[index] = frequencies_from_levels(levels[index])
        starts = np.cumsum(frequencies, axis=1) - frequencies
        return cls(frequencies.astype(np.uint32), starts.astype(np.uint32))

    def slots(self) -> NDArray[np.uint8]:
        """Give the symbol of every slot, uint8 of shape (tables, 2^14)."""
        symbols = np.arange(256, dtype=np.uint8)
        rows = [np.repeat(symbols, row.astype(np.int64)) for row in self.frequencies]
        return np.stack(rows) if rows else np.zeros((0, SCALE), np.uint8)

    def packed(self) -> NDArray[np.uint32]:
        """Give frequency (low 16 bits) and start (high 16 bits) of every symbol, uint32 of shape (tables, 256)."""
        return self.frequencies | (self.starts << np.uint32(16))
