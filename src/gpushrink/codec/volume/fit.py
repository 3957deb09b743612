"""Fit a slab's model to a sample of it. Floating point is free here: only the integers it ends in are stored.

Both engines call these very functions, so that both store the same model.
Source: docs/decisions/volume-codec.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import Layout
from gpushrink.codec.volume.levels import Level, Tap, TapSet
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, WEIGHT_BITS
from gpushrink.codec.volume.products import multiply_long

__all__ = ["Sample", "draw_sample", "fit_levels", "fit_stage", "fit_thresholds", "fit_weights"]

_CHUNK = 16_384
_MOST_COEFFICIENT = 1 << 15
_MOST_WEIGHT = 1 << 12
_MOST_WEIGHED = 20_000


@dataclass
class Sample:
    """Hold where the sampled voxels of one kind lie in the raster planes, and where their references lead."""

    places: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    layout: Layout

    def offsets(self, tap: Tap) -> NDArray[np.int64]:
        """Return the places of a neighbour of every sampled voxel."""
        role, row, column = tap
        step = row * self.layout.row_step + column * self.layout.column_step
        if role == 0:
            return self.places + step
        return self.places + step + (self.first if role == 1 else self.second)

    def part(self, chosen: Any) -> Sample:
        """Return some of the voxels."""
        return Sample(self.places[chosen], self.first[chosen], self.second[chosen], self.layout)


def draw_sample(planes: list[tuple[int, int, int]], layout: Layout, level: Level, most: int | None = None) -> Sample:
    """Draw voxels evenly, with a fixed jitter, from (plane, first reference, second reference) triples."""
    area = layout.rows * layout.columns
    total = area * len(planes)
    count = min(total, most or level.fit_most, max(level.fit_least, int(total * level.fit_share)))
    index = np.arange(count, dtype=np.int64)
    begin = index * total // count
    room = np.maximum((index + 1) * total // count - begin, 1)
    # Knuth's multiplicative hash: an even jitter that is the same everywhere.
    chosen = begin + (index * 2654435761 % (1 << 32)) % room
    which, within = np.divmod(chosen, area)
    row, column = np.divmod(within, layout.columns)
    table = np.array(planes, np.int64).reshape(-1, 3)
    plane = table[which, 0]
    places = plane * layout.size + layout.origin + row * layout.row_step + column
    return Sample(places, (table[which, 1] - plane) * layout.size, (table[which, 2] - plane) * layout.size, layout)


def _gather(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int,
    plain: tuple[Tap, ...], feedback: tuple[tuple[int, Tap], ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    west = samples[sample.offsets(plain[0])].astype(np.float64)
    columns = np.empty((len(plain) - 1 + len(feedback), len(west)))
    for k, tap in enumerate(plain[1:]):
        columns[k] = samples[sample.offsets(tap)]
        columns[k] -= west
    for k, (stage, tap) in enumerate(feedback):
        columns[len(plain) - 1 + k] = residuals[stage * stage_size + sample.offsets(tap)]
    return columns, samples[sample.places] - west


def fit_stage(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int, taps: TapSet,
    stage: int, classes: NDArray[np.int64], class_count: int,
    grain: int,
) -> NDArray[np.int32]:  # fmt: skip
    """Fit one stage's coefficients by least squares, one set a class, each drawn towards the common one.

    Voxels in quiet surroundings weigh more: bits follow the error relative to its usual size.
    """
    plain, feedback = taps.plain[stage], taps.feedback[stage]
    width = len(plain) - 1 + len(feedback)
    weights = np.ones(len(sample.places))
    if stage > 0:
        noise = np.zeros(len(sample.places))
        for tap in taps.energy:
            noise += abs(residuals[(stage - 1) * stage_size + sample.offsets(tap)].astype(np.int32))
        weights = 1 / (noise + 0.3 * float(np.median(noise)) + 0.5 * max(len(taps.energy), 1))
        weights *= 10 / weights.mean()
    order = np.argsort(classes, kind="stable")
    bounds = np.searchsorted(classes[order], np.arange(class_count + 1))
    squares = np.zeros((class_count, width, width))
    products = np.zeros((class_count, width))
    for one in range(class_count):
        for begin in range(int(bounds[one]), int(bounds[one + 1]), _CHUNK):
            chosen = order[begin : min(begin + _CHUNK, int(bounds[one + 1]))]
            columns, target = _gather(sample.part(chosen), samples, residuals, stage_size, plain, feedback)
            weighed = np.vstack([columns, target]) * np.square(weights[chosen])
            found = multiply_long(columns, weighed)
            squares[one] += found[:, :-1]
            products[one] += found[:, -1]
    if width == 0:
        return np.zeros((class_count, 0), np.int32)
    sizes = np.diff(bounds)
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
    ordered = np.sort(values)
    places = np.arange(1, parts) * len(ordered) // parts
    cuts = np.unique(ordered[places])
    found: NDArray[np.int32] = cuts[cuts > ordered[0]].astype(np.int32)
    return found


def _energy_columns(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], base: int, taps: TapSet
) -> NDArray[np.int32]:
    columns = np.empty((len(taps.energy) + len(taps.steps), len(sample.places)), np.int32)
    for k, tap in enumerate(taps.energy):
        columns[k] = abs(residuals[base + sample.offsets(tap)].astype(np.int32))
    for k, (one, other) in enumerate(taps.steps):
        difference = samples[sample.offsets(one)].astype(np.int32) - samples[sample.offsets(other)]
        columns[len(taps.energy) + k] = abs(difference)
    return columns


def fit_weights(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], base: int, taps: TapSet
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fit the context's non-negative weights; return them and the energies of the sampled voxels.

    Non-negative least squares by multiplicative updates (Lee and Seung 1999), first plainly, then
    relative to the expected magnitude.
    """
    # A smaller sample than the coefficients': there are few weights, and they differ little.
    sample = sample.part(slice(None, None, -(-len(sample.places) // _MOST_WEIGHED)))
    columns = _energy_columns(sample, samples, residuals, base, taps)
    target = abs(residuals[base + sample.places].astype(np.float64))
    weights = np.full(len(columns), 1 / max(len(columns), 1))
    wide = columns.astype(np.float64)
    for _ in range(2):
        scale = 1 / ((weights[:, None] * wide).sum(axis=0) + 1.0)
        both = multiply_long(wide, np.vstack([wide, target]) * np.square(scale))
        squares, products = both[:, :-1], both[:, -1]
        for _ in range(400):
            weights = np.minimum(weights * np.maximum(products, 1e-9) / (squares @ weights + 1e-9), 8.0)
    stored = np.clip(np.rint(weights * (1 << WEIGHT_BITS)), 0, _MOST_WEIGHT).astype(np.int32)
    return stored, stored @ columns


def fit_levels(energies: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the energies at which contexts part."""
    return fit_thresholds(energies, count)
