"""What a fit looks up and adds up over its sample of voxels, in numpy: the meaning.

All of it is whole numbers, so no order of adding, no engine, no device and no number of threads changes it.
Source: docs/decisions/volume-codec.md, section "Exact sums".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.parallel import Threads
from gpushrink.codec.volume import solve as solver
from gpushrink.codec.volume.geometry import Layout
from gpushrink.codec.volume.levels import Tap
from gpushrink.codec.volume.products import multiply_exactly

__all__ = ["Sample", "list_magnitudes", "measure_activity", "solver", "sum_magnitudes", "sum_products"]

# Voxels gathered at once: bounds memory, changes no sum.
_GATHERED: Final = 2048


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


def measure_activity(
    sample: Sample, samples: NDArray[np.uint16], has_references: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return each voxel's spatial and temporal activity and its direction class."""

    def near(role: int, row: int, column: int) -> NDArray[np.int32]:
        return samples[sample.offsets((role, row, column))].astype(np.int32)

    w, ww, n, nn = near(0, 0, -1), near(0, 0, -2), near(0, -1, 0), near(0, -2, 0)
    nw, ne = near(0, -1, -1), near(0, -1, 1)
    across, along = abs(w - nw) + abs(n - nn), abs(n - nw) + abs(n - ne)
    spatial = across + along + abs(w - ww)
    temporal = np.zeros_like(spatial)
    if has_references:
        p = near(1, 0, 0)
        for row, column in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            spatial += abs(p - near(1, row, column))
        temporal = abs(w - near(1, 0, -1)) + abs(n - near(1, -1, 0)) + abs(p - near(2, 0, 0))
        temporal += abs(nw - near(1, -1, -1)) + abs(ne - near(1, -1, 1))
    direction = (2 * across >= along).astype(np.int32) + (across >= along) + (across >= 2 * along)
    return spatial, temporal, direction


def sum_magnitudes(sample: Sample, residuals: NDArray[np.int16], base: int, taps: Sequence[Tap]) -> NDArray[np.int32]:
    """Return, for each voxel, the sum of its neighbours' residual magnitudes; a stage's residuals begin at `base`."""
    total = np.zeros(len(sample.places), np.int32)
    for tap in taps:
        total += abs(residuals[base + sample.offsets(tap)].astype(np.int32))
    return total


def list_magnitudes(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], base: int, energy: Sequence[Tap],
    steps: Sequence[tuple[Tap, Tap]],
) -> NDArray[np.int32]:  # fmt: skip
    """Return what the context weighs, shape (energy taps + steps, voxels)."""
    columns = np.empty((len(energy) + len(steps), len(sample.places)), np.int32)
    for k, tap in enumerate(energy):
        columns[k] = abs(residuals[base + sample.offsets(tap)].astype(np.int32))
    for k, (one, other) in enumerate(steps):
        difference = samples[sample.offsets(one)].astype(np.int32) - samples[sample.offsets(other)]
        columns[len(energy) + k] = abs(difference)
    return columns


def sum_products(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int, plain: Sequence[Tap],
    feedback: Sequence[tuple[int, Tap]], weights: NDArray[np.int32], order: NDArray[np.int64],
    bounds: NDArray[np.int64], threads: Threads = 1,
) -> NDArray[np.int64]:  # fmt: skip
    """Add up the normal equations of every class.

    The regressors are the plain taps less the first, west, each less west, then the feedback taps; the target is
    the voxel less west.

    Parameters
    ----------
    weights
        Of each voxel, at least 1 and within `fit.weight_bits`.
    order, bounds
        Every voxel once, by class: those of class c are ``order[bounds[c]:bounds[c + 1]]``, ascending.
    threads
        How many may work; this one needs none.

    Returns
    -------
    int64
        Shape (classes, regressors, regressors + 1): weighed products of all pairs, those with the target last.
    """
    width = len(plain) - 1 + len(feedback)
    total = np.zeros((len(bounds) - 1, width, width + 1), np.int64)
    for one in range(len(bounds) - 1):
        for at in range(int(bounds[one]), int(bounds[one + 1]), _GATHERED):
            chosen = order[at : min(at + _GATHERED, int(bounds[one + 1]))]
            columns = _gather(sample.part(chosen), samples, residuals, stage_size, plain, feedback)
            total[one] += multiply_exactly(columns[:-1], columns * weights[chosen])
    return total


def _gather(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int, plain: Sequence[Tap],
    feedback: Sequence[tuple[int, Tap]],
) -> NDArray[np.float64]:  # fmt: skip
    west = samples[sample.offsets(plain[0])].astype(np.float64)
    columns = np.empty((len(plain) + len(feedback), len(west)))
    for k, tap in enumerate(plain[1:]):
        columns[k] = samples[sample.offsets(tap)]
        columns[k] -= west
    for k, (stage, tap) in enumerate(feedback):
        columns[len(plain) - 1 + k] = residuals[stage * stage_size + sample.offsets(tap)]
    columns[-1] = samples[sample.places] - west
    return columns
