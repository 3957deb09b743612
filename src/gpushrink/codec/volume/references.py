"""Choose which earlier planes a slab's planes are predicted from, by a measured sample."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import References
from gpushrink.codec.volume.slab import EngineName, encode_slab

__all__ = ["choose_references"]

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
_CROP: Final = 48
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
    depth, rows, columns = samples.shape
    if depth < 3 or rows < 3 or columns < 3:
        return _CHAIN
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
    if not likely:
        return _CHAIN
    # The quick measure knows neither classes nor contexts; the codec itself, on a crop, decides.
    row, column = max(0, (rows - _CROP) // 2), max(0, (columns - _CROP) // 2)
    crop = samples[:_MOST_TRIED, row : row + _CROP, column : column + _CROP]
    best, least = _CHAIN, len(encode_slab(crop, level="fast", engine=engine)) * _CLEARLY
    for place in likely[:_MOST_TRIALS]:
        size = len(encode_slab(crop, level="fast", engine=engine, references=patterns[place]))
        if size < least:
            best, least = patterns[place], float(size)
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
    row, column = inner // (columns - 2) + 1, inner % (columns - 2) + 1
    # All pairs at once: one by one they would cost the interpreter more than the arithmetic does.
    known = planes[:, None] - np.arange(1, most + 1)
    needed, back = np.unique(np.concatenate([planes, known.ravel()]), return_inverse=True)
    chosen = samples[needed[:, None], row, column].astype(np.float64)
    steps = chosen - samples[needed[:, None], row, column - 1]
    targets, others = steps[back[: len(planes)]], steps[back[len(planes) :].reshape(known.shape)]
    energy = np.einsum("ij,ij->i", steps, steps)[back[len(planes) :].reshape(known.shape)]
    share = np.einsum("ij,ikj->ik", targets, others) / (energy + 1e-3)
    others *= -share[:, :, None]
    others += targets[:, None]
    costs = _cost(others)
    return planes, float(_cost(targets).mean()), costs


def _cost(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the bits of a step along the last axis, less a common constant."""
    found: NDArray[np.float64] = np.log2(np.abs(steps).mean(axis=-1) + 0.3)
    return found
