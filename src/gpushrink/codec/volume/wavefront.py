"""Decode a slab's planes, several at once: each follows its reference planes at a few lines' distance.

Source: docs/format-volume.md.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.parallel import Threads, most_of, run_over
from gpushrink.codec.volume.geometry import LEFT, RIGHT, TOP, Layout
from gpushrink.codec.volume.parameters import Model
from gpushrink.errors import CorruptError

__all__ = ["LEAD", "decode_planes"]

# Lines that a reference plane must be ahead: what the taps reach, and the edges that later lines fill.
LEAD: Final = 8
# A plane is decoded in parts while others wait for it: small ones are not worth the waiting.
_PART_SAMPLES: Final = 1 << 14
_MOST_PLANES: Final = 8


@dataclass
class _Slab:
    """Hold what the planes of a slab share; samples and residuals are a ring of planes."""

    model: Model
    kernels: ModuleType
    layout: Layout
    samples: NDArray[np.uint16]
    residuals: NDArray[np.int16]
    values: NDArray[np.uint16]

    @cached_property
    def slots(self) -> int:
        return len(self.samples) // self.layout.size

    @cached_property
    def arrays(self) -> list[tuple[NDArray[Any], int]]:
        """Samples and each stage's residuals, each with what is above a plane without references."""
        stages = np.split(self.residuals, self.model.stage_count)
        return [(self.samples, self.model.start), *((stage, 0) for stage in stages)]


class _Progress:
    """Tell how many lines of each plane are decoded, and which planes are done, so that their memory is free."""

    def __init__(self, planes: int, lines: int) -> None:
        self._lines = lines
        self._done = [0] * planes
        self._out = [False] * planes
        self._all_out = 0  # planes before this one are out
        self._at_work = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def begin(self, z: int, free: int) -> None:
        """Begin plane z, once all planes before `free` are out."""
        with self._changed:
            self._at_work += 1
            while self._all_out < free:
                self._wait()

    def choose_stop(self, first: int, part: int) -> int:
        """Return how far to go from a line: to the end if no other plane is at work."""
        return self._lines if self._at_work == 1 else min(first + part, self._lines)

    def wait_for(self, planes: Sequence[int], lines: int) -> None:
        """Wait until so many lines of planes are decoded."""
        with self._changed:
            while any(self._done[z] < min(lines, self._lines) for z in planes):
                self._wait()

    def reach(self, z: int, lines: int) -> None:
        """Say that so many lines of plane z are decoded."""
        with self._changed:
            self._done[z] = lines
            self._changed.notify_all()

    def end(self, z: int) -> None:
        """Say that plane z is out."""
        with self._changed:
            self._at_work -= 1
            self._out[z] = True
            while self._all_out < len(self._out) and self._out[self._all_out]:
                self._all_out += 1
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Let nobody wait for what will not come."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def forget(self) -> None:
        """Let go of the error, which holds this by its traceback."""
        self._error = None

    def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._changed.wait()


def decode_planes(
    model: Model, kernels: ModuleType, layout: Layout, resolved: Sequence[tuple[int, int] | None],
    counts: NDArray[np.int64], values: NDArray[np.uint16], out: NDArray[Any], *, threads: Threads,
) -> None:  # fmt: skip
    """Decode all planes of a slab.

    Parameters
    ----------
    kernels
        An engine's `decode_lines`.
    layout
        Wavefront.
    resolved
        The two reference planes of each plane, or None.
    counts
        Shape (plane, context): how many residuals each context has in each plane.
    values
        Folded residuals by context, each context's plane after plane, as `join` gives them.
    out
        Shape (plane, row, column), C-contiguous, in the machine's byte order; takes the samples.
    threads
        How many planes may be at work at once.

    Raises
    ------
    CorruptError
        If the streams do not fit a plane.
    """
    depth, area = len(resolved), layout.rows * layout.columns
    window = min(most_of(threads), depth, _MOST_PLANES, max(1, area // _PART_SAMPLES))
    reach = max((z - min(pair) for z, pair in enumerate(resolved) if pair is not None), default=0)
    slots = min(depth, reach + window)
    slab = _Slab(
        model, kernels, layout, np.zeros(slots * layout.size, np.uint16),
        np.zeros(model.stage_count * slots * layout.size, np.int16), values,
    )  # fmt: skip
    lengths = counts.sum(axis=0)
    # Contiguous with one plane and with many: else there would be two machine codes.
    ends = np.ascontiguousarray(np.cumsum(lengths) - lengths + np.cumsum(counts, axis=0))
    lines = layout.columns + 2 * (layout.rows - 1)
    progress = _Progress(depth, lines)
    part = max(LEAD, -(-lines // min(2 * window + 2, max(1, area // _PART_SAMPLES))))

    def decode(z: int) -> None:
        try:
            progress.begin(z, z - window + 1)
            # Where samples have 16 bits, in the memory that they stay in.
            wide = out.itemsize == 2
            plain = out[z].reshape(-1).view(np.uint16) if wide else np.empty(area, np.uint16)
            plane = _Plane(slab, z, resolved[z], ends[z] - counts[z], ends[z])
            first = 0
            while first < lines:
                stop = progress.choose_stop(first, part)
                progress.wait_for(resolved[z] or (), stop + LEAD)
                plane.decode(first, stop, plain)
                progress.reach(z, stop)
                first = stop
            if not wide or model.least:
                shape = (layout.rows, layout.columns)
                # Modulo 2^16 the same for signed samples.
                np.add(plain.reshape(shape), np.uint16(model.least & 0xFFFF), out=_unsigned(out[z]), casting="unsafe")
            progress.end(z)
        except BaseException as error:
            progress.fail(error)
            raise

    try:
        run_over(decode, range(depth), threads=threads if window > 1 else 1, failed=progress.fail)
    finally:
        progress.forget()


def _unsigned(array: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """View samples as unsigned ones of their size."""
    return array.view(f"u{array.itemsize}")


class _Plane:
    """Decode one plane, line after line, in its place of the ring."""

    def __init__(
        self, slab: _Slab, z: int, pair: tuple[int, int] | None, cursors: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> None:
        self._slab, self._z = slab, z
        self._cursors, self._ends = cursors, ends
        self._above = -LEFT  # columns of the rows above that are filled
        slot, size = z % slab.slots, slab.layout.size
        self._at = slot * size + slab.layout.origin
        first, second = (0, 0) if pair is None else ((one % slab.slots - slot) * size for one in pair)
        self._first = None if pair is None else first
        self._bound = slab.model.bind(pair is not None, slab.layout, first, second, len(slab.samples))

    def decode(self, first: int, stop: int, plain: NDArray[np.uint16]) -> None:
        """Decode lines first..stop-1, into `plain` too; the reference planes are `LEAD` lines ahead."""
        slab, model = self._slab, self._slab.model
        self._fill_above(min(stop + LEAD, slab.layout.columns + RIGHT))
        if not slab.kernels.decode_lines(
            slab.samples, slab.residuals, self._at, slab.layout, first, stop, len(slab.samples), self._bound,
            model.levels, model.coarse, model.span, slab.values, self._cursors, self._ends, plain,
        ):  # fmt: skip
            raise CorruptError(f"the streams of plane {self._z} of a volume slab do not fit it; the archive is damaged")

    def _fill_above(self, stop: int) -> None:
        """Fill the rows above up to a column, first of all the left edge of row 0 too."""
        if stop == self._above:
            return
        row, column = self._slab.layout.row_step, self._slab.layout.column_step
        begin = self._at + self._above * column
        end = self._at + (stop - 1) * column + 1
        for array, without in self._slab.arrays:
            above = without if self._first is None else array[begin + self._first : end + self._first : column]
            for depth in range(1, TOP + 1):
                array[begin - depth * row : end - depth * row : column] = above
            if self._above < 0:
                array[begin : self._at : column] = array[self._at - row]
        self._above = stop
