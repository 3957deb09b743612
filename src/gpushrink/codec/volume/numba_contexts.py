"""Contexts of a run of contiguous samples, and a plane's residuals in their order, compiled: what `reference` means."""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from gpushrink.codec.compiled import compiled
from gpushrink.codec.volume.numba_predict import count_reached
from gpushrink.codec.volume.parameters import FLOOR_LEVELS

__all__ = ["gather_lines", "packed_length", "set_contexts"]

_inlined = compiled(boundscheck=False, inline="never")
_spliced = compiled(boundscheck=False, inline="always")
# level // coarse = level * (2^12 // coarse + 1) >> 12 for levels and `coarse` up to 64: vectors cannot divide.
_DIVIDE_BITS = 12
# Packed values in a cache line. From row to row a line of the wavefront goes an odd number of cache lines on.
_LINE_STEP = 16


@_spliced
def _add_magnitudes(residuals, at, count, energy, weights, sums):
    for k in range(len(energy)):
        c = weights[k]
        if c != 0:
            e = residuals[at + energy[k] : at + energy[k] + count]
            for i in range(count):
                sums[i] += c * abs(np.int32(e[i]))


@_spliced
def _add_steps(samples, at, count, steps, weights, sums):
    for k in range(len(steps)):
        c = weights[k]
        if c != 0:
            one = samples[at + steps[k, 0] : at + steps[k, 0] + count]
            other = samples[at + steps[k, 1] : at + steps[k, 1] + count]
            for i in range(count):
                sums[i] += c * abs(np.int32(one[i]) - np.int32(other[i]))


@_spliced
def _near_floor(total, count, level_count, coarse, coarse_count, level):
    """Replace the level by the context of a prediction near the least value, where it is one."""
    inverse = np.int32((1 << _DIVIDE_BITS) // coarse + 1)
    for i in range(count):
        held, t = level[i], total[i]
        low = level_count + t * coarse_count + ((held * inverse) >> np.int32(_DIVIDE_BITS))
        level[i] = np.int32(low) if t < np.int32(FLOOR_LEVELS) else held


@_spliced
def _where_flat(w, p, count, refs, flat, context, level):
    repeats = np.int32(refs)
    for i in range(count):
        one = context + (np.int32(p[i] == w[i]) & repeats)
        level[i] = np.int32(one) if flat[i] else level[i]


@_inlined
def set_contexts(samples, residuals, at, count, total, flat, fixed, refs, energy, steps, weights, levels, coarse, sums, out):
    """Find the context of every sample of a run; `total` holds the last stage's predictions, `sums` is room."""
    for i in range(count):
        sums[i] = np.int32(0)
        out[i] = np.int32(0)
    _add_magnitudes(residuals, at, count, energy, weights[: len(energy)], sums)
    _add_steps(samples, at, count, steps, weights[len(energy) :], sums)
    count_reached(levels, sums, count, 1, out)
    level_count = np.int32(len(levels) + 1)
    coarse_count = np.int32((level_count + coarse - 1) // coarse)
    _near_floor(total, count, level_count, coarse, coarse_count, out)
    w = samples[at - fixed[0] : at - fixed[0] + count]
    p = samples[at + fixed[2] : at + fixed[2] + count]
    _where_flat(w, p, count, refs, flat, np.int32(level_count + FLOOR_LEVELS * coarse_count), out)


def packed_length(columns: int) -> int:
    """Return how long rows of packed residuals are: walked along lines, each row lies in another set of the cache."""
    return columns + (_LINE_STEP + 2 - columns) % (2 * _LINE_STEP)


@_inlined
def gather_lines(packed, rows, columns, cursors, values):
    """Write packed residuals (context in the upper half) to the places of their contexts, in wavefront order.

    Rows have `packed_length(columns)` places. Sixteen lines in turn take one cache line of each row.
    """
    flat = packed.reshape(packed.size)
    # The next row, two columns back.
    step = np.uint64(packed.shape[1] - 2)
    for t in range(columns + 2 * (rows - 1)):
        begin = max(0, (t - columns + 2) // 2)
        end = min(rows - 1, t // 2) + 1
        at = np.uint64(t) + np.uint64(begin) * step
        for _ in range(begin, end):
            one = flat[at]
            at += step
            context = np.uint64(one >> np.uint32(16))
            place = cursors[context]
            values[np.uint64(place)] = np.uint16(one)
            cursors[context] = place + 1
