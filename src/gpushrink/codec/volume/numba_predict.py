"""Classes and predictions of a run of contiguous samples, compiled: what `reference` means.

Runs are walked tap by tap so that LLVM makes vector code of them, through slices, because a signed index into the
whole array would be tested for wrap-around at every step.
"""
# Long signatures of compiled functions stay on a line: they are lists, not prose.
# fmt: off
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import numpy as np

from gpushrink.codec.compiled import compiled
from gpushrink.codec.volume.numba_lanes import TAPS, add_to_eight, add_to_four
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS

__all__ = ["classify", "count_reached", "keep_flat", "mark_flat", "predict"]

_HALF = 1 << (COEFFICIENT_BITS - 1)
# Up to so many classes, vector code that predicts for all of them beats looking up each sample's own.
_FEW_CLASSES = 6
# Of so many, choosing each sample's coefficients, in bits, beats that: the fast level has no more.
_BLENDED_CLASSES = 3
_inlined = compiled(boundscheck=False, inline="never")
_spliced = compiled(boundscheck=False, inline="always")


@_inlined
def count_reached(thresholds, values, count, scale, out):
    """Replace out by out * scale + the number of thresholds that values reach."""
    if scale != 1:
        for i in range(count):
            out[i] = np.int32(out[i] * scale)
    k = 0
    while k + 4 <= len(thresholds):
        a, b, c, d = thresholds[k], thresholds[k + 1], thresholds[k + 2], thresholds[k + 3]
        for i in range(count):
            v = values[i]
            out[i] += np.int32(v >= a) + np.int32(v >= b) + np.int32(v >= c) + np.int32(v >= d)
        k += 4
    while k < len(thresholds):
        a = thresholds[k]
        for i in range(count):
            out[i] += np.int32(values[i] >= a)
        k += 1


@_inlined
def mark_flat(samples, at, count, fixed, flat):
    """Mark the samples whose neighbours in the plane are all equal."""
    c, r = fixed[0], fixed[1]
    w = samples[at - c : at - c + count]
    ww = samples[at - 2 * c : at - 2 * c + count]
    n = samples[at - r : at - r + count]
    nn = samples[at - 2 * r : at - 2 * r + count]
    nw = samples[at - r - c : at - r - c + count]
    ne = samples[at - r + c : at - r + c + count]
    for i in range(count):
        v = w[i]
        flat[i] = np.uint8((v == n[i]) & (v == nw[i]) & (v == ne[i]) & (v == ww[i]) & (v == nn[i]))


@_spliced
def _turn(samples, at, count, fixed, classes):
    """Replace classes by classes * 4 + the direction of the gradient."""
    c, r = fixed[0], fixed[1]
    w = samples[at - c : at - c + count]
    n = samples[at - r : at - r + count]
    nn = samples[at - 2 * r : at - 2 * r + count]
    nw = samples[at - r - c : at - r - c + count]
    ne = samples[at - r + c : at - r + c + count]
    for i in range(count):
        vn, vnw = np.int32(n[i]), np.int32(nw[i])
        across = np.int32(abs(np.int32(w[i]) - vnw) + abs(vn - np.int32(nn[i])))
        along = np.int32(abs(vn - vnw) + abs(vn - np.int32(ne[i])))
        turn = np.int32(2 * across >= along) + np.int32(across >= along) + np.int32(across >= 2 * along)
        classes[i] = np.int32(classes[i] * 4 + turn)


@_spliced
def _space(samples, at, count, fixed, refs, out):
    c, r, f = fixed[0], fixed[1], fixed[2]
    w = samples[at - c : at - c + count]
    ww = samples[at - 2 * c : at - 2 * c + count]
    n = samples[at - r : at - r + count]
    nn = samples[at - 2 * r : at - 2 * r + count]
    nw = samples[at - r - c : at - r - c + count]
    ne = samples[at - r + c : at - r + c + count]
    for i in range(count):
        vw, vn, vnw = np.int32(w[i]), np.int32(n[i]), np.int32(nw[i])
        out[i] = np.int32(
            abs(vw - vnw) + abs(vn - np.int32(nn[i])) + abs(vn - vnw) + abs(vn - np.int32(ne[i])) + abs(vw - np.int32(ww[i]))
        )
    if refs:
        p = samples[at + f : at + f + count]
        pw = samples[at + f - c : at + f - c + count]
        pe = samples[at + f + c : at + f + c + count]
        pn = samples[at + f - r : at + f - r + count]
        ps = samples[at + f + r : at + f + r + count]
        for i in range(count):
            v = np.int32(p[i])
            out[i] += np.int32(
                abs(v - np.int32(pw[i])) + abs(v - np.int32(pe[i])) + abs(v - np.int32(pn[i])) + abs(v - np.int32(ps[i]))
            )


@_spliced
def _time(samples, at, count, fixed, out):
    c, r, f, s = fixed[0], fixed[1], fixed[2], fixed[3]
    w = samples[at - c : at - c + count]
    n = samples[at - r : at - r + count]
    nw = samples[at - r - c : at - r - c + count]
    pw = samples[at + f - c : at + f - c + count]
    pn = samples[at + f - r : at + f - r + count]
    pnw = samples[at + f - r - c : at + f - r - c + count]
    for i in range(count):
        out[i] = np.int32(
            abs(np.int32(w[i]) - np.int32(pw[i])) + abs(np.int32(n[i]) - np.int32(pn[i])) + abs(np.int32(nw[i]) - np.int32(pnw[i]))
        )
    ne = samples[at - r + c : at - r + c + count]
    pne = samples[at + f - r + c : at + f - r + c + count]
    p = samples[at + f : at + f + count]
    pp = samples[at + s : at + s + count]
    for i in range(count):
        out[i] += np.int32(abs(np.int32(ne[i]) - np.int32(pne[i])) + abs(np.int32(p[i]) - np.int32(pp[i])))


@_inlined
def classify(samples, at, count, fixed, spatial, temporal, directions, refs, classes, work):
    """Find the class of every sample of a run."""
    for i in range(count):
        classes[i] = np.int32(0)
    if len(spatial):
        _space(samples, at, count, fixed, refs, work)
        count_reached(spatial, work, count, 1, classes)
    if len(temporal):
        if refs:
            _time(samples, at, count, fixed, work)
        else:
            work[:count] = 0
        count_reached(temporal, work, count, len(temporal) + 1, classes)
    if directions == 4:
        _turn(samples, at, count, fixed, classes)


@_spliced
def _add_four(values, at, count, coefficients, offsets, k, total):
    """Add four weighed neighbours of every sample: fewer passes over `total` than one by one."""
    c0, c1, c2, c3 = coefficients[k], coefficients[k + 1], coefficients[k + 2], coefficients[k + 3]
    o0, o1, o2, o3 = at + offsets[k], at + offsets[k + 1], at + offsets[k + 2], at + offsets[k + 3]
    v0, v1, v2, v3 = values[o0 : o0 + count], values[o1 : o1 + count], values[o2 : o2 + count], values[o3 : o3 + count]
    for i in range(count):
        total[i] += c0 * np.int32(v0[i]) + c1 * np.int32(v1[i]) + c2 * np.int32(v2[i]) + c3 * np.int32(v3[i])


@_spliced
def _add_taps(values, at, count, coefficients, offsets, total):
    """Add all weighed neighbours of every sample."""
    taps = len(offsets)
    k = 0
    while k + 4 <= taps:
        _add_four(values, at, count, coefficients, offsets, k, total)
        k += 4
    while k < taps:
        c, o = coefficients[k], at + offsets[k]
        v = values[o : o + count]
        for i in range(count):
            total[i] += c * np.int32(v[i])
        k += 1


@_spliced
def _blend_four(values, at, count, table, width, k, offsets, second, third, total):
    """Add four neighbours of every sample, each weighed as the sample's class has it."""
    a0, a1, a2, a3 = table[k], table[k + 1], table[k + 2], table[k + 3]
    k += width
    b0, b1, b2, b3 = a0 ^ table[k], a1 ^ table[k + 1], a2 ^ table[k + 2], a3 ^ table[k + 3]
    k += width
    c0, c1, c2, c3 = a0 ^ table[k], a1 ^ table[k + 1], a2 ^ table[k + 2], a3 ^ table[k + 3]
    o0, o1, o2, o3 = at + offsets[0], at + offsets[1], at + offsets[2], at + offsets[3]
    v0, v1, v2, v3 = values[o0 : o0 + count], values[o1 : o1 + count], values[o2 : o2 + count], values[o3 : o3 + count]
    for i in range(count):
        two, three = second[i], third[i]
        total[i] += (
            (a0 ^ (b0 & two) ^ (c0 & three)) * np.int32(v0[i])
            + (a1 ^ (b1 & two) ^ (c1 & three)) * np.int32(v1[i])
            + (a2 ^ (b2 & two) ^ (c2 & three)) * np.int32(v2[i])
            + (a3 ^ (b3 & two) ^ (c3 & three)) * np.int32(v3[i])
        )


@_spliced
def _blend_taps(values, at, count, table, width, first, offsets, second, third, total):
    """Add all neighbours of every sample, weighed as the sample's class has it; their coefficients begin at `first`."""
    taps = len(offsets)
    k = 0
    while k + 4 <= taps:
        _blend_four(values, at, count, table, width, first + k, offsets[k : k + 4], second, third, total)
        k += 4
    while k < taps:
        a = table[first + k]
        b, c = a ^ table[width + first + k], a ^ table[2 * width + first + k]
        o = at + offsets[k]
        v = values[o : o + count]
        for i in range(count):
            total[i] += (a ^ (b & second[i]) ^ (c & third[i])) * np.int32(v[i])
        k += 1


@_spliced
def _blend(samples, residuals, at, count, table, width, classes, plain, echoes, total, room):
    """Predict with coefficients chosen, sample by sample, from a table of three classes."""
    second, third = room[0], room[1]
    for i in range(count):
        # All ones where the class is this one: a choice in bits, which becomes vector code.
        second[i] = -np.int32(classes[i] == np.int32(1))
        third[i] = -np.int32(classes[i] == np.int32(2))
        total[i] = np.int32(_HALF)
    _blend_taps(samples, at, count, table, width, 0, plain, second, third, total)
    _blend_taps(residuals, at, count, table, width, len(plain), echoes, second, third, total)


@_spliced
def _keep_class(rival, classes, one, total):
    for i in range(len(total)):
        # All ones where the class is this one: a choice in bits, which becomes vector code.
        total[i] ^= (total[i] ^ rival[i]) & -np.int32(classes[i] == np.int32(one))


@_spliced
def _add_own(values, at, count, table, rows, offsets, total):
    """Add neighbours of every sample, weighed as the sample's class has it; `table` begins with the first's coefficient."""
    taps = len(offsets)
    k = 0
    while k + TAPS <= taps:
        here = table[k:]
        i = 0
        while i + 8 <= count:
            add_to_eight(values, np.uint64(at + i), offsets, np.uint64(k), here, rows, np.uint64(i), total)
            i += 8
        if i + 4 <= count:
            add_to_four(values, np.uint64(at + i), offsets, np.uint64(k), here, rows, np.uint64(i), total)
            i += 4
        while i < count:
            sums, row, place = total[i], rows[i], at + i
            for tap in range(TAPS):
                sums += here[np.uint64(row + tap)] * np.int32(values[np.uint64(place + offsets[k + tap])])
            total[i] = np.int32(sums)
            i += 1
        k += TAPS
    while k < taps:
        for i in range(count):
            total[i] += np.int32(table[np.uint64(rows[i] + k)] * np.int32(values[np.uint64(at + i + offsets[k])]))
        k += 1


@_spliced
def _look_up(samples, residuals, at, count, table, width, classes, plain, echoes, total, rows):
    """Predict with each sample's own coefficients."""
    for i in range(count):
        rows[i] = np.int32(classes[i] * width)
        total[i] = np.int32(_HALF)
    _add_own(samples, at, count, table, rows, plain, total)
    _add_own(residuals, at, count, table[len(plain) :], rows, echoes, total)


@_inlined
def predict(samples, residuals, at, count, stage, classes, coefficients, offsets, span, total, room):
    """Predict every sample of a run in one stage; `room` has two rows for as many more."""
    begin, first, plain, feedback, class_count, width = (
        stage[0], stage[1], stage[2], stage[3], stage[4], stage[5],
    )
    own = offsets[first : first + plain]
    echoes = offsets[first + plain : first + plain + feedback]
    if class_count == _BLENDED_CLASSES:
        _blend(samples, residuals, at, count, coefficients[begin : begin + class_count * width], width, classes, own, echoes, total, room)
    elif class_count <= _FEW_CLASSES:
        rival = room[0]
        # Every class's prediction for every sample, and the right one kept: more products, but vector code.
        for one in range(class_count):
            table = coefficients[begin + one * width : begin + (one + 1) * width]
            out = total if one == 0 else rival
            for i in range(count):
                out[i] = np.int32(_HALF)
            _add_taps(samples, at, count, table[:plain], own, out)
            _add_taps(residuals, at, count, table[plain:], echoes, out)
            if one > 0:
                _keep_class(rival[:count], classes[:count], one, total[:count])
    else:
        _look_up(samples, residuals, at, count, coefficients[begin : begin + class_count * width], width, classes, own, echoes, total, room[0])
    for i in range(count):
        total[i] = np.int32(min(max(total[i] >> COEFFICIENT_BITS, np.int32(0)), np.int32(span)))


@_inlined
def keep_flat(samples, begin, count, flat, total):
    """Predict W where the sample is flat; W of the first sample lies at `begin`."""
    w = samples[begin : begin + count]
    for i in range(count):
        total[i] = np.int32(w[i]) if flat[i] else total[i]
