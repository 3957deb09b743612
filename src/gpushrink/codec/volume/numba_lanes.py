"""Weighing the neighbours of several samples at once, each with the coefficients of its own class.

Coefficients of a class lie side by side, samples of a run too: so a few rows of coefficients are loaded, turned, and
multiplied, tap by tap, with samples as they lie. LLVM does not find this by itself, and gathers instead, at three times
the time; it is said to LLVM directly, as vectors of whole numbers, which every processor has or LLVM makes of smaller
ones. Wraps around as docs/format-volume.md, section "Prediction", has it.
"""
# ruff: noqa: E501
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import errors, types
from numba.extending import intrinsic

__all__ = ["TAPS", "add_to_eight", "add_to_four"]

# Taps weighed in one go: fours and at most one two. Tap sets of several stages have 10, 20 or 40 of a kind.
TAPS: Final = 10

_INT16, _INT32, _INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _load(builder: Any, base: Any, at: Any, kind: Any, count: int) -> Any:
    """Load so many elements that lie side by side, aligned as single ones are."""
    place = builder.bitcast(builder.gep(base, [at]), ir.VectorType(kind, count).as_pointer())
    return builder.load(place, align=kind.width // 8)


def _pick(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    """Make a vector of elements of two, numbered through both."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT32, len(places)), places))


def _turn_four(builder: Any, rows: list[Any]) -> list[Any]:
    """Turn rows of four coefficients, one for each of 4 or 8 samples, to four vectors with an element for each sample."""
    lanes = len(rows)
    if lanes == 8:
        rows = [_pick(builder, rows[k], rows[k + 4], list(range(8))) for k in range(4)]

    def each(*places: int) -> list[int]:
        # In 128 bits at a time, as processors shuffle fastest.
        return [half + (place % 4) + (lanes if place >= 4 else 0) for half in range(0, lanes, 4) for place in places]

    ab_low, ab_high = (_pick(builder, rows[0], rows[1], each(*order)) for order in ((0, 4, 1, 5), (2, 6, 3, 7)))
    cd_low, cd_high = (_pick(builder, rows[2], rows[3], each(*order)) for order in ((0, 4, 1, 5), (2, 6, 3, 7)))
    return [
        _pick(builder, one, other, each(*order))
        for one, other in ((ab_low, cd_low), (ab_high, cd_high))
        for order in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]


def _turn_two(builder: Any, rows: list[Any]) -> list[Any]:
    """Turn rows of two coefficients likewise."""
    pairs = [
        _pick(builder, rows[k], rows[k + 2], [0, 1, 2, 3]) for half in range(0, len(rows), 4) for k in (half, half + 1)
    ]
    if len(rows) == 8:
        pairs = [_pick(builder, pairs[k], pairs[k + 2], list(range(8))) for k in range(2)]
    even = range(0, len(rows), 2)
    return [
        _pick(builder, pairs[0], pairs[1], [lane for k in even for lane in (k + tap, len(rows) + k + tap)])
        for tap in range(2)
    ]


def _make(lanes: int) -> Any:
    @intrinsic
    def add(typing_context, values, place, offsets, first, table, rows, run, total):
        """Add to total[run + s], for so many samples s, table[rows[run + s] + k] * values[place + s + offsets[first + k]].

        k runs over the taps. Arrays are contiguous: values int16 or uint16, offsets int64, table, rows and total int32;
        `table` begins with the first tap's coefficient.
        """
        fit = [values.dtype in (types.int16, types.uint16), offsets.dtype == types.int64]
        fit += [kind.dtype == types.int32 for kind in (table, rows, total)]
        fit += [kind.layout == "C" and kind.ndim == 1 for kind in (values, offsets, table, rows, total)]
        if not all(fit):
            raise errors.TypingError("elements of their sizes that lie side by side are asked for")
        signature = types.void(values, types.uint64, offsets, types.uint64, table, rows, types.uint64, total)

        def generate(context, builder, signature, arguments):
            def data(index):
                return context.make_array(signature.args[index])(context, builder, arguments[index]).data

            source, steps, coefficients, own, sums = data(0), data(2), data(4), data(5), data(7)
            place, first, run = arguments[1], arguments[3], arguments[6]
            widen = builder.sext if signature.args[0].dtype.signed else builder.zext
            wide = ir.VectorType(_INT32, lanes)
            places = [builder.gep(own, [builder.add(run, _INT64(s))]) for s in range(lanes)]
            begins = [builder.sext(builder.load(one), _INT64) for one in places]
            found = _load(builder, sums, run, _INT32, lanes)
            for at in range(0, TAPS, 4):
                count = min(4, TAPS - at)
                here = builder.gep(coefficients, [_INT64(at)])
                rows_of = [_load(builder, here, begin, _INT32, count) for begin in begins]
                turned = _turn_four(builder, rows_of) if count == 4 else _turn_two(builder, rows_of)
                for k, weights in enumerate(turned):
                    step = builder.load(builder.gep(steps, [builder.add(first, _INT64(at + k))]))
                    near = widen(_load(builder, source, builder.add(place, step), _INT16, lanes), wide)
                    found = builder.add(found, builder.mul(near, weights))
            builder.store(found, builder.bitcast(builder.gep(sums, [run]), wide.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, generate

    return add


add_to_eight, add_to_four = _make(8), _make(4)
