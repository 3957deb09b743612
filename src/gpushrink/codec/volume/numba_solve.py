"""What a fit solves from its sums, compiled: what `solve` means, bit for bit.

Nothing here lets the compiler reorder or fuse: products are rounded before they are taken away, as numpy does it.
Whole numbers alone are added in any order, by `numba_products.add_products`.
"""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled
from gpushrink.codec.volume import solve
from gpushrink.codec.volume.numba_products import BLOCK, add_products
from gpushrink.codec.volume.products import EXACT_LENGTH
from gpushrink.codec.volume.solve import MOST_RATIO, ONE, RATIO

__all__ = ["fit_magnitudes", "pick_ordered", "solve_stage", "weigh"]

_compiled = compiled(boundscheck=False, error_model="numpy")
# Values over a wider range are sorted: counting them would take more room than they do.
_MOST_COUNTED = 1 << 16


@_compiled
def _eliminate(equations, width, found):
    """Solve a symmetric positive definite system, of which the upper triangle is looked at and lost."""
    for k in range(width - 1):
        pivot = equations[k, k]
        for i in range(k + 1, width):
            factor = equations[k, i] / pivot
            for j in range(np.uint64(i), np.uint64(width + 1)):
                equations[i, j] -= factor * equations[k, j]
    for k in range(width - 1, -1, -1):
        value = equations[k, width] / equations[k, k]
        found[k] = value
        for i in range(k):
            equations[i, width] -= equations[i, k] * value


@_compiled
def _solve_each(sums, sizes, common, equations, found):
    """Solve each class, drawn towards what is common; a size of 0 stands for all classes together, which nothing draws."""
    width = sums.shape[1]
    for one in range(len(sums)):
        total, size = 0.0, sizes[one]
        for i in range(np.uint64(width)):
            for j in range(i, np.uint64(width + 1)):
                equations[i, j] = np.float64(sums[one, i, j])
            total += equations[i, i]
        average = total / np.float64(width)
        ridge = average * 1e-5 + 1e-3
        if size > 0:
            ridge = average * 2e-4 + 1e-3 + 4.0 * average / np.float64(size)
        for i in range(width):
            equations[i, i] += ridge
            if size > 0:
                equations[i, width] += ridge * common[i]
        _eliminate(equations, width, found[one])


@_compiled
def _sum_ratios(columns, target, weights, table, expected, part, sums):
    """Add up the products of magnitudes, each relative to what the weights expect."""
    rows, count = columns.shape
    for begin in range(0, count, EXACT_LENGTH):
        for at in range(begin, min(begin + EXACT_LENGTH, count), BLOCK):
            size = min(BLOCK, count - at)
            for s in range(BLOCK):
                expected[s] = np.float64(ONE)
            for k in range(rows):
                weight = np.float64(weights[k])
                for s in range(np.uint64(size)):
                    value = np.float64(columns[k, np.uint64(at) + s])
                    table[k, s] = value
                    expected[s] += weight * value
            for s in range(np.uint64(size)):
                table[rows, s] = np.float64(target[np.uint64(at) + s])
            for s in range(BLOCK):
                expected[s] = np.float64(RATIO * ONE) / expected[s]
            for k in range(rows + 1):
                for s in range(BLOCK):
                    ratio = min(np.floor(table[k, s] * expected[s] + 0.5), np.float64(MOST_RATIO))
                    table[k, s] = ratio if s < size else 0.0
            add_products(table, table, part)
        for i in range(rows + 1):
            for j in range(i + 1):
                sums[i, j] += np.int64(part[i, j])
                part[i, j] = 0.0


@_compiled
def _solve_non_negative(sums, kept, equations, values, negative, found):
    """Solve normal equations, of which the lower triangle is looked at, the products with the target in the last row."""
    count = len(found)
    total = 0.0
    for k in range(count):
        total += np.float64(sums[k, k])
    ridge = total / np.float64(count) * 1e-6 + 1e-3
    width = count
    while width > 0:
        for i in range(width):
            for j in range(i, width):
                equations[i, j] = np.float64(sums[kept[j], kept[i]])
            equations[i, i] += ridge
            equations[i, width] = np.float64(sums[count, kept[i]])
        _eliminate(equations, width, values)
        # The negative ones in order.
        lost = 0
        for i in range(width):
            if values[i] < 0.0:
                at = lost
                while at > 0 and negative[at - 1] > values[i]:
                    negative[at] = negative[at - 1]
                    at -= 1
                negative[at] = values[i]
                lost += 1
        if lost == 0:
            for i in range(width):
                found[kept[i]] = values[i]
            break
        limit = negative[(lost - 1) // 2]
        left = 0
        for i in range(width):
            if values[i] > limit:
                kept[left] = kept[i]
                left += 1
        width = left


@_compiled
def _add_weighed(columns, weights, energies):
    for k in range(len(columns)):
        for s in range(len(energies)):
            energies[s] += np.int32(weights[k] * columns[k, s])


@_compiled
def _count_values(values, least, places, counts, found):
    """Count how often each value occurs, then walk to the places asked for, which ascend."""
    for s in range(len(values)):
        counts[np.uint64(np.int64(values[s]) - least)] += np.int32(1)
    value, passed = 0, np.int64(counts[0])
    for k in range(len(places)):
        while passed <= places[k]:
            value += 1
            passed += counts[value]
        found[k] = least + value


@_compiled
def _weigh(noise, floor, bits, weights):
    # Quotients of whole numbers below 2^52 are never rounded up to the next whole number.
    most, base = np.float64(floor << bits), np.float64(floor)
    for s in range(len(noise)):
        ratio = np.int64(most / (np.float64(noise[s]) * 10.0 + base))
        weights[s] = max((ratio * ratio) >> bits, 1)


def solve_stage(sums: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Do what `solve.solve_stage` does."""
    count, width = sums.shape[:2]
    found, equations = np.empty((count, width)), np.empty((width, width + 1))
    common, no_size = np.zeros((1, width)), np.zeros(1, np.int64)
    _solve_each(sums.sum(axis=0, keepdims=True), no_size, common[0], equations, common)
    if count == 1:
        return common
    _solve_each(np.ascontiguousarray(sums), sizes, common[0], equations, found)
    found[sizes == 0] = common[0]
    return found


def fit_magnitudes(columns: NDArray[np.int32], target: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Do what `solve.fit_magnitudes` does."""
    rows, energies = len(columns), np.zeros(len(target), np.int32)
    columns, target = np.ascontiguousarray(columns), np.ascontiguousarray(target)
    weights = np.full(rows, ONE // max(rows, 1), np.int32)
    table, expected, part = np.empty((rows + 1, BLOCK)), np.empty(BLOCK), np.zeros((rows + 1, rows + 1))
    for _ in range(2):
        sums, found = np.zeros((rows + 1, rows + 1), np.int64), np.zeros(rows)
        _sum_ratios(columns, target, weights, table, expected, part, sums)
        _solve_non_negative(sums, np.arange(rows), np.empty((rows, rows + 1)), np.empty(rows), np.empty(rows), found)
        weights = solve.store_weights(found)
    _add_weighed(columns, weights, energies)
    return weights, energies


def pick_ordered(values: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """Do what `solve.pick_ordered` does, for places that ascend."""
    least, most = int(values.min()), int(values.max())
    if most - least >= _MOST_COUNTED:
        return solve.pick_ordered(values, places)
    found = np.empty(len(places), np.int32)
    counts = np.zeros(most - least + 1, np.int32)
    _count_values(np.ascontiguousarray(values, np.int32), least, places, counts, found)
    return found


def weigh(noise: NDArray[np.int32], floor: int, bits: int) -> NDArray[np.int32]:
    """Do what `solve.weigh` does."""
    weights = np.empty(len(noise), np.int32)
    _weigh(noise, floor, bits, weights)
    return weights
