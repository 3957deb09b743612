"""Padded planes in two layouts, raster and wavefront, and the neighbours' offsets in each.

Every plane carries three columns on the left, two on the right and two rows above and below, so
that no neighbour needs a test. In the raster layout a column step is 1 and a row step is the row's
length. In the wavefront layout the sample (row y, column x) lies in line t = x + 2 * y at place y:
all samples of a line are independent of each other and contiguous, for one vector or one GPU step.
Source: docs/format-volume.md, sections "Planes" and "Edges".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.levels import Tap

__all__ = ["LEFT", "RIGHT", "TOP", "Layout", "References", "fill_edges", "resolve_references", "wavefront_order"]

LEFT: Final = 3
RIGHT: Final = 2
TOP: Final = 2
# The most negative line that a padded sample of row -2 lies in: -3 - 2 * 2.
_LINE_ZERO: Final = LEFT + 2 * TOP

References = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Layout:
    """Tell where the samples of a padded plane lie.

    `column_step` and `row_step` are what one column and one row add to a position, `origin` is
    the position of row 0, column 0, `size` the number of places in a plane.
    """

    rows: int
    columns: int
    column_step: int
    row_step: int
    origin: int
    size: int

    @classmethod
    def raster(cls, rows: int, columns: int) -> Layout:
        """Describe rows one after another."""
        width = columns + LEFT + RIGHT
        return cls(rows, columns, 1, width, TOP * width + LEFT, (rows + 2 * TOP) * width)

    @classmethod
    def wavefront(cls, rows: int, columns: int) -> Layout:
        """Describe lines of equal column + 2 * row one after another."""
        height = rows + 2 * TOP
        lines = _LINE_ZERO + columns + RIGHT + 2 * (rows + 1)
        return cls(rows, columns, height, 2 * height + 1, _LINE_ZERO * height + TOP, lines * height)

    def offset(self, tap: Tap, first: int, second: int) -> int:
        """Return what leads from a sample to its neighbour, given where both reference planes are."""
        role, row, column = tap
        return (0, first, second)[role] + row * self.row_step + column * self.column_step


def resolve_references(plane: int, pattern: References) -> tuple[int, int] | None:
    """Return the two reference planes of a plane, or None where it has to do without.

    A missing second reference is replaced by the first.
    """
    first, second = pattern[plane % len(pattern)]
    if first < 1 or first > plane:
        return None
    return plane - first, plane - second if 1 <= second <= plane else plane - first


def wavefront_order(rows: int, columns: int) -> NDArray[np.int64]:
    """Return the raster indices of a plane's samples by (column + 2 * row, row)."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.lexsort((row, column + 2 * row))


def fill_edges(planes: NDArray[np.generic], resolved: Sequence[tuple[int, int] | None], start: int) -> None:
    """Fill the edges of raster planes, shape (planes, rows + 4, columns + 5), in place.

    Parameters
    ----------
    resolved
        The two reference planes of each, of which the first's padded row 0 stands above its own, or None.
    start
        What stands above a plane without.
    """
    inner = planes[:, TOP:-TOP]
    inner[:, :, -RIGHT:] = inner[:, :, -RIGHT - 1 : -RIGHT]
    inner[:, 1:, :LEFT] = inner[:, :-1, LEFT : LEFT + 1]
    for image, pair in zip(planes, resolved, strict=True):
        image[:TOP] = start if pair is None else planes[pair[0], TOP]
        image[TOP, :LEFT] = image[TOP - 1, LEFT]
    planes[:, -TOP:] = planes[:, -TOP - 1 : -TOP]
