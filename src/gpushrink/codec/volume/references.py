"""Choose which earlier planes a slab's planes are predicted from, by a measured sample."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import References
from gpushrink.codec.volume.products import multiply_long
from gpushrink.codec.volume.slab import EngineName, encode_slab

__all__ = ["choose_references"]

_CHAIN: Final[References] = ((1, 2),)
# Colour planes R G B R G B ...: each from its own past, or green from red and blue from green.
_COLOUR: Final[References] = ((3, 6), (1, 3), (1, 3))
_MOST_STRIDE: Final = 16
_MOST_PLANES: Final = 8
_MOST_SAMPLES: Final = 20_000
# Patterns that look worse than the chain by more than this are not tried.
_MARGIN_BITS: Final = 0.1
_MOST_TRIALS: Final = 2
_MOST_TRIED: Final = 64
_CROP: Final = 64
# A pattern other than the chain has to be clearly better.
_CLEARLY: Final = 0.99


def choose_references(samples: NDArray[Any], *, engine: EngineName = "auto") -> References:
    """Return the reference pattern under which a sample of the slab is predicted best.

    Parameters
    ----------
    samples
        Shape (slice, row, column), as `encode_slab` takes it.
    """
    depth, rows, columns = samples.shape
    if depth < 3 or rows < 3 or columns < 3:
        return _CHAIN
    strides = [stride for stride in range(2, _MOST_STRIDE + 1) if stride * 2 <= depth]
    patterns: list[References] = [_CHAIN, _COLOUR, *(((stride, 2 * stride),) for stride in strides)]
    first = min(2 * max([2, *strides]), depth - 1)
    planes = np.unique(np.linspace(first, depth - 1, _MOST_PLANES).astype(int))
    if len(planes) >= 6:
        planes = np.unique(np.concatenate([planes, np.minimum(planes + 1, depth - 1)]))
    costs = np.array([_measure(samples, planes, pattern) for pattern in patterns[1:]])
    likely = [patterns[1 + place] for place in np.argsort(costs, kind="stable")[:_MOST_TRIALS]]
    if costs.min() > _measure(samples, planes, _CHAIN) + _MARGIN_BITS:
        return _CHAIN
    # The quick measure knows neither classes nor contexts; the codec itself, on a crop, decides.
    row, column = max(0, (rows - _CROP) // 2), max(0, (columns - _CROP) // 2)
    crop = samples[:_MOST_TRIED, row : row + _CROP, column : column + _CROP]
    best, least = _CHAIN, len(encode_slab(crop, level="fast", engine=engine)) * _CLEARLY
    for pattern in likely:
        size = len(encode_slab(crop, level="fast", engine=engine, references=pattern))
        if size < least:
            best, least = pattern, float(size)
    return best


def _measure(samples: NDArray[Any], planes: NDArray[Any], pattern: References) -> float:
    """Return the mean logarithm of the least-squares residual, in bits, less a common constant."""
    total = 0.0
    rows, columns = samples.shape[1:]
    for plane in planes:
        first, second = pattern[plane % len(pattern)]
        if first > plane:
            continue
        p = samples[plane - first].ravel()
        q = samples[plane - second if second <= plane else plane - first].ravel()
        image = samples[plane].ravel()
        # Places off the border, and only their neighbours: taking whole planes apart costs more than the rest.
        inner = np.arange(0, (rows - 2) * (columns - 2), max(1, image.size // _MOST_SAMPLES))
        at = inner // (columns - 2) * columns + inner % (columns - 2) + columns + 1
        west = image[at - 1].astype(np.float64)
        near = (image[at - columns], image[at - columns - 1], image[at - columns + 1], p[at], p[at - 1],
                p[at - columns], p[at + 1], p[at + columns], q[at])  # fmt: skip
        table = np.stack(near).astype(np.float64) - west
        target = image[at] - west
        both = multiply_long(table, np.vstack([table, target]))
        squares = both[:, :-1]
        found = np.linalg.solve(squares + (np.trace(squares) * 1e-6 + 1e-3) * np.eye(len(table)), both[:, -1])
        total += float(np.log2(np.abs(target - (found[:, None] * table).sum(axis=0)).mean() + 0.3))
    return total / len(planes)
