"""Planes in patient space, stacks of them, and boxes: which voxels lie where, to the micrometre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpushrink.errors import UsageError

__all__ = ["Box", "Plane", "bounding_box", "order_along_normal"]

Vector = NDArray[np.float64]

SAME_POSITION_MM = 0.01
"""Slices nearer than this along the normal are one place (several echoes or times of it)."""
_EDGE_MM = 1e-6
"""Half-open edges in millimetres are taken with this slack: DS values carry about nine digits."""


@dataclass(frozen=True)
class Plane:
    """Place one frame in patient coordinates (LPS, millimetres).

    ``position`` is the centre of the first voxel; ``along_row`` points along growing columns and
    ``along_column`` along growing rows; ``row_spacing_mm`` is PixelSpacing[0], between rows.
    Source: PS3.3 C.7.6.2.1.1.
    """

    position: tuple[float, float, float]
    along_row: tuple[float, float, float]
    along_column: tuple[float, float, float]
    row_spacing_mm: float
    column_spacing_mm: float

    @property
    def normal(self) -> Vector:
        """Give the unit normal, along_row x along_column."""
        cross = np.cross(self.along_row, self.along_column)
        return np.asarray(cross / np.linalg.norm(cross), dtype=np.float64)

    def voxel(self, column: float, row: float) -> Vector:
        """Give the patient coordinates of a voxel's centre."""
        return (
            np.asarray(self.position)
            + np.asarray(self.along_row) * self.column_spacing_mm * column
            + np.asarray(self.along_column) * self.row_spacing_mm * row
        )


@dataclass(frozen=True)
class Box:
    """Bound voxels, half-open from 0: x columns, y rows, z slices along the normal (None: all of them)."""

    x: tuple[int, int]
    y: tuple[int, int]
    z: tuple[int, int] | None = None

    def within(self, columns: int, rows: int, slices: int) -> Box:
        """Check the box against a stack and fill z in.

        Raises
        ------
        UsageError
            The box is empty or leaves the image: it is never cut to fit in silence.
        """
        z = self.z or (0, slices)
        for name, (low, high), size in (("x", self.x, columns), ("y", self.y, rows), ("z", z, slices)):
            if not 0 <= low < high <= size:
                raise UsageError(f"box {name}={low}:{high} is empty or leaves the image, which has {size} there")
        return Box(self.x, self.y, z)

    def __str__(self) -> str:
        ranges = (self.x, self.y) if self.z is None else (self.x, self.y, self.z)
        return ",".join(f"{low}:{high}" for low, high in ranges)


def order_along_normal(planes: Sequence[Plane]) -> list[int]:
    """Number the planes by their place along the common normal, from 0; equal places share a number.

    With a tilted gantry the positions also walk sideways; only their share along the normal orders them.

    Raises
    ------
    UsageError
        The planes are not parallel, or their pixel spacings differ.
    """
    first = planes[0]
    for plane in planes:
        aligned = np.allclose(plane.along_row, first.along_row, atol=1e-4) and np.allclose(
            plane.along_column, first.along_column, atol=1e-4
        )
        spaced = np.allclose(
            (plane.row_spacing_mm, plane.column_spacing_mm),
            (first.row_spacing_mm, first.column_spacing_mm),
            rtol=1e-5,
        )
        if not aligned or not spaced:
            raise UsageError("the slices of the series differ in orientation or spacing; no one box fits them")
    places = np.array([float(np.dot(plane.position, first.normal)) for plane in planes])
    numbers = np.zeros(len(planes), dtype=np.int64)
    order = np.argsort(places, kind="stable")
    steps = np.diff(places[order]) > SAME_POSITION_MM
    numbers[order[1:]] = np.cumsum(steps)
    return [int(n) for n in numbers]


def bounding_box(
    planes: Sequence[Plane], numbers: Sequence[int], columns: int, rows: int, low: Vector, high: Vector
) -> Box:
    """Find the smallest box that has every voxel whose centre lies in ``low <= centre < high`` (LPS, mm).

    For an orientation that is oblique to the patient's axes the box also has voxels outside the
    region, at its corners; with a tilted gantry it has the in-plane union over the slices, since one
    box must fit them all.

    Raises
    ------
    UsageError
        No voxel centre lies there.
    """
    first = planes[0]
    across = np.outer(np.arange(columns), np.asarray(first.along_row) * first.column_spacing_mm)
    down = np.outer(np.arange(rows), np.asarray(first.along_column) * first.row_spacing_mm)
    bounds: list[tuple[int, int, int, int, int]] = []
    for plane, number in zip(planes, numbers, strict=True):
        inside = np.ones((rows, columns), dtype=bool)
        for axis in range(3):
            centre = plane.position[axis] + down[:, axis, None] + across[None, :, axis]
            inside &= (centre >= low[axis] - _EDGE_MM) & (centre < high[axis] - _EDGE_MM)
        if inside.any():
            ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            bounds.append((int(xs[0]), int(xs[-1]) + 1, int(ys[0]), int(ys[-1]) + 1, number))
    if not bounds:
        raise UsageError("no voxel of the series lies in that region")
    table = np.array(bounds)
    return Box(
        (int(table[:, 0].min()), int(table[:, 1].max())),
        (int(table[:, 2].min()), int(table[:, 3].max())),
        (int(table[:, 4].min()), int(table[:, 4].max()) + 1),
    )
