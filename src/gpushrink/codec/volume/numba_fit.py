"""What a fit looks up and adds up over its sample of voxels, compiled: what `fit_sums` means."""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled
from gpushrink.codec.parallel import Threads, most_of, run_over
from gpushrink.codec.volume import numba_solve as solver
from gpushrink.codec.volume.fit_sums import Sample
from gpushrink.codec.volume.levels import Tap
from gpushrink.codec.volume.numba_products import BLOCK, add_products
from gpushrink.codec.volume.products import EXACT_LENGTH

__all__ = ["list_magnitudes", "measure_activity", "solver", "sum_magnitudes", "sum_products"]

_compiled = compiled(boundscheck=False)


def _steps(sample: Sample, taps: Sequence[Tap]) -> NDArray[np.int64]:
    """Return what leads to each neighbour: its role and its step in a raster plane, shape (taps, 2)."""
    layout = sample.layout
    pairs = [(role, row * layout.row_step + column * layout.column_step) for role, row, column in taps]
    found: NDArray[np.int64] = np.array(pairs, np.int64).reshape(-1, 2)
    return found


@_compiled
def _measure_activity(samples, places, first, second, r, refs, spatial, temporal, direction):
    for i in range(len(places)):
        at = places[i]
        w, ww, n, nn, nw, ne = (
            np.int32(samples[np.uint64(at - 1)]), np.int32(samples[np.uint64(at - 2)]), np.int32(samples[np.uint64(at - r)]),
            np.int32(samples[np.uint64(at - 2 * r)]), np.int32(samples[np.uint64(at - r - 1)]), np.int32(samples[np.uint64(at - r + 1)]),
        )
        across = abs(w - nw) + abs(n - nn)
        along = abs(n - nw) + abs(n - ne)
        space = across + along + abs(w - ww)
        time = np.int64(0)
        if refs:
            f = at + first[i]
            p, pw, pe, pn, ps = (
                np.int32(samples[np.uint64(f)]), np.int32(samples[np.uint64(f - 1)]), np.int32(samples[np.uint64(f + 1)]),
                np.int32(samples[np.uint64(f - r)]), np.int32(samples[np.uint64(f + r)]),
            )
            pnw, pne = np.int32(samples[np.uint64(f - r - 1)]), np.int32(samples[np.uint64(f - r + 1)])
            pp = np.int32(samples[np.uint64(at + second[i])])
            space += abs(p - pw) + abs(p - pe) + abs(p - pn) + abs(p - ps)
            time = abs(w - pw) + abs(n - pn) + abs(nw - pnw) + abs(ne - pne) + abs(p - pp)
        spatial[i] = space
        temporal[i] = time
        direction[i] = np.int32(2 * across >= along) + np.int32(across >= along) + np.int32(across >= 2 * along)


@_compiled
def _sum_magnitudes(residuals, base, places, first, second, steps, total):
    for i in range(len(places)):
        at = base + places[i]
        sums = np.int32(0)
        for k in range(len(steps)):
            role = steps[k, 0]
            o = at + steps[k, 1] + (first[i] if role == 1 else 0) + (second[i] if role == 2 else 0)
            sums += abs(np.int32(residuals[np.uint64(o)]))
        total[i] = sums


@_compiled
def _list_differences(samples, places, first, second, ones, others, columns):
    for i in range(len(places)):
        at, f, s = places[i], first[i], second[i]
        for k in range(len(ones)):
            a = at + ones[k, 1] + (f if ones[k, 0] == 1 else 0) + (s if ones[k, 0] == 2 else 0)
            b = at + others[k, 1] + (f if others[k, 0] == 1 else 0) + (s if others[k, 0] == 2 else 0)
            columns[k, i] = abs(np.int32(samples[np.uint64(a)]) - np.int32(samples[np.uint64(b)]))


@_compiled
def _gather(samples, residuals, stage_size, places, first, second, plain, feedback, stages, chosen, table):
    """Lay out the regressors and the target of a block of voxels, shape (regressors + 1, block)."""
    plain_count, feedback_count = np.uint64(len(plain)), np.uint64(len(feedback))
    bases = np.empty(3, np.int64)
    one = np.uint64(1)
    for s in range(len(chosen)):
        i, here = np.uint64(chosen[s]), np.uint64(s)
        at = places[i]
        bases[0], bases[1], bases[2] = at, at + first[i], at + second[i]
        west = np.int32(samples[np.uint64(at + plain[0, 1])])
        for k in range(one, plain_count):
            o = bases[np.uint64(plain[k, 0])] + plain[k, 1]
            table[k - one, here] = np.float64(np.int32(samples[np.uint64(o)]) - west)
        for k in range(feedback_count):
            o = bases[np.uint64(feedback[k, 0])] + feedback[k, 1]
            table[plain_count - one + k, here] = np.float64(residuals[np.uint64(o + stages[k] * stage_size)])
        table[plain_count + feedback_count - one, here] = np.float64(np.int32(samples[np.uint64(at)]) - west)


@_compiled
def _sum_products(samples, residuals, stage_size, places, first, second, plain, feedback, stages, weights, order, bounds, total):
    width = len(plain) + len(feedback)
    table = np.zeros((width, BLOCK))
    weighed = np.zeros((width, BLOCK))
    weight = np.zeros(BLOCK)
    sums = np.zeros((width, width))
    for one in range(len(bounds) - 1):
        for begin in range(bounds[one], bounds[one + 1], EXACT_LENGTH):
            end = min(begin + EXACT_LENGTH, bounds[one + 1])
            sums[:] = 0.0
            for at in range(begin, end, BLOCK):
                chosen = order[at : min(at + BLOCK, end)]
                _gather(samples, residuals, stage_size, places, first, second, plain, feedback, stages, chosen, table)
                count = len(chosen)
                for s in range(count):
                    weight[s] = weights[np.uint64(chosen[s])]
                weight[count:] = 0.0
                for k in range(width):
                    row, out = table[k], weighed[k]
                    for s in range(BLOCK):
                        out[s] = row[s] * weight[s]
                add_products(table, weighed, sums)
            for i in range(width):
                for j in range(min(i + 1, width - 1)):
                    # The lower triangle, which holds the target's row, lies in `total` as columns.
                    total[one, j, i] += np.int64(sums[i, j])
        for i in range(width - 1):
            for j in range(i):
                total[one, i, j] = total[one, j, i]


def measure_activity(
    sample: Sample, samples: NDArray[np.uint16], has_references: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Do what `fit_sums.measure_activity` does."""
    found = np.empty((3, len(sample.places)), np.int32)
    spatial, temporal, direction = found[0], found[1], found[2]
    _measure_activity(samples, sample.places, sample.first, sample.second, sample.layout.row_step, has_references, spatial, temporal, direction)
    return spatial, temporal, direction


def sum_magnitudes(sample: Sample, residuals: NDArray[np.int16], base: int, taps: Sequence[Tap]) -> NDArray[np.int32]:
    """Do what `fit_sums.sum_magnitudes` does."""
    total = np.empty(len(sample.places), np.int32)
    _sum_magnitudes(residuals, base, sample.places, sample.first, sample.second, _steps(sample, taps), total)
    return total


def list_magnitudes(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], base: int, energy: Sequence[Tap],
    steps: Sequence[tuple[Tap, Tap]],
) -> NDArray[np.int32]:
    """Do what `fit_sums.list_magnitudes` does."""
    columns = np.empty((len(energy) + len(steps), len(sample.places)), np.int32)
    for k, tap in enumerate(energy):
        _sum_magnitudes(residuals, base, sample.places, sample.first, sample.second, _steps(sample, [tap]), columns[k])
    ones, others = _steps(sample, [one for one, _ in steps]), _steps(sample, [other for _, other in steps])
    _list_differences(samples, sample.places, sample.first, sample.second, ones, others, columns[len(energy) :])
    return columns


def sum_products(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int, plain: Sequence[Tap],
    feedback: Sequence[tuple[int, Tap]], weights: NDArray[np.int32], order: NDArray[np.int64],
    bounds: NDArray[np.int64], threads: Threads = 1,
) -> NDArray[np.int64]:
    """Do what `fit_sums.sum_products` does."""
    width = len(plain) + len(feedback)
    total = np.zeros((len(bounds) - 1, width - 1, width), np.int64)
    stages = np.array([stage for stage, _ in feedback], np.int64)
    own, echoes = _steps(sample, plain), _steps(sample, [tap for _, tap in feedback])

    def add(classes: slice) -> None:
        _sum_products(
            samples, residuals, stage_size, sample.places, sample.first, sample.second, own, echoes, stages, weights, order,
            bounds[classes.start : classes.stop + 1], total[classes],
        )

    # Classes have about as many voxels each: a sum is never split.
    parts = most_of(threads)
    edges = [(len(bounds) - 1) * k // parts for k in range(parts + 1)]
    run_over(add, [slice(a, b) for a, b in pairwise(edges) if a < b], threads=threads)
    return total
