"""The volume codec's everyday CPU engine: the steps of `reference`, compiled.

Nothing here may differ from `reference` in one bit; tests/contract holds both to each other.
"""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.compiled import compiled
from gpushrink.codec.volume.geometry import LEFT, RIGHT, TOP, Layout
from gpushrink.codec.volume.numba_contexts import gather_lines, packed_length, set_contexts
from gpushrink.codec.volume.numba_predict import classify, keep_flat, mark_flat, predict
from gpushrink.codec.volume.numba_tokens import join, split
from gpushrink.codec.volume.parameters import Bound

__all__ = ["bucket_planes", "decode_lines", "join", "predict_planes", "split"]

_compiled = compiled(boundscheck=False)
_inlined = compiled(boundscheck=False, inline="never")


@_compiled
def _predict_planes(samples, residuals, at, planes, plane_size, rows, columns, pitch, index, stage_size, coefficients, offsets, stages, fixed, spatial, temporal, directions, refs, span):
    room = np.empty((5, columns), np.int32)
    # One by one: rows from unpacking would not be known to be contiguous.
    work, classes, total, rivals = room[0], room[1], room[2], room[3:]
    flat = np.empty(columns, np.uint8)
    stage = stages[index]
    last = index == len(stages) - 1
    for z in range(planes):
        for y in range(rows):
            here = at + z * plane_size + y * pitch
            if stage[4] > 1:
                classify(samples, here, columns, fixed, spatial, temporal, directions, refs, classes, work)
            predict(samples, residuals, here, columns, stage, classes, coefficients, offsets, span, total, rivals)
            if last:
                mark_flat(samples, here, columns, fixed, flat)
                keep_flat(samples, here - 1, columns, flat, total)
            v = samples[here : here + columns]
            out = residuals[index * stage_size + here : index * stage_size + here + columns]
            for i in range(columns):
                out[i] = np.int16(np.int32(v[i]) - total[i])


@_inlined
def _pack_row(e, found, columns, packed):
    for i in range(columns):
        wide = np.int32(e[i])
        packed[i] = np.uint32(found[i] << np.int32(16)) | np.uint32(np.uint16((wide << np.int32(1)) ^ (wide >> np.int32(15))))


@_inlined
def _count_row(found, columns, parts):
    """Count contexts in four histograms: neighbours, often alike, would wait for each other in one."""
    i = 0
    while i + 4 <= columns:
        parts[0, np.uint64(found[i])] += 1
        parts[1, np.uint64(found[i + 1])] += 1
        parts[2, np.uint64(found[i + 2])] += 1
        parts[3, np.uint64(found[i + 3])] += 1
        i += 4
    while i < columns:
        parts[0, np.uint64(found[i])] += 1
        i += 1


@_compiled
def _bucket_planes(samples, residuals, at, plane_size, rows, columns, pitch, last, fixed, refs, energy, steps, weights, levels, coarse, counts, packed, values):
    room = np.empty((3, columns), np.int32)
    work, total, found = room[0], room[1], room[2]
    flat = np.empty(columns, np.uint8)
    parts = np.empty((4, 256), np.int64)
    for z in range(len(counts)):
        parts[:] = 0
        for y in range(rows):
            here = at + z * plane_size + y * pitch
            v = samples[here : here + columns]
            e = residuals[last + here : last + here + columns]
            for i in range(columns):
                total[i] = np.int32((np.int32(v[i]) - np.int32(e[i])) & 0xFFFF)
            mark_flat(samples, here, columns, fixed, flat)
            set_contexts(samples, residuals, here, columns, total, flat, fixed, refs, energy, steps, weights, levels, coarse, work, found)
            _pack_row(e, found, columns, packed[y])
            _count_row(found, columns, parts)
        for part in range(4):
            for k in range(counts.shape[1]):
                counts[z, k] += parts[part, k]
        cursors = np.empty(counts.shape[1], np.int64)
        place = 0
        for k in range(counts.shape[1]):
            cursors[k] = place
            place += counts[z, k]
        gather_lines(packed, rows, columns, cursors, values[z])


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
def _decode_lines(samples, residuals, at, rows, columns, first, stop, stage_size, coefficients, offsets, stages, fixed, spatial, temporal, directions, refs, energy, steps, weights, levels, coarse, span, values, cursors, ends, plain):
    room = np.empty((5, rows), np.int32)
    work, classes, found, rivals = room[0], room[1], room[2], room[3:]
    totals = np.empty((len(stages), rows), np.int32)
    flat = np.empty(rows, np.uint8)
    last = len(stages) - 1
    c, r = fixed[0], fixed[1]
    # From a sample of a line to the next, in a plane without edges.
    turn = np.uint64(columns - 2)
    for line in range(first, stop):
        top = max(0, (line - columns + 2) // 2)
        count = min(rows - 1, line // 2) - top + 1
        if count < 1:
            continue
        here = at + line * c + top
        classify(samples, here, count, fixed, spatial, temporal, directions, refs, classes, work)
        mark_flat(samples, here, count, fixed, flat)
        for k in range(len(stages)):
            predict(samples, residuals, here, count, stages[k], classes, coefficients, offsets, span, totals[k], rivals)
        total = totals[last]
        keep_flat(samples, here - c, count, flat, total)
        set_contexts(samples, residuals, here, count, total, flat, fixed, refs, energy, steps, weights, levels, coarse, work, found)
        out = samples[here : here + count]
        at_plain = np.uint64(line + top * (columns - 2))
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
            plain[at_plain] = np.uint16(value)
            at_plain += turn
        for k in range(len(stages)):
            e = residuals[k * stage_size + here : k * stage_size + here + count]
            t = totals[k]
            for i in range(count):
                e[i] = np.int16(np.int32(out[i]) - t[i])
        _extend(samples, here, top, count, line, rows, columns, c, r)
        for k in range(len(stages)):
            _extend(residuals[k * stage_size : (k + 1) * stage_size], here, top, count, line, rows, columns, c, r)
    return True


def predict_planes(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, planes: int, layout: Layout, stage: int,
    stage_size: int, bound: Bound, span: int,
) -> None:
    """Do what `reference.predict_planes` does."""
    _predict_planes(
        samples, residuals, at, planes, layout.size, layout.rows, layout.columns, layout.row_step, stage, stage_size, bound.coefficients,
        bound.offsets, bound.stages, bound.fixed, bound.spatial, bound.temporal, bound.directions,
        bound.has_references, span,
    )


def bucket_planes(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, layout: Layout, stage_size: int, bound: Bound,
    levels: NDArray[np.int32], coarse: int, counts: NDArray[np.int64], values: NDArray[np.uint16],
) -> None:
    """Do what `reference.bucket_planes` does."""
    _bucket_planes(
        samples, residuals, at, layout.size, layout.rows, layout.columns, layout.row_step, (len(bound.stages) - 1) * stage_size,
        bound.fixed, bound.has_references, bound.energy, bound.steps, bound.weights, levels, coarse, counts,
        np.empty((layout.rows, packed_length(layout.columns)), np.uint32), values,
    )


def decode_lines(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, layout: Layout, first: int, stop: int,
    stage_size: int, bound: Bound, levels: NDArray[np.int32], coarse: int, span: int, values: NDArray[np.uint16],
    cursors: NDArray[np.int64], ends: NDArray[np.int64], plain: NDArray[np.uint16],
) -> bool:
    """Do what `reference.decode_lines` does."""
    return bool(
        _decode_lines(
            samples, residuals, at, layout.rows, layout.columns, first, stop, stage_size, bound.coefficients, bound.offsets,
            bound.stages, bound.fixed, bound.spatial, bound.temporal, bound.directions, bound.has_references,
            bound.energy, bound.steps, bound.weights, levels, coarse, span, values, cursors, ends, plain,
        )
    )
