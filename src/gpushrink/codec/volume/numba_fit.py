"""What a fit looks up and adds up over its sample of voxels, compiled: what `fit_sums` means."""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled
from gpushrink.codec.parallel import Threads, most_of, run_over
from gpushrink.codec.volume import numba_solve as solver
from gpushrink.codec.volume.fit import RUN
from gpushrink.codec.volume.fit_sums import Sample
from gpushrink.codec.volume.levels import Tap
from gpushrink.codec.volume.numba_prefetch import prefetch
from gpushrink.codec.volume.numba_products import BLOCK, add_products
from gpushrink.codec.volume.products import EXACT_LENGTH

__all__ = ["list_magnitudes", "measure_activity", "solver", "sum_magnitudes", "sum_products"]

_compiled = compiled(boundscheck=False)
_inlined = compiled(boundscheck=False, inline="never")
_spliced = compiled(boundscheck=False, inline="always")
# Voxels whose neighbours are laid out at a time: they stay in a cache.
_LAID_OUT: Final = 16384
# What threads may hold together: sums and layouts of their own, of which slabs of many classes have large ones.
_PARTS_BYTES: Final = 8 << 20


def _steps(sample: Sample, taps: Sequence[Tap]) -> NDArray[np.int64]:
    """Return what leads to each neighbour: its role and its step in a raster plane, shape (taps, 2)."""
    layout = sample.layout
    pairs = [(role, row * layout.row_step + column * layout.column_step) for role, row, column in taps]
    found: NDArray[np.int64] = np.array(pairs, np.int64).reshape(-1, 2)
    return found


@_inlined
def _side_by_side(places, first, second, i, stop):
    """Count the voxels from i on that lie side by side, and so do their neighbours: vector code takes them at once."""
    n = i + 1
    while n < stop and places[n] - places[i] == n - i and first[n] == first[i] and second[n] == second[i]:
        n += 1
    return n - i


@_spliced
def _lead(at, step, first, second):
    """Return where a step leads from a voxel at `at` whose reference planes lie so far off."""
    return at + step[1] + (first if step[0] == 1 else 0) + (second if step[0] == 2 else 0)


@_spliced
def _ask_for(values, base, place, first, second, steps):
    """Ask for all neighbours of a run at once: one after the other, each would wait for memory of its own."""
    for k in range(len(steps)):
        prefetch(values, base + _lead(place, steps[k], first, second))


@_compiled
def _measure_activity(samples, places, first, second, r, refs, spatial, temporal, direction):
    begin = 0
    while begin < len(places):
        count = _side_by_side(places, first, second, begin, len(places))
        at = places[begin]
        w, ww, n = samples[at - 1 : at - 1 + count], samples[at - 2 : at - 2 + count], samples[at - r : at - r + count]
        nn, nw, ne = samples[at - 2 * r : at - 2 * r + count], samples[at - r - 1 : at - r - 1 + count], samples[at - r + 1 : at - r + 1 + count]
        space, time, turn = spatial[begin : begin + count], temporal[begin : begin + count], direction[begin : begin + count]
        for i in range(count):
            vw, vn, vnw = np.int32(w[i]), np.int32(n[i]), np.int32(nw[i])
            across = abs(vw - vnw) + abs(vn - np.int32(nn[i]))
            along = abs(vn - vnw) + abs(vn - np.int32(ne[i]))
            space[i] = across + along + abs(vw - np.int32(ww[i]))
            turn[i] = np.int32(2 * across >= along) + np.int32(across >= along) + np.int32(across >= 2 * along)
            time[i] = np.int32(0)
        if refs:
            f, g = at + first[begin], at + second[begin]
            p, pw, pe = samples[f : f + count], samples[f - 1 : f - 1 + count], samples[f + 1 : f + 1 + count]
            pn, ps, pp = samples[f - r : f - r + count], samples[f + r : f + r + count], samples[g : g + count]
            pnw, pne = samples[f - r - 1 : f - r - 1 + count], samples[f - r + 1 : f - r + 1 + count]
            for i in range(count):
                vp, vpw, vpn = np.int32(p[i]), np.int32(pw[i]), np.int32(pn[i])
                space[i] += abs(vp - vpw) + abs(vp - np.int32(pe[i])) + abs(vp - vpn) + abs(vp - np.int32(ps[i]))
                time[i] = abs(np.int32(w[i]) - vpw) + abs(np.int32(n[i]) - vpn) + abs(vp - np.int32(pp[i]))
                time[i] += abs(np.int32(nw[i]) - np.int32(pnw[i])) + abs(np.int32(ne[i]) - np.int32(pne[i]))
        begin += count


@_compiled
def _sum_magnitudes(residuals, base, places, first, second, steps, total):
    total[:] = 0
    begin = 0
    while begin < len(places):
        count = _side_by_side(places, first, second, begin, len(places))
        sums = total[begin : begin + count]
        _ask_for(residuals, base, places[begin], first[begin], second[begin], steps)
        for k in range(len(steps)):
            o = base + _lead(places[begin], steps[k], first[begin], second[begin])
            near = residuals[o : o + count]
            if count == RUN:
                # A loop of known length becomes vector code, where one of as many steps would not.
                for i in range(RUN):
                    sums[i] += abs(np.int32(near[i]))
            else:
                for i in range(count):
                    sums[i] += abs(np.int32(near[i]))
        begin += count


@_compiled
def _list_magnitudes(samples, residuals, base, places, first, second, energy, ones, others, columns):
    begin = 0
    while begin < len(places):
        count = _side_by_side(places, first, second, begin, len(places))
        place, f, g = places[begin], first[begin], second[begin]
        _ask_for(residuals, base, place, f, g, energy)
        _ask_for(samples, 0, place, f, g, ones)
        for k in range(len(energy)):
            o = base + _lead(place, energy[k], f, g)
            near, out = residuals[o : o + count], columns[k, begin : begin + count]
            for i in range(count):
                out[i] = abs(np.int32(near[i]))
        for k in range(len(ones)):
            a, b = _lead(place, ones[k], f, g), _lead(place, others[k], f, g)
            one, other, out = samples[a : a + count], samples[b : b + count], columns[len(energy) + k, begin : begin + count]
            for i in range(count):
                out[i] = abs(np.int32(one[i]) - np.int32(other[i]))
        begin += count


@_spliced
def _copy(values, out):
    if len(out) == RUN:
        for i in range(RUN):
            out[i] = values[i]
    else:
        for i in range(len(out)):
            out[i] = values[i]


@_inlined
def _lay_out(samples, residuals, stage_size, places, first, second, plain, feedback, stages, begin, end, near, echoes):
    """Bring the neighbours of voxels begin..end-1 together: tap by tap in `near`, last the voxels, and in `echoes`."""
    at = begin
    while at < end:
        count = _side_by_side(places, first, second, at, end)
        place, f, g, to = places[at], first[at], second[at], at - begin
        _ask_for(samples, 0, place, f, g, plain)
        for k in range(len(feedback)):
            prefetch(residuals, stages[k] * stage_size + _lead(place, feedback[k], f, g))
        for k in range(len(plain)):
            o = _lead(place, plain[k], f, g)
            _copy(samples[o : o + count], near[k, to : to + count])
        _copy(samples[place : place + count], near[len(plain), to : to + count])
        for k in range(len(feedback)):
            o = stages[k] * stage_size + _lead(place, feedback[k], f, g)
            _copy(residuals[o : o + count], echoes[k, to : to + count])
        at += count


@_inlined
def _gather(near, echoes, chosen, west, table):
    """Lay out the regressors and the target of a block of voxels, shape (regressors + 1, block)."""
    count = len(chosen)
    values = near[0]
    for s in range(count):
        west[s] = np.int32(values[np.uint64(chosen[s])])
    for k in range(1, len(near)):
        # The target, last in `near`, goes behind the echoes.
        values, out = near[k], table[k - 1 if k + 1 < len(near) else len(table) - 1]
        for s in range(count):
            out[s] = np.float64(np.int32(values[np.uint64(chosen[s])]) - west[s])
    for k in range(len(echoes)):
        values, out = echoes[k], table[len(near) - 2 + k]
        for s in range(count):
            out[s] = np.float64(values[np.uint64(chosen[s])])


@_inlined
def _add_class(near, echoes, chosen, weights, west, weight, table, weighed, sums):
    """Add the weighed products of a few voxels of one class; sums of `EXACT_LENGTH` are exact."""
    width = len(table)
    sums[:] = 0.0
    for at in range(0, len(chosen), BLOCK):
        some = chosen[at : at + BLOCK]
        count = len(some)
        _gather(near, echoes, some, west, table)
        for s in range(count):
            weight[s] = weights[np.uint64(some[s])]
        weight[count:] = 0.0
        for k in range(width):
            row, out = table[k], weighed[k]
            for s in range(BLOCK):
                out[s] = row[s] * weight[s]
        add_products(table, weighed, sums)


@_compiled
def _sum_products(samples, residuals, stage_size, places, first, second, plain, feedback, stages, weights, order, bounds, begin, end, total):
    """Add up over voxels begin..end-1, of each class in turn, a few thousand voxels at a time."""
    width = len(plain) + len(feedback)
    near = np.empty((len(plain) + 1, _LAID_OUT), np.uint16)
    echoes = np.empty((len(feedback), _LAID_OUT), np.int16)
    table, weighed = np.zeros((width, BLOCK)), np.zeros((width, BLOCK))
    weight, west = np.zeros(BLOCK), np.empty(BLOCK, np.int32)
    sums = np.zeros((width, width))
    # Where the voxels of a class go on that are in the next layout.
    cursors = np.empty(len(bounds) - 1, np.int64)
    for one in range(len(bounds) - 1):
        cursors[one] = bounds[one] + np.searchsorted(order[bounds[one] : bounds[one + 1]], begin)
    for at in range(begin, end, _LAID_OUT):
        stop = min(at + _LAID_OUT, end)
        _lay_out(samples, residuals, stage_size, places, first, second, plain, feedback, stages, at, stop, near, echoes)
        for one in range(len(bounds) - 1):
            here = cursors[one]
            cursors[one] = bounds[one] + np.searchsorted(order[bounds[one] : bounds[one + 1]], stop)
            for some in range(here, cursors[one], EXACT_LENGTH):
                chosen = order[some : min(some + EXACT_LENGTH, cursors[one])] - at
                _add_class(near, echoes, chosen, weights[at:stop], west, weight, table, weighed, sums)
                for i in range(width):
                    for j in range(min(i + 1, width - 1)):
                        # The lower triangle, which holds the target's row, lies in `total` as columns.
                        total[one, j, i] += np.int64(sums[i, j])


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
    ones, others = _steps(sample, [one for one, _ in steps]), _steps(sample, [other for _, other in steps])
    _list_magnitudes(samples, residuals, base, sample.places, sample.first, sample.second, _steps(sample, energy), ones, others, columns)
    return columns


def sum_products(
    sample: Sample, samples: NDArray[np.uint16], residuals: NDArray[np.int16], stage_size: int, plain: Sequence[Tap],
    feedback: Sequence[tuple[int, Tap]], weights: NDArray[np.int32], order: NDArray[np.int64],
    bounds: NDArray[np.int64], threads: Threads = 1,
) -> NDArray[np.int64]:
    """Do what `fit_sums.sum_products` does."""
    width, count = len(plain) + len(feedback), len(sample.places)
    stages = np.array([stage for stage, _ in feedback], np.int64)
    own, echoes = _steps(sample, plain), _steps(sample, [tap for _, tap in feedback])
    total = np.zeros((len(bounds) - 1, width - 1, width), np.int64)
    part_bytes = total.nbytes + 2 * (width + 1) * _LAID_OUT
    parts = max(1, min(most_of(threads), count // _LAID_OUT, _PARTS_BYTES // part_bytes))
    edges = [count * k // parts for k in range(parts + 1)]
    lock = Lock()

    def add(part: int) -> None:
        # Of its own while at work, so that memory follows the threads that are.
        own_total = np.zeros_like(total)
        _sum_products(
            samples, residuals, stage_size, sample.places, sample.first, sample.second, own, echoes, stages, weights, order,
            bounds, edges[part], edges[part + 1], own_total,
        )
        with lock:
            np.add(total, own_total, out=total)

    run_over(add, range(parts), threads=threads)
    lower = np.tril_indices(width - 1, -1)
    total[:, lower[0], lower[1]] = total[:, lower[1], lower[0]]
    return total
