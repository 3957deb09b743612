"""Choose which earlier planes a slab's planes are predicted from, by a measured sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import References
from gpushrink.codec.volume.slab import EngineName, encode_slab

__all__ = ["choose_references", "find_likely_references", "try_references"]

_CHAIN: Final[References] = ((1, 2),)
# Colour planes R G B R G B ...: each from its own past, or green from red and blue from green.
_COLOUR: Final[References] = ((3, 6), (1, 3), (1, 3))
_MOST_STRIDE: Final = 16
_MOST_PLANES: Final = 10
_MOST_SAMPLES: Final = 700
# A pattern that looks worse than the chain by more than this, in bits a sample, is not tried.
_MARGIN_BITS: Final = 0.35
# Nor is one that hardly knows more than the plane itself.
_WORTH_BITS: Final = 0.1
_DIP_BITS: Final = 0.03
_MOST_TRIALS: Final = 2
_MOST_TRIED: Final = 128
_CROP: Final = 32
# A pattern other than the chain has to be clearly better.
_CLEARLY: Final = 0.99


def choose_references(samples: NDArray[Any], *, components: int = 1, engine: EngineName = "auto") -> References:
    """Return the reference pattern under which a sample of the slab is coded smallest.

    Parameters
    ----------
    samples
        Shape (slice, row, column), as `encode_slab` takes it.
    components
        Planes in a row that are the components of one frame.
    """
    return try_references(samples, find_likely_references(samples, components=components), engine=engine)


def find_likely_references(samples: NDArray[Any], *, components: int = 1) -> tuple[References, ...]:
    """Return the patterns that look better than a chain, as a quick measure has it; often there is none.

    Parameters
    ----------
    samples, components
        As `choose_references` takes them.
    """
    depth, rows, columns = samples.shape
    if depth < 3 or rows < 3 or columns < 3:
        return ()
    planes, alone, costs = _measure(samples)
    totals = costs.mean(axis=0).tolist()
    patterns: list[References] = [_CHAIN, *(((stride, 2 * stride),) for stride in range(2, len(totals) + 1))]
    if components == 3 and len(totals) >= 3:
        patterns.append(_COLOUR)
        firsts = [_COLOUR[plane % 3][0] for plane in planes]
        totals.append(float(costs[np.arange(len(planes)), np.array(firsts) - 1].mean()))
    worst = min(totals[0] + _MARGIN_BITS, alone - _WORTH_BITS)
    # Along one axis likeness only fades: planes that are more alike further on are interleaved.
    dips = [place for place in range(1, len(totals)) if totals[place] < min(worst, totals[place - 1] - _DIP_BITS)]
    likely = sorted(dips, key=lambda place: totals[place])
    return tuple(patterns[place] for place in likely[:_MOST_TRIALS])


def try_references(samples: NDArray[Any], likely: Sequence[References], *, engine: EngineName = "auto") -> References:
    """Return the pattern, of a chain and the likely ones, under which the codec itself codes a sample smallest."""
    if not likely:
        return _CHAIN
    _, rows, columns = samples.shape
    # The quick measure knows neither classes nor contexts; the codec itself, on a crop, decides.
    row, column = max(0, (rows - _CROP) // 2), max(0, (columns - _CROP) // 2)
    crop = samples[:_MOST_TRIED, row : row + _CROP, column : column + _CROP]
    best, least = _CHAIN, len(encode_slab(crop, level="fast", engine=engine)) * _CLEARLY
    for pattern in likely:
        size = len(encode_slab(crop, level="fast", engine=engine, references=pattern))
        if size < least:
            best, least = pattern, float(size)
    return best


def _measure(samples: NDArray[Any]) -> tuple[NDArray[np.int64], float, NDArray[np.float64]]:
    """Return some planes and what predicting them from planes before costs, in bits less a common constant.

    A sample's step from its western neighbour is predicted by a share of the same step in the plane before.

    Returns
    -------
    planes
        Their numbers, in threes that follow each other.
    alone
        What the steps cost where nothing predicts them.
    costs
        Shape (planes, distances): the mean logarithm of the residual, from distance 1 on.
    """
    depth, rows, columns = samples.shape
    most = min(_MOST_STRIDE, depth // 2)
    first = min(most, depth - 1)
    anchors = np.linspace(first, depth - 1, _MOST_PLANES // 3 + 1).astype(np.int64)
    planes = np.unique(np.clip(anchors[:, None] - np.arange(3), first, None))
    inner = np.arange(0, (rows - 2) * (columns - 2), max(1, (rows - 2) * (columns - 2) // _MOST_SAMPLES))
    at = inner // (columns - 2) * columns + inner % (columns - 2) + columns + 1

    # Every plane's steps at once: a few large operations, not hundreds of small ones that hold up all other threads.
    # Sums of products of whole numbers are exact in any order.
    wanted = planes[:, None] - np.arange(most + 1)
    is_involved = np.zeros(depth, np.bool_)
    is_involved[wanted] = True
    involved, places = np.flatnonzero(is_involved), (np.cumsum(is_involved) - 1)[wanted]
    flat = samples.reshape(depth, -1)
    steps = np.subtract(flat[involved[:, None], at], flat[involved[:, None], at - 1], dtype=np.float64)
    target, known = steps[places[:, :1]], steps[places[:, 1:]]
    shares = np.matmul(known, target.transpose(0, 2, 1)) / ((known * known).sum(axis=2, keepdims=True) + 1e-3)
    known *= shares
    costs = _cost(np.subtract(target, known, out=known))
    return planes, float(_cost(target).mean()), costs


def _cost(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cost of each row, in bits less a constant."""
    found: NDArray[np.float64] = np.log2(np.abs(steps, out=np.empty_like(steps)).mean(axis=-1) + 0.3)
    return found
