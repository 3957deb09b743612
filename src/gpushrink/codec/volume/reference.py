"""The meaning of the volume codec, in numpy: every step works on a run of contiguous samples.

A run is a whole padded plane when a slab is encoded (raster layout) and one wavefront line when it
is decoded; only the offsets differ. All arithmetic is 32-bit two's complement with wrap-around.
Source: docs/format-volume.md, sections "Classes", "Prediction", "Contexts" and "Order".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.parallel import Threads
from gpushrink.codec.volume import tokens
from gpushrink.codec.volume.geometry import LEFT, RIGHT, TOP, Layout, wavefront_order
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, FLOOR_LEVELS, Bound
from gpushrink.errors import CorruptError

__all__ = ["bucket_plane", "decode_lines", "join", "predict_plane", "set_contexts", "split"]

Samples = NDArray[np.uint16]
Residuals = NDArray[np.int16]
Ints = NDArray[np.int32]


def _run(array: NDArray[np.generic], begin: int, count: int) -> Ints:
    return array[begin : begin + count].astype(np.int32)


def classify(samples: Samples, at: int, count: int, bound: Bound) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each sample's class, and whether its neighbours in the plane are all equal."""
    column, row, first, second = (int(step) for step in bound.fixed)

    def near(offset: int) -> Ints:
        return _run(samples, at + offset, count)

    w, ww, n, nn = near(-column), near(-2 * column), near(-row), near(-2 * row)
    nw, ne = near(-row - column), near(-row + column)
    across = abs(w - nw) + abs(n - nn)
    along = abs(n - nw) + abs(n - ne)
    spatial = across + along + abs(w - ww)
    temporal = np.zeros(count, np.int32)
    if bound.has_references:
        p = near(first)
        spatial += abs(p - near(first - column)) + abs(p - near(first + column))
        spatial += abs(p - near(first - row)) + abs(p - near(first + row))
        temporal = abs(w - near(first - column)) + abs(n - near(first - row)) + abs(p - near(second))
        temporal += abs(nw - near(first - row - column)) + abs(ne - near(first - row + column))
    classes = _count_reached(bound.spatial, spatial) * (len(bound.temporal) + 1)
    classes += _count_reached(bound.temporal, temporal)
    if bound.directions == 4:
        classes *= 4
        classes += (2 * across >= along).astype(np.int64) + (across >= along) + (across >= 2 * along)
    flat = (w == n) & (w == nw) & (w == ne) & (w == ww) & (w == nn)
    return classes, flat


def _count_reached(thresholds: Ints, values: Ints) -> NDArray[np.int64]:
    reached = np.zeros(len(values), np.int64)
    for threshold in thresholds:
        reached += values >= threshold
    return reached


def predict(
    samples: Samples, residuals: Residuals, at: int, count: int, stage: int, classes: NDArray[np.int64],
    bound: Bound, span: int,
) -> Ints:  # fmt: skip
    """Return one stage's prediction of each sample of a run."""
    begin, offset_at, plain, feedback, class_count, width = (int(value) for value in bound.stages[stage])
    table = bound.coefficients[begin : begin + class_count * width].reshape(class_count, width)
    rows = classes if class_count > 1 else np.zeros(count, np.int64)
    total = np.full(count, 1 << (COEFFICIENT_BITS - 1), np.int32)
    for tap in range(plain + feedback):
        source = samples if tap < plain else residuals
        total += table[rows, tap] * _run(source, at + int(bound.offsets[offset_at + tap]), count)
    predicted: Ints = np.clip(total >> COEFFICIENT_BITS, 0, span).astype(np.int32)
    return predicted


def set_contexts(
    samples: Samples, residuals: Residuals, at: int, count: int, predicted: Ints, flat: NDArray[np.bool_],
    bound: Bound, levels: Ints, coarse: int,
) -> NDArray[np.int64]:  # fmt: skip
    """Return the context of each sample of a run; `predicted` is the last stage's."""
    energy = np.zeros(count, np.int32)
    for weight, offset in zip(bound.weights, bound.energy, strict=False):
        energy += weight * abs(_run(residuals, at + int(offset), count))
    for weight, (one, other) in zip(bound.weights[len(bound.energy) :], bound.steps, strict=True):
        energy += weight * abs(_run(samples, at + int(one), count) - _run(samples, at + int(other), count))
    level = _count_reached(levels, energy)
    level_count = len(levels) + 1
    coarse_count = -(-level_count // coarse)
    context = np.where(predicted < FLOOR_LEVELS, level_count + predicted * coarse_count + level // coarse, level)
    same = np.zeros(count, np.int64)
    if bound.has_references:
        column, _, first, _ = (int(step) for step in bound.fixed)
        same += _run(samples, at + first, count) == _run(samples, at - column, count)
    return np.where(flat, level_count + FLOOR_LEVELS * coarse_count + same, context)


def predict_plane(
    samples: Samples, residuals: Residuals, at: int, layout: Layout, stage: int, stage_size: int, bound: Bound,
    span: int,
) -> None:  # fmt: skip
    """Write one stage's residuals of the raster plane whose row 0, column 0 lies at `at`."""
    count = layout.rows * layout.row_step - LEFT - RIGHT
    classes, flat = classify(samples, at, count, bound)
    predicted = predict(samples, residuals, at, count, stage, classes, bound, span)
    if stage == len(bound.stages) - 1:
        predicted = np.where(flat, _run(samples, at - 1, count), predicted)
    begin = stage * stage_size + at
    residuals[begin : begin + count] = (_run(samples, at, count) - predicted).astype(np.int16)


def predict_planes(
    samples: Samples, residuals: Residuals, at: int, planes: int, layout: Layout, stage: int, stage_size: int,
    bound: Bound, span: int,
) -> None:  # fmt: skip
    """Do `predict_plane` for as many planes, one after another from `at`, as `bound` fits."""
    for z in range(planes):
        predict_plane(samples, residuals, at + z * layout.size, layout, stage, stage_size, bound, span)


def bucket_planes(
    samples: Samples, residuals: Residuals, at: int, layout: Layout, stage_size: int, bound: Bound, levels: Ints,
    coarse: int, counts: NDArray[np.int64], values: NDArray[np.uint16],
) -> None:  # fmt: skip
    """Do `bucket_plane` for planes one after another from `at`; `counts` and `values` have a row for each."""
    for z in range(len(counts)):
        here = at + z * layout.size
        bucket_plane(samples, residuals, here, layout, stage_size, bound, levels, coarse, counts[z], values[z])


def bucket_plane(
    samples: Samples, residuals: Residuals, at: int, layout: Layout, stage_size: int, bound: Bound, levels: Ints,
    coarse: int, counts: NDArray[np.int64], values: NDArray[np.uint16],
) -> None:  # fmt: skip
    """Write the folded residuals of the raster plane at `at` by context, each context's in wavefront order.

    `counts`, zero on entry, tells how many each context has; `values` has a place for every sample.
    """
    count = layout.rows * layout.row_step - LEFT - RIGHT
    _, flat = classify(samples, at, count, bound)
    last = (len(bound.stages) - 1) * stage_size + at
    predicted = (_run(samples, at, count) - _run(residuals, last, count)) & 0xFFFF
    found = set_contexts(samples, residuals, at, count, predicted, flat, bound, levels, coarse)
    row, column = np.divmod(wavefront_order(layout.rows, layout.columns), layout.columns)
    places = row * layout.row_step + column
    contexts = found[places]
    wide = residuals[last + places].astype(np.int32)
    folded = ((wide << 1) ^ (wide >> 15)).astype(np.uint16)
    values[:] = folded[np.argsort(contexts, kind="stable")]
    counts += np.bincount(contexts, minlength=len(counts))


def decode_lines(
    samples: Samples, residuals: Residuals, at: int, layout: Layout, first: int, stop: int, stage_size: int,
    bound: Bound, levels: Ints, coarse: int, span: int, values: NDArray[np.uint16], cursors: NDArray[np.int64],
    ends: NDArray[np.int64], plain: NDArray[np.uint16],
) -> bool:  # fmt: skip
    """Decode some lines of the wavefront plane whose row 0, column 0 lies at `at`; False if the streams do not fit it.

    Lines first..stop-1, of column + 2 * row; all before are decoded. `cursors` and `ends` bound each context's run of
    `values`; the cursors move on. `plain` takes the samples row by row, without edges.
    """
    rows, columns = layout.rows, layout.columns
    stage_count = len(bound.stages)
    bases = [stage * stage_size for stage in range(stage_count)]
    for line in range(first, stop):
        top = max(0, (line - columns + 2) // 2)
        count = min(rows - 1, line // 2) - top + 1
        if count < 1:  # one column: odd lines are empty
            continue
        here = at + line * layout.column_step + top
        classes, flat = classify(samples, here, count, bound)
        predicted = [
            predict(samples, residuals, here, count, stage, classes, bound, span) for stage in range(stage_count)
        ]
        predicted[-1] = np.where(flat, _run(samples, here - layout.column_step, count), predicted[-1])
        contexts = set_contexts(samples, residuals, here, count, predicted[-1], flat, bound, levels, coarse)
        by_context = np.argsort(contexts, kind="stable")
        counts = np.bincount(contexts, minlength=len(cursors))
        if (cursors + counts > ends).any():
            return False
        places = np.repeat(cursors - (np.cumsum(counts) - counts), counts) + np.arange(count)
        cursors += counts
        folded = np.empty(count, np.int32)
        folded[by_context] = values[places]
        decoded = (predicted[-1] + ((folded >> 1) ^ -(folded & 1))) & 0xFFFF
        if (decoded > span).any():
            return False
        samples[here : here + count] = decoded
        plain[line + np.arange(top, top + count) * (columns - 2)] = decoded
        for base, prediction in zip(bases, predicted, strict=True):
            residuals[base + here : base + here + count] = (decoded - prediction).astype(np.int16)
        _extend(samples, here, top, count, line, layout)
        for base in bases:
            _extend(residuals, base + here, top, count, line, layout)
    return True


def _extend(array: NDArray[np.generic], here: int, top: int, count: int, line: int, layout: Layout) -> None:
    """Fill the edges that follow from the line just decoded."""
    column, row = layout.column_step, layout.row_step
    bottom = top + count - 1
    if line % 2 == 0 and top <= line // 2 <= bottom:  # column 0: the left edge of the next row
        place = here + line // 2 - top
        for step in range(1, LEFT + 1):
            array[place + row - step * column] = array[place]
    if line - 2 * top == layout.columns - 1:  # the last column: the right edge
        for step in range(1, RIGHT + 1):
            array[here + step * column] = array[here]
    if bottom == layout.rows - 1:  # the last row: both rows below
        place = here + count - 1
        for depth in range(1, TOP + 1):
            array[place + depth * row] = array[place]
        if line - 2 * bottom == 0:
            for depth in range(1, TOP + 1):
                for step in range(1, LEFT + 1):
                    array[place + depth * row - step * column] = array[place - step * column]
        if line - 2 * bottom == layout.columns - 1:
            for depth in range(1, TOP + 1):
                for step in range(1, RIGHT + 1):
                    array[place + depth * row + step * column] = array[place]


def split(
    by_plane: NDArray[np.uint16], counts: NDArray[np.int64], *, threads: Threads = 1
) -> tuple[NDArray[np.uint8], bytes]:
    """Put each context's folded residuals together, plane after plane, and split them into tokens and packed raw bits.

    Parameters
    ----------
    by_plane
        Shape (planes, samples), each plane's values by context, as `bucket_plane` wrote them.
    counts
        Shape (planes, contexts).
    threads
        Not used here.
    """
    ends = np.cumsum(counts, axis=1)
    planes, contexts = range(len(counts)), range(counts.shape[1])
    runs = [by_plane[z, ends[z, one] - counts[z, one] : ends[z, one]] for one in contexts for z in planes]
    return tokens.split(np.concatenate(runs))


def join(coded: NDArray[np.uint8], raw: bytes, *, threads: Threads = 1) -> NDArray[np.uint16]:
    """Undo `split`; `threads` are not used here.

    Raises
    ------
    CorruptError
        If a residual has more than 16 bits or the raw bits do not fit the tokens.
    """
    if len(coded) and int(coded.max()) > tokens.LAST_16_BIT_TOKEN:
        raise CorruptError("a residual of a volume slab has more than 16 bits; the archive is damaged")
    return tokens.join(coded, raw).astype(np.uint16)
