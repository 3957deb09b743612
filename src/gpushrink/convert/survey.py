"""One look at all pixels of a stack: projections for the preview, a coarse mask for the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.convert.geometry import Box
from gpushrink.convert.stack import SourceImage, Stack, decoded
from gpushrink.errors import UsageError

__all__ = ["Projections", "body_box", "project"]

Plane2D = NDArray[np.float32]

_COARSE = 128
"""The mask's longest side in cells: fine enough for a margin of millimetres, small enough for pure numpy."""


@dataclass(frozen=True)
class Projections:
    """Hold the three maximum projections, in modality units: axial (y, x), coronal (z, x), sagittal (z, y)."""

    axial: Plane2D
    coronal: Plane2D
    sagittal: Plane2D
    spacing_mm: tuple[float, float, float]


def _slices(stack: Stack) -> Any:
    """Yield (number along the normal, frame in modality units (rows, columns), validity)."""
    for image in stack.images:
        ds, frames = decoded(image)
        slope, intercept = _rescale(image, ds)
        padding = ds.get("PixelPaddingValue")
        for number, frame in zip(image.numbers, frames, strict=True):
            grey = frame.astype(np.float32).mean(axis=-1) if frame.ndim == 3 else frame.astype(np.float32)
            valid = np.ones(grey.shape, bool) if not isinstance(padding, int) else grey != padding
            yield number, grey * slope + intercept, valid


def _rescale(image: SourceImage, ds: Any) -> tuple[float, float]:
    # Slices of a PET series have slopes of their own: stored values do not compare between them.
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    return (float(slope) if slope else 1.0, float(intercept) if intercept else 0.0)


def spacing_of(stack: Stack) -> tuple[float, float, float]:
    """Give the spacing along the normal, the columns and the rows (z, y, x), 1 where unknown."""
    if not stack.placed:
        return (1.0, 1.0, 1.0)
    first = stack.images[0].planes[0]
    places = [float(np.dot(p.position, first.normal)) for image in stack.images for p in image.planes]
    between = (max(places) - min(places)) / (stack.slices - 1) if stack.slices > 1 else first.row_spacing_mm
    return (between, first.row_spacing_mm, first.column_spacing_mm)


def project(stack: Stack) -> Projections:
    """Project the stack's maxima onto its three planes."""
    low = np.float32(-np.inf)
    axial = np.full((stack.rows, stack.columns), low, np.float32)
    coronal = np.full((stack.slices, stack.columns), low, np.float32)
    sagittal = np.full((stack.slices, stack.rows), low, np.float32)
    for number, values, _ in _slices(stack):
        np.maximum(axial, values, out=axial)
        coronal[number] = np.maximum(coronal[number], values.max(axis=0))
        sagittal[number] = np.maximum(sagittal[number], values.max(axis=1))
    return Projections(axial, coronal, sagittal, spacing_of(stack))


def body_box(stack: Stack, margin_mm: float) -> Box:
    """Bound the largest connected thing above Otsu's threshold, widened by a margin.

    The mask is coarse: a cell counts where any of its voxels does, so the box errs outwards.

    Raises
    ------
    UsageError
        All values are the same, so nothing stands out.
    """
    step = max(1, -(-max(stack.rows, stack.columns) // _COARSE))
    height, width = -(-stack.rows // step), -(-stack.columns // step)
    coarse = np.full((stack.slices, height, width), -np.inf, np.float32)
    for number, values, valid in _slices(stack):
        shown = np.where(valid, values, -np.inf)
        padded = np.full((height * step, width * step), -np.inf, np.float32)
        padded[: stack.rows, : stack.columns] = shown
        # The mean of a cell's brighter half would be kinder to noise; the median row of maxima is cheap and near it.
        cells = np.median(padded.reshape(height, step, width, step).max(axis=3), axis=1)
        coarse[number] = np.maximum(coarse[number], cells)
    finite = coarse[np.isfinite(coarse)]
    if finite.size == 0 or finite.min() == finite.max():
        raise UsageError("auto-body: all values are the same, nothing stands out")
    body = _largest_component(coarse > _otsu(finite))
    gaps = spacing_of(stack)
    ranges = []
    for axis, (cell, size) in enumerate(((1, stack.slices), (step, stack.rows), (step, stack.columns))):
        used = np.unique(body[:, axis])
        margin = int(np.ceil(margin_mm / gaps[axis]))
        ranges.append((max(0, int(used[0]) * cell - margin), min(size, (int(used[-1]) + 1) * cell + margin)))
    return Box(ranges[2], ranges[1], ranges[0])


def _otsu(values: NDArray[np.float32]) -> float:
    """Find the threshold with the greatest variance between the classes (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts)
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * weight / weight[-1] - total) ** 2 / (weight * (weight[-1] - weight))
    best = int(np.nanargmax(between[:-1]))
    return float(edges[best + 1])


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the cells (z, y, x) of the largest face-connected component.

    Each wave of the flood is one numpy call; a search ends once fewer cells are left than the best has.
    """
    shape = tuple(size + 2 for size in mask.shape)
    left = np.zeros(shape, bool)
    left[1:-1, 1:-1, 1:-1] = mask  # a border of False: no wave leaves the array
    flat = left.ravel()
    jumps = np.array([s * sign for s in (1, shape[2], shape[1] * shape[2]) for sign in (1, -1)])
    remaining, best = int(flat.sum()), np.zeros(0, np.int64)
    starts = np.flatnonzero(flat)
    for start in starts:
        if not flat[start]:
            continue
        if remaining <= best.size:
            break
        wave = np.array([start])
        flat[wave] = False
        found = [wave]
        while wave.size:
            near = np.unique((wave[:, None] + jumps).ravel())
            wave = near[flat[near]]
            flat[wave] = False
            found.append(wave)
        component = np.concatenate(found)
        remaining -= component.size
        if component.size > best.size:
            best = component
    return np.stack(np.unravel_index(best, shape), axis=1) - 1
