"""Fit a slab's model to a sample of it.

What is summed over many voxels is whole numbers, exactly: a device may sum them in any order. Where floating point
begins, in what is solved from those sums, all engines call the functions of this module, and so store the same model.
Source: docs/decisions/volume-codec.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import Layout
from gpushrink.codec.volume.levels import Level, Tap, TapSet
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, WEIGHT_BITS, PlaneModel
from gpushrink.codec.volume.products import multiply_exactly, multiply_long

__all__ = [
    "Sample",
    "choose_classes",
    "choose_levels",
    "draw_sample",
    "fit_stage",
    "fit_thresholds",
    "fit_weights",
    "floor_of",
    "sample_count",
    "solve_stage",
    "solve_weights",
    "weigh",
    "weight_bits",
    "weights_step",
]

_CHUNK = 16_384
_MOST_COEFFICIENT = 1 << 15
_MOST_WEIGHT = 1 << 12
_MOST_WEIGHED = 20_000
_UPDATES = 100
_MOST_WEIGHT_BITS = 18
# A context's frequencies cost tens of bytes: small slabs do with fewer of them.
_SAMPLES_PER_LEVEL = 40_000


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


def sample_count(total: int, level: Level) -> int:
    """Return how many of so many voxels a level fits to."""
    return min(total, level.fit_most, max(level.fit_least, int(total * level.fit_share)))


def draw_sample(planes: list[tuple[int, int, int]], layout: Layout, level: Level) -> Sample:
    """Draw voxels evenly, with a fixed jitter, from (plane, first reference, second reference) triples."""
    area = layout.rows * layout.columns
    total = area * len(planes)
    count = sample_count(total, level)
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
    stage: int, classes: NDArray[np.int64], class_count: int, grain: int, span: int,
) -> NDArray[np.int32]:  # fmt: skip
    """Fit one stage's coefficients by least squares, one set a class, each drawn towards the common one.

    Voxels in quiet surroundings weigh more: bits follow the error relative to its usual size. The sums are of whole
    numbers and exact, so whoever takes them, in whatever order, gets the same ones.
    """
    plain, feedback = taps.plain[stage], taps.feedback[stage]
    width = len(plain) - 1 + len(feedback)
    weights: NDArray[np.int64] | None = None
    if stage > 0:
        noise = np.zeros(len(sample.places), np.int32)
        for tap in taps.energy:
            noise += abs(residuals[(stage - 1) * stage_size + sample.offsets(tap)].astype(np.int32))
        weights = weigh(noise, floor_of(noise, len(taps.energy)), weight_bits(span, len(noise)))
    order = np.argsort(classes, kind="stable")
    bounds = np.searchsorted(classes[order], np.arange(class_count + 1))
    sums = np.zeros((class_count, width, width + 1), np.int64)
    for one in range(class_count):
        for begin in range(int(bounds[one]), int(bounds[one + 1]), _CHUNK):
            chosen = order[begin : min(begin + _CHUNK, int(bounds[one + 1]))]
            columns, target = _gather(sample.part(chosen), samples, residuals, stage_size, plain, feedback)
            weighed = np.vstack([columns, target])
            if weights is not None:
                weighed *= weights[chosen]
            sums[one] += multiply_exactly(columns, weighed)
    return solve_stage(sums, np.diff(bounds), grain)


def floor_of(noise: NDArray[np.int32], tap_count: int) -> int:
    """Return what noise counts from, in tenths: 0.3 of its median and half a step for each tap."""
    middle = len(noise) // 2
    return 3 * int(np.partition(noise, middle)[middle]) + 5 * max(tap_count, 1)


def weight_bits(span: int, count: int) -> int:
    """Return how large weights may be, in bits, for samples up to `span` and so many voxels.

    Differences and residuals stay within the span. A weighed one then has less than 31 bits, 512 products sum to
    less than 2^53 (see `multiply_exactly`), and all of them to less than 2^63.
    """
    bits = span.bit_length()
    return min(_MOST_WEIGHT_BITS, 30 - bits, 44 - 2 * bits, 62 - 2 * bits - count.bit_length())


def weigh(noise: NDArray[np.int32], floor: int, bits: int) -> NDArray[np.int64]:
    """Return whole weights from 1 to 2^bits that fall with the square of the noise around a voxel."""
    ratio = (floor << bits) // (10 * noise.astype(np.int64) + floor)
    weights: NDArray[np.int64] = np.maximum(ratio * ratio >> bits, 1)
    return weights


def solve_stage(sums: NDArray[np.int64], sizes: NDArray[np.int64], grain: int) -> NDArray[np.int32]:
    """Solve the normal equations of each class.

    Parameters
    ----------
    sums
        Shape (classes, taps, taps + 1): weighed products of the taps with each other and, last, with the target.
    sizes
        Voxels in each class.
    """
    class_count, width = sums.shape[:2]
    if width == 0:
        return np.zeros((class_count, 0), np.int32)
    squares, products = sums[:, :, :-1].astype(np.float64), sums[:, :, -1].astype(np.float64)
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
    sample = sample.part(slice(None, None, weights_step(len(sample.places))))
    columns = _energy_columns(sample, samples, residuals, base, taps)
    return solve_weights(columns, abs(residuals[base + sample.places].astype(np.int32)))


def weights_step(count: int) -> int:
    """Return one voxel in how many the weights are fitted to: they are few, and differ little."""
    return -(-count // _MOST_WEIGHED)


def solve_weights(columns: NDArray[np.int32], target: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fit weights to magnitudes, shape (taps and steps, voxels), and those that they shall foretell."""
    weights = np.full(len(columns), 1 / max(len(columns), 1))
    wide = columns.astype(np.float64)
    wanted = target.astype(np.float64)
    for _ in range(2):
        scale = 1 / ((weights[:, None] * wide).sum(axis=0) + 1.0)
        both = multiply_long(wide, np.vstack([wide, wanted]) * np.square(scale))
        squares, products = both[:, :-1], both[:, -1]
        for _ in range(_UPDATES):
            weights = np.minimum(weights * np.maximum(products, 1e-9) / (squares @ weights + 1e-9), 8.0)
    stored = np.clip(np.rint(weights * (1 << WEIGHT_BITS)), 0, _MOST_WEIGHT).astype(np.int32)
    return stored, stored @ columns


def choose_classes(
    steer: Level, directions: int, spatial: NDArray[np.int32], temporal: NDArray[np.int32], kind: bool
) -> PlaneModel:
    """Choose how many classes the sampled voxels can feed, and the thresholds of their activity between them."""
    across = steer.temporal_classes if kind else 1
    along = steer.spatial_classes
    feed = max(1, steer.samples_per_class)
    while along * across * directions * feed > len(spatial) and along * across > 1:
        if across >= along and across > 1:
            across -= 1
        else:
            along -= 1
    return PlaneModel(fit_thresholds(spatial, along), fit_thresholds(temporal, across))


def choose_levels(
    steer: Level, energies: dict[bool, NDArray[np.int32]], resolved: list[tuple[int, int] | None], places: int
) -> NDArray[np.int32]:
    """Choose the energies at which contexts part, from those of each kind's sampled voxels."""
    parts = []
    for kind, found in energies.items():
        # Kinds count by their shares of the slab: of many equal planes, one first plane is few voxels.
        share = sum((pair is not None) == kind for pair in resolved) / len(resolved)
        parts.append(found[:: max(1, round(1 / share))])
    level_count = min(steer.energy_levels, max(6, places // _SAMPLES_PER_LEVEL))
    return fit_thresholds(np.concatenate(parts), level_count)
