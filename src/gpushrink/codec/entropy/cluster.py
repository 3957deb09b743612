"""Which segments share a frequency table. Only the encoder needs this; any answer decodes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.cost import FRACTION_BITS, histogram_cost, log2_fixed
from gpushrink.codec.entropy.tables import SCALE, SCALE_BITS, Tables, levels_from_counts

__all__ = ["cluster", "costs_of_frequencies", "keep_apart", "symbol_costs", "table_cost"]

# What a table costs, measured on real series: 2 to 4 bits for each symbol in use, and some for the symbols that
# are not and for saying where it is used. Sizes hardly depend on these two.
BITS_PER_SYMBOL_IN_USE = 3
BITS_PER_TABLE = 24

# Only neighbours in the order of their mean symbol are compared: comparing all pairs saved nothing.
NEIGHBOURS = 6

# Cost of a symbol a table does not have: more than any real one, so that such a table is never taken.
ABSENT_BITS = 1 << 12


def table_cost(histograms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Estimate what storing a table for each histogram costs, in units of 2^-16 bit."""
    in_use = np.count_nonzero(histograms, axis=-1)
    bits: NDArray[np.int64] = (BITS_PER_SYMBOL_IN_USE * np.asarray(in_use, np.int64) + BITS_PER_TABLE) << FRACTION_BITS
    return bits


def _pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the pairs (first < second) of clusters that are compared."""
    steps = range(1, min(NEIGHBOURS, count - 1) + 1)
    none = np.zeros(0, np.int64)
    first = [np.arange(count - step) for step in steps]
    second = [np.arange(step, count) for step in steps]
    return np.concatenate([none, *first]), np.concatenate([none, *second])


def _merge(histograms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge pairs while that saves bits; return the cluster of each histogram.

    In each pass every cluster joins at most one other, the most saving pairs first.
    """
    owner = np.arange(len(histograms))
    while True:
        symbols = np.arange(256)
        # Means in 2^-8 of a symbol; ties keep their order.
        order = np.argsort((histograms @ symbols << 8) // histograms.sum(axis=1), kind="stable")
        histograms = histograms[order]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        owner = place[owner]

        alone = histogram_cost(histograms) + table_cost(histograms)
        first, second = _pairs(len(histograms))
        gain = np.empty(len(first), np.int64)
        for begin in range(0, len(first), 512):
            a, b = first[begin : begin + 512], second[begin : begin + 512]
            together = histograms[a] + histograms[b]
            gain[begin : begin + 512] = alone[a] + alone[b] - histogram_cost(together) - table_cost(together)
        taken = np.zeros(len(histograms), bool)
        target = np.arange(len(histograms))
        merged = histograms.copy()
        for pair in np.argsort(-gain, kind="stable"):
            if gain[pair] <= 0:
                break
            kept, lost = int(first[pair]), int(second[pair])
            if not (taken[kept] or taken[lost]):
                taken[kept] = taken[lost] = True
                target[lost] = kept
                merged[kept] += merged[lost]
        if not taken.any():
            return owner
        rows, renumbered = np.unique(target, return_inverse=True)
        owner = renumbered[owner]
        histograms = merged[rows]


@cache
def costs_of_frequencies() -> NDArray[np.int64]:
    """Tabulate the coded size of a symbol by its frequency, 0 to 2^14, in units of 2^-16 bit."""
    costs = (SCALE_BITS << FRACTION_BITS) - log2_fixed(np.arange(SCALE + 1))
    costs[0] = ABSENT_BITS << FRACTION_BITS
    return costs


def symbol_costs(tables: Tables) -> NDArray[np.int64]:
    """Give the coded size of each symbol under each table, shape (tables, 256), in units of 2^-16 bit."""
    return costs_of_frequencies()[tables.frequencies]


def cluster(histograms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
    """Decide which histograms share a table.

    Parameters
    ----------
    histograms
        Counts, shape (segments, 256), each with at least two symbols in use.

    Returns
    -------
    owner
        int64, shape (segments,): the table of each segment, numbered by first use.
    levels
        int64, shape (tables, 256).
    bits
        int64, shape (segments,): the coded size of each segment, in units of 2^-16 bit.
    tables
        What the levels stand for.
    """
    owner = _merge(histograms)
    # Once more with the real tables: a segment may have drifted nearer to another cluster.
    costs = symbol_costs(Tables.from_levels(_levels(histograms, owner)))
    owner = _by_first_use(np.argmin(histograms @ costs.T, axis=1))
    levels = _levels(histograms, owner)
    tables = Tables.from_levels(levels)
    return owner, levels, (histograms * symbol_costs(tables)[owner]).sum(axis=1), tables


def keep_apart(
    histograms: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
    """Do what `cluster` does with a table for each histogram, for callers that put together what is alike."""
    levels = levels_from_counts(histograms)
    return np.arange(len(histograms)), levels, histogram_cost(histograms), Tables.from_levels(levels)


def _by_first_use(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber clusters without gaps in the order in which segments use them."""
    _, first, inverse = np.unique(owner, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _levels(histograms: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the levels of each cluster's summed counts."""
    sums = np.zeros((int(owner.max()) + 1, 256), np.int64)
    np.add.at(sums, owner, histograms)
    return levels_from_counts(sums)
