"""The region a user asks for: its three ways of being said, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass

from gpushrink.convert.geometry import Box
from gpushrink.errors import UsageError

__all__ = ["AutoBody", "PatientRegion", "Region", "parse_around", "parse_box", "parse_mm"]


@dataclass(frozen=True)
class PatientRegion:
    """Bound a region along the patient's axes (LPS), in millimetres, half-open."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __str__(self) -> str:
        return "mm " + ",".join(f"{a:g}:{b:g}" for a, b in zip(self.low, self.high, strict=True))


@dataclass(frozen=True)
class AutoBody:
    """Ask for the largest connected thing above the background, and a margin around it."""

    margin_mm: float = 5.0

    def __str__(self) -> str:
        return f"auto-body, margin {self.margin_mm:g} mm"


Region = Box | PatientRegion | AutoBody


def parse_box(text: str) -> Box:
    """Parse ``x0:x1,y0:y1[,z0:z1]``: whole numbers, half-open, from 0.

    Raises
    ------
    UsageError
        The text is not of that form.
    """
    ranges = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        if not colon or not low.strip().isdigit() or not high.strip().isdigit():
            raise UsageError(f"--box {text!r}: give x0:x1,y0:y1 or x0:x1,y0:y1,z0:z1 in whole pixels")
        ranges.append((int(low), int(high)))
    if len(ranges) not in (2, 3):
        raise UsageError(f"--box {text!r}: two or three ranges are needed")
    return Box(ranges[0], ranges[1], ranges[2] if len(ranges) == 3 else None)


def parse_mm(text: str) -> PatientRegion:
    """Parse ``x0:x1,y0:y1,z0:z1`` in millimetres of the patient's axes (LPS).

    Raises
    ------
    UsageError
        The text is not of that form, or a range is empty.
    """
    try:
        low, high = zip(*(map(float, part.split(":")) for part in text.split(",")), strict=True)
    except (ValueError, TypeError):
        raise UsageError(f"--mm {text!r}: give x0:x1,y0:y1,z0:z1 in millimetres") from None
    if len(low) != 3 or not all(a < b for a, b in zip(low, high, strict=True)):
        raise UsageError(f"--mm {text!r}: three ranges are needed, each with its low end first")
    return PatientRegion((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def parse_around(centre: str, size: str) -> PatientRegion:
    """Parse a centre ``x,y,z`` (LPS, mm) and a size ``a,b,c`` along the patient's axes, or one for all three.

    Raises
    ------
    UsageError
        The texts are not of that form, or a size is not positive.
    """
    try:
        middle = [float(part) for part in centre.split(",")]
        sizes = [float(part) for part in size.split(",")]
    except ValueError:
        raise UsageError(f"--around {centre!r} --size {size!r}: give numbers in millimetres") from None
    sizes = sizes * 3 if len(sizes) == 1 else sizes
    if len(middle) != 3 or len(sizes) != 3 or min(sizes) <= 0:
        raise UsageError(f"--around {centre!r} --size {size!r}: three coordinates and one or three positive sizes")
    low, high = ([m + sign * s / 2 for m, s in zip(middle, sizes, strict=True)] for sign in (-1, 1))
    return PatientRegion((low[0], low[1], low[2]), (high[0], high[1], high[2]))
