"""What a fit solves from its sums, in numpy: the meaning.

`numba_solve` is its compiled twin. Both do the same operations on the same doubles in the same order, one rounding
after another, or add whole numbers that no order changes. So both store the same model, on any machine: what a BLAS or
a LAPACK rounds differently decides nothing.
Source: docs/decisions/volume-codec.md, section "Exact sums".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.parameters import WEIGHT_BITS
from gpushrink.codec.volume.products import multiply_exactly

__all__ = [
    "MOST_RATIO",
    "MOST_WEIGHT",
    "ONE",
    "RATIO",
    "fit_magnitudes",
    "pick_ordered",
    "solve_stage",
    "store_weights",
    "weigh",
]

# Classes solved at once: bounds memory, changes nothing.
_AT_ONCE: Final = 16
# A weight of one.
ONE: Final = 1 << WEIGHT_BITS
# Magnitudes count in 2^-9 of what is expected of them, up to 2^13 times that: 512 products then sum to 2^53 at most.
RATIO: Final = 1 << 9
MOST_RATIO: Final = 1 << 22
MOST_WEIGHT: Final = 8 * ONE


def solve_stage(sums: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Solve the normal equations of each class, each drawn towards the common solution.

    Parameters
    ----------
    sums
        Shape (classes, taps, taps + 1): products of the taps with each other, of which the upper triangle is looked at,
        and, last, with the target. All of them together stay below 2^63.
    sizes
        Voxels in each class.
    """
    class_count, width = sums.shape[:2]
    diagonal = np.arange(width)
    whole = sums.sum(axis=0)[None].astype(np.float64)
    whole[:, diagonal, diagonal] += (_average(whole) * 1e-5 + 1e-3)[:, None]
    common = _eliminate(whole)
    if class_count == 1:
        return common
    found = np.empty((class_count, width))
    for begin in range(0, class_count, _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        own = sums[some].astype(np.float64)
        average = _average(own)
        ridge = average * 2e-4 + 1e-3 + 4.0 * average / np.maximum(sizes[some], 1).astype(np.float64)
        own[:, diagonal, diagonal] += ridge[:, None]
        own[:, :, width] += ridge[:, None] * common
        found[some] = _eliminate(own)
    found[sizes == 0] = common
    return found


def _average(equations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the diagonal of each system, one place after another."""
    count, width = equations.shape[:2]
    total = np.zeros(count)
    for k in range(width):
        total += equations[:, k, k]
    average: NDArray[np.float64] = total / width
    return average


def _eliminate(equations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve symmetric positive definite systems, shape (systems, n, n + 1), by their upper triangles."""
    count, width = equations.shape[:2]
    for k in range(width - 1):
        factors = equations[:, k, k + 1 : width] / equations[:, k, k, None]
        equations[:, k + 1 :, k + 1 :] -= factors[:, :, None] * equations[:, k, None, k + 1 :]
    found = np.empty((count, width))
    for k in range(width - 1, -1, -1):
        found[:, k] = equations[:, k, width] / equations[:, k, k]
        equations[:, :k, width] -= equations[:, :k, k] * found[:, k, None]
    return found


def fit_magnitudes(
    columns: NDArray[np.int32], target: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fit non-negative weights, in 2^-8, to magnitudes, shape (rows, voxels), and those that they shall foretell.

    Least squares relative to the magnitude expected, first by equal weights, then by what that gives. Returns what is
    expected of each voxel too, in 2^-8.
    """
    rows = len(columns)
    both = np.vstack([columns, target[None]]).astype(np.float64)
    weights = np.full(rows, ONE // max(rows, 1), np.int32)
    for _ in range(2):
        # Whole numbers below 2^53. Row by row: a BLAS would start threads.
        expected = np.full(both.shape[1], float(ONE))
        for weight, row in zip(weights.tolist(), both, strict=False):
            expected += weight * row
        ratios = np.minimum(np.floor(both * (RATIO * ONE / expected) + 0.5), MOST_RATIO)
        weights = store_weights(_solve_non_negative(multiply_exactly(ratios[:-1], ratios)))
    return weights, weights @ columns


def store_weights(found: NDArray[np.float64]) -> NDArray[np.int32]:
    """Round weights to what is stored."""
    stored: NDArray[np.int32] = np.clip(np.rint(found * ONE), 0, MOST_WEIGHT).astype(np.int32)
    return stored


def _solve_non_negative(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Solve normal equations for values of at least 0, leaving out what comes out negative, the worst half first."""
    count = len(sums)
    found = np.zeros(count)
    both = sums.astype(np.float64)
    diagonal = np.arange(count)
    both[diagonal, diagonal] += _average(both[None])[0] * 1e-6 + 1e-3
    kept = diagonal
    while len(kept):
        values = _eliminate(both[np.ix_(kept, np.append(kept, count))][None])[0]
        negative = np.sort(values[values < 0])
        if len(negative) == 0:
            found[kept] = values
            break
        kept = kept[values > negative[(len(negative) - 1) // 2]]
    return found


def pick_ordered(values: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return what stands at these places of the ordered values."""
    # numpy sorts integers in vector code: faster than finding the few that are wanted.
    found: NDArray[np.int32] = np.sort(values)[places].astype(np.int32)
    return found


def weigh(noise: NDArray[np.int32], floor: int, bits: int) -> NDArray[np.int32]:
    """Return whole weights from 1 to 2^bits that fall with the square of the noise around a voxel."""
    ratio = noise.astype(np.int64)
    ratio *= 10
    ratio += floor
    np.floor_divide(floor << bits, ratio, out=ratio)
    ratio *= ratio
    ratio >>= bits
    weights: NDArray[np.int32] = np.maximum(ratio, 1, out=ratio).astype(np.int32)
    return weights
