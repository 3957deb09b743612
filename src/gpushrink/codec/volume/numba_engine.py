"""The volume codec's everyday CPU engine: the steps of `reference`, compiled.

Nothing here may differ from `reference` in one bit; tests/contract holds both to each other. Runs of
contiguous samples are walked tap by tap so that LLVM makes vector code of them, through slices,
because a signed index into the whole array would be tested for wrap-around at every step.
"""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import LEFT, RIGHT, TOP, Layout
from gpushrink.codec.volume.numba_tokens import join, split
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, FLOOR_LEVELS, Bound

__all__ = ["count_contexts", "decode_plane", "gather_plane", "join", "predict_plane", "split"]

_HALF = 1 << (COEFFICIENT_BITS - 1)
_compiled = numba.njit(cache=True, nogil=True, boundscheck=False)
_inlined = numba.njit(cache=True, nogil=True, boundscheck=False, inline="never")


@_inlined
def _reach(thresholds, values, count, scale, out):
    """Replace out by out * scale + the number of thresholds that values reach."""
    for i in range(count):
        out[i] = np.int32(out[i] * scale)
    for k in range(len(thresholds)):
        threshold = thresholds[k]
        for i in range(count):
            out[i] += np.int32(values[i] >= threshold)


@_inlined
def _classify(samples, at, count, fixed, spatial, temporal, directions, refs, classes, flat, work):
    c, r, f, s = fixed[0], fixed[1], fixed[2], fixed[3]
    w = samples[at - c : at - c + count]
    ww = samples[at - 2 * c : at - 2 * c + count]
    n = samples[at - r : at - r + count]
    nn = samples[at - 2 * r : at - 2 * r + count]
    nw = samples[at - r - c : at - r - c + count]
    ne = samples[at - r + c : at - r + c + count]
    act = work[0]
    change = work[1]
    turn = work[2]
    for i in range(count):
        vw, vn, vnw, vne, vww, vnn = (
            np.int32(w[i]), np.int32(n[i]), np.int32(nw[i]), np.int32(ne[i]), np.int32(ww[i]), np.int32(nn[i]),
        )
        across = np.int32(abs(vw - vnw) + abs(vn - vnn))
        along = np.int32(abs(vn - vnw) + abs(vn - vne))
        act[i] = np.int32(across + along + abs(vw - vww))
        change[i] = np.int32(0)
        turn[i] = np.int32((2 * across >= along) + np.int32(across >= along) + np.int32(across >= 2 * along))
        flat[i] = np.uint8((vw == vn) & (vw == vnw) & (vw == vne) & (vw == vww) & (vw == vnn))
        classes[i] = np.int32(0)
    if refs:
        p = samples[at + f : at + f + count]
        pw = samples[at + f - c : at + f - c + count]
        pe = samples[at + f + c : at + f + c + count]
        pn = samples[at + f - r : at + f - r + count]
        ps = samples[at + f + r : at + f + r + count]
        for i in range(count):
            v = np.int32(p[i])
            act[i] = np.int32(
                act[i] + abs(v - np.int32(pw[i])) + abs(v - np.int32(pe[i])) + abs(v - np.int32(pn[i]))
                + abs(v - np.int32(ps[i]))
            )
        pp = samples[at + s : at + s + count]
        pnw = samples[at + f - r - c : at + f - r - c + count]
        pne = samples[at + f - r + c : at + f - r + c + count]
        for i in range(count):
            change[i] = np.int32(
                abs(np.int32(w[i]) - np.int32(pw[i])) + abs(np.int32(n[i]) - np.int32(pn[i]))
                + abs(np.int32(nw[i]) - np.int32(pnw[i])) + abs(np.int32(ne[i]) - np.int32(pne[i]))
                + abs(np.int32(p[i]) - np.int32(pp[i]))
            )
    _reach(spatial, act, count, 1, classes)
    _reach(temporal, change, count, len(temporal) + 1, classes)
    if directions == 4:
        for i in range(count):
            classes[i] = np.int32(classes[i] * 4 + turn[i])


@_inlined
def _predict(samples, residuals, at, count, stage, classes, coefficients, offsets, span, total):
    begin, first, plain, feedback, class_count, width = (
        stage[0], stage[1], stage[2], stage[3], stage[4], stage[5],
    )
    if class_count == 1:
        for i in range(count):
            total[i] = np.int32(_HALF)
        for k in range(plain):
            c = coefficients[begin + k]
            o = at + offsets[first + k]
            v = samples[o : o + count]
            for i in range(count):
                total[i] = np.int32(total[i] + c * np.int32(v[i]))
        for k in range(plain, plain + feedback):
            c = coefficients[begin + k]
            o = at + offsets[first + k]
            e = residuals[o : o + count]
            for i in range(count):
                total[i] = np.int32(total[i] + c * np.int32(e[i]))
    else:
        plain_offsets = offsets[first : first + plain]
        echo_offsets = offsets[first + plain : first + plain + feedback]
        for i in range(count):
            row = begin + classes[i] * width
            table = coefficients[row : row + width]
            acc = np.int64(_HALF)
            place = at + i
            for k in range(plain):
                acc += np.int64(table[k]) * np.int64(samples[np.uint64(place + plain_offsets[k])])
            for k in range(feedback):
                acc += np.int64(table[plain + k]) * np.int64(residuals[np.uint64(place + echo_offsets[k])])
            total[i] = np.int32(acc)
    for i in range(count):
        total[i] = np.int32(min(max(total[i] >> COEFFICIENT_BITS, np.int32(0)), np.int32(span)))


@_inlined
def _keep_flat(samples, begin, count, flat, total):
    w = samples[begin : begin + count]
    for i in range(count):
        total[i] = np.int32(w[i]) if flat[i] else total[i]


@_inlined
def _contexts(samples, residuals, at, count, total, flat, fixed, refs, energy, steps, weights, levels, coarse, work, out):
    sums = work[0]
    level = work[1]
    for i in range(count):
        sums[i] = np.int32(0)
        level[i] = np.int32(0)
    for k in range(len(energy)):
        c = weights[k]
        if c != 0:
            e = residuals[at + energy[k] : at + energy[k] + count]
            for i in range(count):
                sums[i] = np.int32(sums[i] + c * abs(np.int32(e[i])))
    for k in range(len(steps)):
        c = weights[len(energy) + k]
        if c != 0:
            one = samples[at + steps[k, 0] : at + steps[k, 0] + count]
            other = samples[at + steps[k, 1] : at + steps[k, 1] + count]
            for i in range(count):
                sums[i] = np.int32(sums[i] + c * abs(np.int32(one[i]) - np.int32(other[i])))
    _reach(levels, sums, count, 1, level)
    level_count = np.int32(len(levels) + 1)
    coarse_count = np.int32((level_count + coarse - 1) // coarse)
    flat_context = np.int32(level_count + FLOOR_LEVELS * coarse_count)
    w = samples[at - fixed[0] : at - fixed[0] + count]
    p = samples[at + fixed[2] : at + fixed[2] + count]
    for i in range(count):
        if flat[i]:
            out[i] = flat_context + np.int32(refs and p[i] == w[i])
        elif total[i] < FLOOR_LEVELS:
            out[i] = level_count + total[i] * coarse_count + level[i] // np.int32(coarse)
        else:
            out[i] = level[i]


@_compiled
def _predict_plane(samples, residuals, at, rows, columns, pitch, index, stage_size, coefficients, offsets, stages, fixed, spatial, temporal, directions, refs, span):
    work = np.empty((3, columns), np.int32)
    classes = np.empty(columns, np.int32)
    total = np.empty(columns, np.int32)
    flat = np.empty(columns, np.uint8)
    stage = stages[index]
    last = index == len(stages) - 1
    for y in range(rows):
        here = at + y * pitch
        if last or stage[4] > 1:
            _classify(samples, here, columns, fixed, spatial, temporal, directions, refs, classes, flat, work)
        _predict(samples, residuals, here, columns, stage, classes, coefficients, offsets, span, total)
        if last:
            _keep_flat(samples, here - 1, columns, flat, total)
        v = samples[here : here + columns]
        out = residuals[index * stage_size + here : index * stage_size + here + columns]
        for i in range(columns):
            out[i] = np.int16(np.int32(v[i]) - total[i])


@_compiled
def _count_contexts(samples, residuals, at, rows, columns, pitch, last, fixed, spatial, temporal, directions, refs, energy, steps, weights, levels, coarse, contexts, counts):
    work = np.empty((3, columns), np.int32)
    total = np.empty(columns, np.int32)
    found = np.empty(columns, np.int32)
    flat = np.empty(columns, np.uint8)
    for y in range(rows):
        here = at + y * pitch
        c, r = fixed[0], fixed[1]
        w, n, nw, ne, ww, nn = (
            samples[here - c : here - c + columns], samples[here - r : here - r + columns],
            samples[here - r - c : here - r - c + columns], samples[here - r + c : here - r + c + columns],
            samples[here - 2 * c : here - 2 * c + columns], samples[here - 2 * r : here - 2 * r + columns],
        )
        v = samples[here : here + columns]
        e = residuals[last + here : last + here + columns]
        for i in range(columns):
            flat[i] = np.uint8(
                (w[i] == n[i]) & (w[i] == nw[i]) & (w[i] == ne[i]) & (w[i] == ww[i]) & (w[i] == nn[i])
            )
            total[i] = np.int32((np.int32(v[i]) - np.int32(e[i])) & 0xFFFF)
        _contexts(samples, residuals, here, columns, total, flat, fixed, refs, energy, steps, weights, levels, coarse, work, found)
        row = contexts[y]
        for i in range(columns):
            row[i] = np.uint8(found[i])
        for i in range(columns):
            counts[np.uint64(found[i])] += 1


@_compiled
def _gather_plane(residuals, at, rows, columns, pitch, contexts, cursors, values):
    for line in range(columns + 2 * (rows - 1)):
        top = max(0, (line - columns + 2) // 2)
        bottom = min(rows - 1, line // 2)
        for y in range(top, bottom + 1):
            x = line - 2 * y
            wide = np.int32(residuals[np.uint64(at + y * pitch + x)])
            context = np.uint64(contexts[np.uint64(y), np.uint64(x)])
            values[np.uint64(cursors[context])] = np.uint16((wide << 1) ^ (wide >> 15))
            cursors[context] += 1


@_inlined
def _extend(array, here, top, count, line, rows, columns, c, r):
    bottom = top + count - 1
    if line % 2 == 0 and top <= line // 2 <= bottom:
        place = here + line // 2 - top
        for step in range(1, LEFT + 1):
            array[place + r - step * c] = array[place]
    if line - 2 * top == columns - 1:
        for step in range(1, RIGHT + 1):
            array[here + step * c] = array[here]
    if bottom == rows - 1:
        place = here + count - 1
        for depth in range(1, TOP + 1):
            array[place + depth * r] = array[place]
            if line - 2 * bottom == 0:
                for step in range(1, LEFT + 1):
                    array[place + depth * r - step * c] = array[place - step * c]
            if line - 2 * bottom == columns - 1:
                for step in range(1, RIGHT + 1):
                    array[place + depth * r + step * c] = array[place]


@_compiled
def _decode_plane(samples, residuals, at, rows, columns, stage_size, coefficients, offsets, stages, fixed, spatial, temporal, directions, refs, energy, steps, weights, levels, coarse, span, values, cursors, ends):
    work = np.empty((3, rows), np.int32)
    classes = np.empty(rows, np.int32)
    totals = np.empty((len(stages), rows), np.int32)
    found = np.empty(rows, np.int32)
    flat = np.empty(rows, np.uint8)
    last = len(stages) - 1
    c, r = fixed[0], fixed[1]
    for line in range(columns + 2 * (rows - 1)):
        top = max(0, (line - columns + 2) // 2)
        count = min(rows - 1, line // 2) - top + 1
        if count < 1:
            continue
        here = at + line * c + top
        _classify(samples, here, count, fixed, spatial, temporal, directions, refs, classes, flat, work)
        for k in range(len(stages)):
            _predict(samples, residuals, here, count, stages[k], classes, coefficients, offsets, span, totals[k])
        total = totals[last]
        _keep_flat(samples, here - c, count, flat, total)
        _contexts(samples, residuals, here, count, total, flat, fixed, refs, energy, steps, weights, levels, coarse, work, found)
        out = samples[here : here + count]
        for i in range(count):
            context = np.uint64(found[i])
            place = cursors[context]
            if place >= ends[context]:
                return False
            cursors[context] = place + 1
            folded = np.int32(values[np.uint64(place)])
            value = (total[i] + ((folded >> 1) ^ -(folded & 1))) & 0xFFFF
            if value > span:
                return False
            out[i] = np.uint16(value)
        for k in range(len(stages)):
            e = residuals[k * stage_size + here : k * stage_size + here + count]
            t = totals[k]
            for i in range(count):
                e[i] = np.int16(np.int32(out[i]) - t[i])
        _extend(samples, here, top, count, line, rows, columns, c, r)
        for k in range(len(stages)):
            _extend(residuals[k * stage_size : (k + 1) * stage_size], here, top, count, line, rows, columns, c, r)
    return True


def predict_plane(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, layout: Layout, stage: int, stage_size: int,
    bound: Bound, span: int,
) -> None:
    """Do what `reference.predict_plane` does."""
    _predict_plane(
        samples, residuals, at, layout.rows, layout.columns, layout.row_step, stage, stage_size, bound.coefficients,
        bound.offsets, bound.stages, bound.fixed, bound.spatial, bound.temporal, bound.directions,
        bound.has_references, span,
    )


def count_contexts(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, layout: Layout, stage_size: int, bound: Bound,
    levels: NDArray[np.int32], coarse: int, contexts: NDArray[np.uint8], counts: NDArray[np.int64],
) -> None:
    """Do what `reference.count_contexts` does."""
    _count_contexts(
        samples, residuals, at, layout.rows, layout.columns, layout.row_step, (len(bound.stages) - 1) * stage_size,
        bound.fixed, bound.spatial, bound.temporal, bound.directions, bound.has_references, bound.energy, bound.steps,
        bound.weights, levels, coarse, contexts, counts,
    )


def gather_plane(
    residuals: NDArray[np.int16], at: int, layout: Layout, contexts: NDArray[np.uint8], cursors: NDArray[np.int64],
    values: NDArray[np.uint16],
) -> None:
    """Do what `reference.gather_plane` does."""
    _gather_plane(residuals, at, layout.rows, layout.columns, layout.row_step, contexts, cursors, values)


def decode_plane(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, layout: Layout, stage_size: int, bound: Bound,
    levels: NDArray[np.int32], coarse: int, span: int, values: NDArray[np.uint16], cursors: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> bool:
    """Do what `reference.decode_plane` does."""
    return bool(
        _decode_plane(
            samples, residuals, at, layout.rows, layout.columns, stage_size, bound.coefficients, bound.offsets,
            bound.stages, bound.fixed, bound.spatial, bound.temporal, bound.directions, bound.has_references,
            bound.energy, bound.steps, bound.weights, levels, coarse, span, values, cursors, ends,
        )
    )
