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
    """Turn levels of tables (last axis: 256, at least two of them > 0) into frequencies that sum to 2^14.

    Every level > 0 gets a frequency of at least 1 and at most 2^14 - 1. Integer arithmetic below 2^52 throughout.
    """
    weights = levels * levels
    rare = (weights > 0) & (weights * SCALE <= weights.sum(axis=-1, keepdims=True))
    common = np.where(rare, 0, weights)
    share = SCALE - np.count_nonzero(rare, axis=-1, keepdims=True)
    quotients, remainders = np.divmod(common * share, common.sum(axis=-1, keepdims=True))
    frequencies = np.maximum(quotients, weights > 0)
    # What rounding down left over goes to the largest remainders, lower symbols first among equals.
    left = SCALE - frequencies.sum(axis=-1, keepdims=True)
    order = np.argsort(-remainders, axis=-1, kind="stable")
    np.put_along_axis(frequencies, order, np.take_along_axis(frequencies, order, -1) + (np.arange(256) < left), -1)
    # Raising shares just below 1 can overdraw by a few parts; the largest, at least 64, can spare them.
    largest = np.argmax(frequencies, axis=-1, keepdims=True)
    spared = np.take_along_axis(frequencies, largest, -1) + np.minimum(left, 0)
    np.put_along_axis(frequencies, largest, spared, -1)
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
        return cls.from_frequencies(frequencies_from_levels(levels))

    @classmethod
    def from_frequencies(cls, frequencies: NDArray[np.int64]) -> Tables:
        """Build tables from frequencies of shape (tables, 256), each row summing to 2^14."""
        starts = np.cumsum(frequencies, axis=1) - frequencies
        return cls(frequencies.astype(np.uint32), starts.astype(np.uint32))

    def slots(self) -> NDArray[np.uint8]:
        """Give the symbol of every slot, uint8 of shape (tables, 2^14)."""
        symbols = np.tile(np.arange(256, dtype=np.uint8), len(self.frequencies))
        return np.repeat(symbols, self.frequencies.ravel().astype(np.int64)).reshape(-1, SCALE)

    def packed(self) -> NDArray[np.uint32]:
        """Give frequency (low 16 bits) and start (high 16 bits) of every symbol, uint32 of shape (tables, 256)."""
        return self.frequencies | (self.starts << np.uint32(16))
