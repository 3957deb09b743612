"""Which segments share a frequency table, compiled: what `cluster` means. Integers throughout, so the answers are the same.

The loops take the square of the number of segments, which is some dozens; `cluster` serves the rare payload of many.
"""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled
from gpushrink.codec.entropy import cluster as reference
from gpushrink.codec.entropy.cluster import BITS_PER_SYMBOL_IN_USE, BITS_PER_TABLE, NEIGHBOURS, costs_of_frequencies
from gpushrink.codec.entropy.cost import FRACTION_BITS, SMALL_BITS, TABLE_BITS, log2_table, small_scaled
from gpushrink.codec.entropy.head import LARGEST_LEVEL
from gpushrink.codec.entropy.tables import SCALE, Tables

__all__ = ["cluster"]

_compiled = compiled(boundscheck=False, error_model="numpy")
_MOST_SEGMENTS = 512


@_compiled
def _cost_together(one, other, top, logarithms, small):
    """Give what two histograms of symbols below `top` cost as one, table included, as `cost.histogram_cost` does."""
    total, in_use, bits = np.int64(0), np.int64(0), np.int64(0)
    for symbol in range(np.uint64(top + 1)):
        count = total
        if symbol < np.uint64(top):
            count = one[symbol] + other[symbol]
            total += count
        if count == 0:
            continue
        if count < len(small):
            scaled = small[np.uint64(count)]
        else:
            exponent = np.int64(SMALL_BITS)
            while count >> (exponent + 1) > 0:
                exponent += 1
            shift = TABLE_BITS + 16 - exponent
            mantissa = count << shift if shift >= 0 else count >> -shift
            mantissa -= 1 << (TABLE_BITS + 16)
            index = np.uint64(mantissa >> 16)
            low, high = logarithms[index], logarithms[index + np.uint64(1)]
            scaled = count * ((exponent << FRACTION_BITS) + low + (((high - low) * (mantissa & 0xFFFF)) >> 16))
        if symbol < np.uint64(top):
            bits -= scaled
            in_use += 1
        else:
            bits += scaled
    return bits + ((BITS_PER_SYMBOL_IN_USE * in_use + BITS_PER_TABLE) << FRACTION_BITS)


@_compiled
def _merge(histograms, logarithms, small, line, means, tops, gain, together, taken, owner):
    """Merge pairs while that saves bits.

    The last histogram is empty: what others cost together with it is what they cost alone. `line` holds the clusters' rows in
    the order of their mean symbol; what is below 0 in `tops` and `together` is not known.
    """
    empty = count = len(histograms) - 1
    for row in range(count):
        line[row] = owner[row] = row
        tops[row] = -1
    while True:
        for place in range(count):
            row = line[place]
            if tops[row] < 0:
                total, moment = np.int64(0), np.int64(0)
                for symbol in range(256):
                    total += histograms[row, symbol]
                    moment += histograms[row, symbol] * symbol
                    if histograms[row, symbol] > 0:
                        tops[row] = symbol + 1
                means[row] = (moment << 8) // total
            at = place
            while at > 0 and means[line[at - 1]] > means[row]:
                line[at] = line[at - 1]
                at -= 1
            line[at] = row
        for place in range(count):
            taken[place] = 0
            for step in range(min(NEIGHBOURS, count - 1 - place) + 1):
                one, other = line[place], line[place + step] if step > 0 else empty
                if together[one, other] < 0:
                    top = max(tops[one], tops[other]) if step > 0 else tops[one]
                    together[one, other] = _cost_together(histograms[one], histograms[other], top, logarithms, small)
        for place in range(count):
            one = line[place]
            for step in range(1, min(NEIGHBOURS, count - 1 - place) + 1):
                other = line[place + step]
                gain[step - 1, place] = together[one, empty] + together[other, empty] - together[one, other]
        merged = 0
        while True:
            best, kept, lost = np.int64(0), 0, 0
            for step in range(1, min(NEIGHBOURS, count - 1) + 1):
                for place in range(count - step):
                    if gain[step - 1, place] > best and taken[place] == 0 and taken[place + step] == 0:
                        best, kept, lost = gain[step - 1, place], place, place + step
            if best == 0:
                break
            taken[kept], taken[lost] = 1, 2
            one, other = line[kept], line[lost]
            for symbol in range(256):
                histograms[one, symbol] += histograms[other, symbol]
            tops[one] = together[one, empty] = -1
            for segment in range(len(owner)):
                together[one, segment] = together[segment, one] = -1
                if owner[segment] == other:
                    owner[segment] = one
            merged += 1
        left = 0
        for place in range(count):
            if taken[place] < 2:
                line[left] = line[place]
                left += 1
        count = left
        if merged == 0:
            break
    # Clusters are numbered in their order.
    for place in range(count):
        means[line[place]] = place
    for segment in range(len(owner)):
        owner[segment] = means[owner[segment]]
    return count


@_compiled
def _sum_levels(histograms, owner, sums, levels):
    """Give the levels of each cluster's summed counts, as `tables.levels_from_counts` does."""
    for segment in range(len(owner)):
        for symbol in range(256):
            sums[owner[segment], symbol] += histograms[segment, symbol]
    for table in range(len(levels)):
        for symbol in range(256):
            count = sums[table, symbol]
            level = (np.int64(np.sqrt(np.float64(2 * count))) + 1) >> 1
            levels[table, symbol] = min(max(level, np.int64(count > 0)), LARGEST_LEVEL)


@_compiled
def _share_out(levels, by_frequency, rest, frequencies, costs):
    """Turn levels into frequencies, as `tables.frequencies_from_levels` does, and those into the symbols' costs."""
    for table in range(len(levels)):
        total, divisor, rare = np.int64(0), np.int64(0), np.int64(0)
        for symbol in range(256):
            total += levels[table, symbol] * levels[table, symbol]
        for symbol in range(256):
            weight = levels[table, symbol] * levels[table, symbol]
            divisor += weight if weight * SCALE > total else 0
            rare += 1 if weight > 0 and weight * SCALE <= total else 0
        share, left = SCALE - rare, np.int64(SCALE)
        for symbol in range(256):
            weight = levels[table, symbol] * levels[table, symbol]
            frequency = np.int64(weight > 0)
            rest[symbol] = 0
            if weight * SCALE > total:
                # Of whole numbers below 2^52: a quotient is never rounded up to the next whole number.
                frequency = np.int64(np.float64(weight * share) / np.float64(divisor))
                rest[symbol] = weight * share - frequency * divisor
                frequency = max(frequency, np.int64(1))
            frequencies[table, symbol] = frequency
            left -= frequency
        # The largest rest that at least so many have: all above it gain one, and the first of those that have it.
        least, most = np.int64(0), divisor
        while left > 0 and most - least > 1:
            middle = (least + most) >> 1
            having = np.int64(0)
            for symbol in range(256):
                having += np.int64(rest[symbol] >= middle)
            if having >= left:
                least = middle
            else:
                most = middle
        for turn in range(2):
            for symbol in range(256):
                if left > 0 and (rest[symbol] > least if turn == 0 else rest[symbol] == least):
                    frequencies[table, symbol] += 1
                    left -= 1
        largest = 0
        for symbol in range(256):
            if frequencies[table, symbol] > frequencies[table, largest]:
                largest = symbol
        frequencies[table, largest] += min(left, 0)
        for symbol in range(256):
            costs[table, symbol] = by_frequency[np.uint64(frequencies[table, symbol])]


@_compiled
def _choose(histograms, costs, numbers, owner):
    """Give each segment the table that codes it in the fewest bits, numbered by first use; return how many are used."""
    used = 0
    for table in range(len(costs)):
        numbers[table] = -1
    for segment in range(len(histograms)):
        best, chosen = np.int64(0), -1
        for table in range(len(costs)):
            bits = np.int64(0)
            for symbol in range(256):
                bits += histograms[segment, symbol] * costs[table, symbol]
            if chosen < 0 or bits < best:
                best, chosen = bits, table
        if numbers[chosen] < 0:
            numbers[chosen] = used
            used += 1
        owner[segment] = numbers[chosen]
    return used


@_compiled
def _add_costs(histograms, costs, owner, bits):
    for segment in range(len(histograms)):
        for symbol in range(256):
            bits[segment] += histograms[segment, symbol] * costs[owner[segment], symbol]


def cluster(histograms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
    """Do what `cluster.cluster` does."""
    count = len(histograms)
    if count > _MOST_SEGMENTS:
        return reference.cluster(histograms)
    owner, bits, rest = np.empty(count, np.int64), np.zeros(count, np.int64), np.empty(256, np.int64)
    line, means, tops, taken = np.empty((4, count), np.int64)
    by_frequency = costs_of_frequencies()
    histograms = np.ascontiguousarray(histograms)

    def make_tables(tables: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        sums, levels, frequencies, costs = np.zeros((4, tables, 256), np.int64)
        _sum_levels(histograms, owner, sums, levels)
        _share_out(levels, by_frequency, rest, frequencies, costs)
        return levels, frequencies, costs

    together, gain = np.full((count, count + 1), -1), np.empty((NEIGHBOURS, count), np.int64)
    merging = np.vstack([histograms, np.zeros((1, 256), np.int64)])
    clusters = _merge(merging, log2_table(), small_scaled(), line, means, tops, gain, together, taken, owner)
    # Once more with the real tables: a segment may have drifted nearer to another cluster.
    levels, frequencies, costs = make_tables(_choose(histograms, make_tables(clusters)[2], taken, owner))
    _add_costs(histograms, costs, owner, bits)
    return owner, levels, bits, Tables.from_frequencies(frequencies)
