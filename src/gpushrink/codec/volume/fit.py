"""Fit a slab's model to a sample of it.

What is summed over many voxels is whole numbers, exactly: an engine or a device may sum them in any order (`fit_sums`
says what it means). Where floating point begins, in what is solved from those sums, all of them call the functions of
this module, and so store the same model.
Source: docs/decisions/volume-codec.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.parallel import Threads
from gpushrink.codec.volume import solve
from gpushrink.codec.volume.fit_sums import Sample
from gpushrink.codec.volume.geometry import Layout
from gpushrink.codec.volume.levels import Level, TapSet
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, PlaneModel

__all__ = [
    "RUN",
    "choose_classes",
    "choose_levels",
    "draw_sample",
    "find_solver",
    "fit_stage",
    "fit_thresholds",
    "fit_weights",
    "floor_of",
    "list_weighed",
    "sample_count",
    "solve_stage",
    "solve_weights",
    "weight_bits",
    "weights_step",
]

_MOST_COEFFICIENT: Final = 1 << 15
_MOST_WEIGHED: Final = 20_000
_MOST_WEIGHT_BITS: Final = 18
# Voxels drawn side by side: they share what the memory brings, and fits are no worse (docs/decisions/volume-codec.md).
RUN: Final = 16
# Planes that are less than a quarter of a slab are fitted to fewer voxels, in proportion.
_LEAST_FOR_SHARES: Final = 4
_FEWEST_FITTED: Final = 40_000
# A context's frequencies cost tens of bytes: small slabs do with fewer of them.
_SAMPLES_PER_LEVEL: Final = 40_000


@cache
def find_solver() -> ModuleType:
    """Return `solve` or, where numba can be had, its compiled twin: devices ask no engine."""
    try:
        import_module("numba")
    except ImportError:  # not there, or not for this machine
        return solve
    return import_module("gpushrink.codec.volume.numba_solve")


def sample_count(total: int, level: Level, share: float) -> int:
    """Return how many of so many voxels a level fits to, in planes that are such a share of their slab's.

    Where few planes of many have no references, their model is for few voxels: it does with a smaller sample.
    """
    least = min(level.fit_least, max(_FEWEST_FITTED, int(level.fit_least * _LEAST_FOR_SHARES * share)))
    return min(total, level.fit_most, max(least, int(total * level.fit_share)))


def draw_sample(planes: list[tuple[int, int, int]], layout: Layout, level: Level, share: float) -> Sample:
    """Draw runs of voxels evenly, with a fixed jitter, from (plane, first reference, second reference) triples.

    They are such a share of the slab's planes.
    """
    area = layout.rows * layout.columns
    total = area * len(planes)
    count = sample_count(total, level, share)
    runs = -(-count // RUN)
    index = np.arange(runs, dtype=np.int64)
    begin = index * total // runs
    room = np.maximum((index + 1) * total // runs - begin - (RUN - 1), 1)
    # Knuth's multiplicative hash: an even jitter that is the same everywhere.
    begin += (index * 2654435761 % (1 << 32)) % room
    chosen = np.minimum((begin[:, None] + np.arange(RUN)).ravel()[:count], total - 1)
    which, within = np.divmod(chosen, area)
    del chosen  # samples are large: what has served makes room
    table = np.array(planes, np.int64).reshape(-1, 3) * layout.size
    places = (table[:, 0] + layout.origin)[which]
    row = within // layout.columns
    places += within
    # A row of the padded plane is longer than one of samples.
    places += row * (layout.row_step - layout.columns)
    del within, row
    return Sample(places, (table[:, 1] - table[:, 0])[which], (table[:, 2] - table[:, 0])[which], layout)


def fit_stage(
    sums: ModuleType, sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int,
    taps: TapSet, stage: int, classes: NDArray[np.uint16], class_count: int, grain: int, span: int,
    threads: Threads = 1,
) -> NDArray[np.int32]:  # fmt: skip
    """Fit one stage's coefficients by least squares, one set a class, each drawn towards the common one.

    Voxels in quiet surroundings weigh more: bits follow the error relative to its usual size.
    """
    plain, feedback = taps.plain[stage], taps.feedback[stage]
    weights = np.ones(len(sample.places), np.int32)
    if stage > 0:
        noise = sums.sum_magnitudes(sample, residuals, (stage - 1) * stage_size, taps.energy)
        floor = floor_of(noise, len(taps.energy), sums.solver)
        weights = sums.solver.weigh(noise, floor, weight_bits(span, len(noise)))
    order = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes, minlength=class_count)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    found = sums.sum_products(
        sample, samples, residuals, stage_size, plain, feedback, weights, order, bounds, threads
    )  # fmt: skip
    return solve_stage(found, sizes, grain, sums.solver)


def floor_of(noise: NDArray[np.int32], tap_count: int, solver: ModuleType | None = None) -> int:
    """Return what noise counts from, in tenths: 0.3 of its median and half a step for each tap."""
    middle = np.array([len(noise) // 2], np.int64)
    return 3 * int((solver or find_solver()).pick_ordered(noise, middle)[0]) + 5 * max(tap_count, 1)


def weight_bits(span: int, count: int) -> int:
    """Return how large weights may be, in bits, for samples up to `span` and so many voxels.

    Differences and residuals stay within the span. A weighed one then has less than 31 bits, `products.EXACT_LENGTH`
    products sum to less than 2^53, and all of them to less than 2^63.
    """
    bits = span.bit_length()
    return min(_MOST_WEIGHT_BITS, 30 - bits, 44 - 2 * bits, 62 - 2 * bits - count.bit_length())


def solve_stage(
    sums: NDArray[np.int64], sizes: NDArray[np.int64], grain: int, solver: ModuleType | None = None
) -> NDArray[np.int32]:
    """Solve the normal equations of each class.

    Parameters
    ----------
    sums
        Shape (classes, taps, taps + 1): weighed products of the taps with each other, of which the upper triangle is
        looked at, and, last, with the target.
    sizes
        Voxels in each class.
    solver
        `solve` or its compiled twin; without, the fastest that this machine has.
    """
    class_count, width = sums.shape[:2]
    if width == 0:
        return np.zeros((class_count, 0), np.int32)
    return _quantise((solver or find_solver()).solve_stage(sums, sizes), grain)


def _quantise(found: NDArray[np.float64], grain: int) -> NDArray[np.int32]:
    scaled = np.rint(found * (1 << (COEFFICIENT_BITS - grain))) * (1 << grain)
    stored: NDArray[np.int32] = np.clip(scaled, -_MOST_COEFFICIENT, _MOST_COEFFICIENT).astype(np.int32)
    return stored


def fit_thresholds(values: NDArray[Any], parts: int, solver: ModuleType | None = None) -> NDArray[np.int32]:
    """Return ascending values that cut a sample into at most `parts` equal shares."""
    if parts < 2 or len(values) == 0:
        return np.zeros(0, np.int32)
    places = np.arange(parts) * len(values) // parts
    ordered = (solver or find_solver()).pick_ordered(values, places).tolist()
    return np.array(sorted({cut for cut in ordered[1:] if cut > ordered[0]}), np.int32)


def fit_weights(
    sums: ModuleType, sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], base: int, taps: TapSet
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fit the context's non-negative weights; return them and the energies of the voxels they were fitted to."""
    sample = sample.part(list_weighed(len(sample.places)))
    columns = sums.list_magnitudes(sample, samples, residuals, base, taps.energy, taps.steps)
    return solve_weights(columns, abs(residuals[base + sample.places].astype(np.int32)), sums.solver)


def weights_step(count: int) -> int:
    """Return one run of voxels in how many the weights are fitted to: they are few, and differ little."""
    return -(-count // _MOST_WEIGHED)


def list_weighed(count: int) -> NDArray[np.int64]:
    """List the voxels of a sample of so many that the weights are fitted to."""
    begins = np.arange(0, count, RUN * weights_step(count))
    found: NDArray[np.int64] = (begins[:, None] + np.arange(RUN)).ravel()
    return found[: len(found) - max(0, int(begins[-1]) + RUN - count)]


def solve_weights(
    columns: NDArray[np.int32], target: NDArray[np.int32], solver: ModuleType | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Fit weights to magnitudes, shape (taps and steps, voxels), and those that they shall foretell.

    Non-negative least squares, first roughly, then relative to the expected magnitude. Returns what is expected too.
    """
    found: tuple[NDArray[np.int32], NDArray[np.int32]] = (solver or find_solver()).fit_magnitudes(columns, target)
    return found


def choose_classes(
    steer: Level, directions: int, spatial: NDArray[np.int32], temporal: NDArray[np.int32], kind: bool,
    solver: ModuleType | None = None,
) -> PlaneModel:  # fmt: skip
    """Choose how many classes the sampled voxels can feed, and the thresholds of their activity between them."""
    across = steer.temporal_classes if kind else 1
    along = steer.spatial_classes
    feed = max(1, steer.samples_per_class)
    while along * across * directions * feed > len(spatial) and along * across > 1:
        if across >= along and across > 1:
            across -= 1
        else:
            along -= 1
    return PlaneModel(fit_thresholds(spatial, along, solver), fit_thresholds(temporal, across, solver))


def choose_levels(
    steer: Level, energies: dict[bool, NDArray[np.int32]], resolved: Sequence[tuple[int, int] | None], places: int,
    solver: ModuleType | None = None,
) -> NDArray[np.int32]:  # fmt: skip
    """Choose the energies at which contexts part, from those of each kind's sampled voxels."""
    parts = []
    for kind, found in energies.items():
        # Kinds count by their shares of the slab: of many equal planes, one first plane is few voxels.
        share = sum((pair is not None) == kind for pair in resolved) / len(resolved)
        parts.append(found[:: max(1, round(1 / share))])
    level_count = min(steer.energy_levels, max(6, places // _SAMPLES_PER_LEVEL))
    return fit_thresholds(np.concatenate(parts), level_count, solver)
