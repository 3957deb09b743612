"""Where the voxels of a volume lie in the patient, and what their values mean.

Source: DICOM PS3.3 C.7.6.2.1.1 (position, orientation, spacing), C.11.1 (rescale).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Geometry", "Plane", "Rescale", "Vector", "alike", "lay_grid", "normal_of"]

Vector = tuple[float, float, float]

# Slices may lie off an even grid by this share of a step, or by this many mm: stored positions are rounded.
_UNEVEN = 0.01
_UNEVEN_MM = 0.01
# How far components of unit vectors and spacings in mm may differ and count as equal.
_SAME = 1e-3


@dataclass(frozen=True, slots=True)
class Plane:
    """Place a frame in the patient.

    Parameters
    ----------
    position
        The centre of its first voxel, in mm.
    along_row, along_column
        Where growing columns and growing rows lead: unit vectors.
    spacing
        Between rows and between columns, in mm; None where the file does not tell.
    thickness
        What one slice is from the next, or thick, in mm; 0 where the file does not tell.
    """

    position: Vector
    along_row: Vector
    along_column: Vector
    spacing: tuple[float, float] | None
    thickness: float = 0.0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Place the voxels of an evenly spaced volume in the patient: LPS coordinates, in mm.

    All triples are in the order of the array's axes: slice, row, column.

    Attributes
    ----------
    origin
        The centre of voxel [0, 0, 0].
    spacing
        From one voxel to the next along each axis.
    direction
        The unit vector along each axis. That of the slices is no normal where the gantry was tilted.
    """

    origin: Vector
    spacing: Vector
    direction: tuple[Vector, Vector, Vector]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Give the 4 x 4 matrix that leads from [slice, row, column, 1] to [x, y, z, 1]."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.direction).T * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def as_json(self) -> dict[str, object]:
        """Return it as values that JSON can hold."""
        return {"origin": self.origin, "spacing": self.spacing, "direction": self.direction}


@dataclass(frozen=True, slots=True)
class Rescale:
    """Say what stored samples mean: ``sample * slope + intercept``, for each slice. Nothing here applies it.

    Attributes
    ----------
    slopes, intercepts
        One for each slice: PET scales each on its own.
    unit
        RescaleType or Units, as the file has it; may be empty.
    """

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    unit: str = ""

    @property
    def uniform(self) -> tuple[float, float] | None:
        """Give slope and intercept where all slices share them."""
        pairs = set(zip(self.slopes, self.intercepts, strict=True))
        return pairs.pop() if len(pairs) == 1 else None

    def as_json(self) -> dict[str, object]:
        """Return it as values that JSON can hold, short where all slices share one."""
        if (pair := self.uniform) is not None:
            return {"slope": pair[0], "intercept": pair[1], "unit": self.unit}
        return {"slope": self.slopes, "intercept": self.intercepts, "unit": self.unit}


def normal_of(plane: Plane) -> Vector:
    """Return the unit normal, along_row x along_column."""
    u, v = plane.along_row, plane.along_column
    return (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])


def alike(one: Plane, other: Plane) -> bool:
    """Tell whether two planes are parallel and have the same spacing, as far as headers are exact."""
    if (one.spacing is None) != (other.spacing is None):
        return False
    these, those = ((*p.along_row, *p.along_column, *(p.spacing or ())) for p in (one, other))
    return all(abs(a - b) <= _SAME for a, b in zip(these, those, strict=True))


def lay_grid(planes: Sequence[Plane | None]) -> Geometry | None:
    """Return the grid that planes in order lie on; None where they lie on none, or are not placed at all."""
    placed = [plane for plane in planes if plane is not None]
    if not placed or len(placed) != len(planes):
        return None
    first = placed[0]
    if first.spacing is None or any(not alike(plane, first) for plane in placed[1:]):
        return None
    if len(placed) == 1:
        step = np.array(normal_of(first)) * first.thickness
    else:
        positions = np.array([plane.position for plane in placed])
        step = (positions[-1] - positions[0]) / (len(placed) - 1)
        off = np.abs(positions - positions[0] - np.arange(len(placed))[:, None] * step).max()
        if off > max(_UNEVEN_MM, _UNEVEN * float(np.linalg.norm(step))):
            return None
    length = float(np.linalg.norm(step))
    if not (math.isfinite(length) and length > 0):
        return None
    along: Any = (step / length).tolist()
    return Geometry(
        origin=first.position,
        spacing=(length, *first.spacing),
        direction=((along[0], along[1], along[2]), first.along_column, first.along_row),
    )
