"""Fit a slab's model to a sample of it: only the whole numbers that the fit ends in are stored.

What is looked up and added up comes from an engine (`fit_sums` says what it means) and is the same from all of
them; what floating point makes of those sums is done here, once, for all.
Source: docs/decisions/volume-codec.md.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.fit_sums import WEIGHT_LIMIT, Sample, chunk_length
from gpushrink.codec.volume.geometry import Layout
from gpushrink.codec.volume.levels import Level, TapSet
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, WEIGHT_BITS
from gpushrink.codec.volume.products import multiply_long

__all__ = ["draw_sample", "fit_levels", "fit_stage", "fit_thresholds", "fit_weights"]

_MOST_COEFFICIENT: Final = 1 << 15
_MOST_WEIGHT: Final = 1 << 12
_MOST_WEIGHED: Final = 20_000
# Voxels drawn side by side: they share what the memory brings, and fits are no worse (docs/decisions/volume-codec.md).
_RUN: Final = 16


def draw_sample(planes: list[tuple[int, int, int]], layout: Layout, level: Level, most: int | None = None) -> Sample:
    """Draw runs of voxels evenly, with a fixed jitter, from (plane, first reference, second reference) triples."""
    area = layout.rows * layout.columns
    total = area * len(planes)
    count = min(total, most or level.fit_most, max(level.fit_least, int(total * level.fit_share)))
    runs = -(-count // _RUN)
    index = np.arange(runs, dtype=np.int64)
    begin = index * total // runs
    room = np.maximum((index + 1) * total // runs - begin - (_RUN - 1), 1)
    # Knuth's multiplicative hash: an even jitter that is the same everywhere.
    begin += (index * 2654435761 % (1 << 32)) % room
    chosen = np.minimum((begin[:, None] + np.arange(_RUN)).ravel()[:count], total - 1)
    which, within = np.divmod(chosen, area)
    row, column = np.divmod(within, layout.columns)
    table = np.array(planes, np.int64).reshape(-1, 3)
    plane = table[which, 0]
    places = plane * layout.size + layout.origin + row * layout.row_step + column
    return Sample(places, (table[which, 1] - plane) * layout.size, (table[which, 2] - plane) * layout.size, layout)


def fit_stage(
    sums: ModuleType, sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int,
    taps: TapSet, stage: int, classes: NDArray[np.int64], class_count: int, grain: int, span: int,
    threads: int = 1,
) -> NDArray[np.int32]:  # fmt: skip
    """Fit one stage's coefficients by least squares, one set a class, each drawn towards the common one.

    Voxels in quiet surroundings weigh more: bits follow the error relative to its usual size.
    """
    plain, feedback = taps.plain[stage], taps.feedback[stage]
    width = len(plain) - 1 + len(feedback)
    if width == 0:
        return np.zeros((class_count, 0), np.int32)
    weights = np.full(len(sample.places), 64, np.int32)
    if stage > 0:
        noise = sums.sum_magnitudes(sample, residuals, (stage - 1) * stage_size, taps.energy)
        least = 0.3 * float(np.median(noise)) + 0.5 * max(len(taps.energy), 1)
        quiet = (least + float(noise.min())) / (noise + least)
        weights = np.maximum(np.rint(quiet * quiet * WEIGHT_LIMIT), 1).astype(np.int32)
    order = np.argsort(classes.astype(np.uint16), kind="stable")
    sizes = np.bincount(classes, minlength=class_count)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    both = sums.sum_products(
        sample,
        samples,
        residuals,
        stage_size,
        plain,
        feedback,
        weights,
        order,
        bounds,
        chunk_length(span),
        threads,
    )
    # As if weights had a mean of 100: the small constants below were chosen at that scale.
    both *= 100 / float(weights.mean())
    squares, products = both[:, :-1, :-1], both[:, :-1, -1]
    unit = np.eye(width)
    whole = squares.sum(axis=0)
    ridge = np.trace(whole) / width * 1e-5 + 1e-3
    common = np.linalg.solve(whole + ridge * unit, products.sum(axis=0))
    if class_count == 1:
        return _quantise(common[None], grain)
    trace = np.trace(squares, axis1=1, axis2=2) / width
    ridges = trace * 2e-4 + 1e-3 + 4 * trace / np.maximum(sizes, 1)
    found = np.linalg.solve(squares + ridges[:, None, None] * unit, (products + ridges[:, None] * common)[:, :, None])[
        :, :, 0
    ]
    found[sizes == 0] = common
    return _quantise(found, grain)


def _quantise(found: NDArray[np.float64], grain: int) -> NDArray[np.int32]:
    scaled = np.rint(np.nan_to_num(found) * (1 << (COEFFICIENT_BITS - grain))) * (1 << grain)
    stored: NDArray[np.int32] = np.clip(scaled, -_MOST_COEFFICIENT, _MOST_COEFFICIENT).astype(np.int32)
    return stored


def fit_thresholds(values: NDArray[Any], parts: int) -> NDArray[np.int32]:
    """Return ascending values that cut a sample into at most `parts` equal shares."""
    if parts < 2 or len(values) == 0:
        return np.zeros(0, np.int32)
    places = np.arange(1, parts) * len(values) // parts
    ordered = np.partition(values, np.concatenate([[0], places]))
    cuts = np.unique(ordered[places])
    found: NDArray[np.int32] = cuts[cuts > ordered[0]].astype(np.int32)
    return found


def fit_weights(
    sums: ModuleType, sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], base: int, taps: TapSet
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fit the context's non-negative weights; return them and the energies of the sampled voxels.

    Non-negative least squares, first plainly, then relative to the expected magnitude.
    """
    # A smaller sample than the coefficients': there are few weights, and they differ little.
    every = -(-len(sample.places) // _MOST_WEIGHED)
    sample = sample.part(np.flatnonzero(np.arange(len(sample.places)) // _RUN % every == 0))
    columns = sums.list_magnitudes(sample, samples, residuals, base, taps.energy, taps.steps)
    target = abs(residuals[base + sample.places].astype(np.float64))
    weights = np.full(len(columns), 1 / max(len(columns), 1))
    wide = columns.astype(np.float64)
    for _ in range(2):
        scale = 1 / (weights @ wide + 1.0)
        both = multiply_long(wide, np.vstack([wide, target]) * np.square(scale))
        weights = _solve_non_negative(both[:, :-1], both[:, -1])
    stored = np.clip(np.rint(weights * (1 << WEIGHT_BITS)), 0, _MOST_WEIGHT).astype(np.int32)
    return stored, stored @ columns


def _solve_non_negative(squares: NDArray[np.float64], products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve normal equations for values of at least 0, leaving out what comes out negative, the worst half first."""
    count = len(products)
    kept = np.arange(count)
    ridge = (np.trace(squares) / max(count, 1) * 1e-6 + 1e-3) * np.eye(count)
    found = np.zeros(count)
    while len(kept):
        values = np.linalg.solve((squares + ridge)[np.ix_(kept, kept)], products[kept])
        negative = values < 0
        if not negative.any():
            found[kept] = values
            break
        kept = kept[values > np.minimum(np.median(values[negative]), 0)] if negative.sum() > 1 else kept[~negative]
    return np.minimum(found, 8.0)


def fit_levels(energies: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the energies at which contexts part."""
    return fit_thresholds(energies, count)
