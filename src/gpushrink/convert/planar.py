"""What else in an image counts in pixels: overlays, shutters, collimators, ultrasound regions, extremes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpushrink.convert.frames import Frame
from gpushrink.convert.geometry import Box

__all__ = ["crop_overlays", "set_extremes", "shift_edges", "shift_regions"]

_COLUMN_EDGES = tuple(f"{kind}{side}VerticalEdge" for kind in ("Shutter", "Collimator") for side in ("Left", "Right"))
_ROW_EDGES = tuple(f"{kind}{side}HorizontalEdge" for kind in ("Shutter", "Collimator") for side in ("Upper", "Lower"))
_ROW_COLUMN_PAIRS = (
    "CenterOfCircularShutter",
    "VerticesOfThePolygonalShutter",
    "CenterOfCircularCollimator",
    "VerticesOfThePolygonalCollimator",
)


def crop_overlays(ds: Any, box: Box) -> None:
    """Crop every overlay plane to the box, or remove it where nothing of it is left.

    An overlay of several frames is removed, as is one that cannot be read. An overlay in unused pixel
    bits was cropped with its pixels, and only its size is set. Source: PS3.3 C.9.2.
    """
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0010) not in ds:
            continue
        if (group, 0x3000) not in ds and int(_one(ds, group, 0x0102) or 0) > 0:
            _set(ds, group, "US", (0x0010, box.y[1] - box.y[0]), (0x0011, box.x[1] - box.x[0]))
            continue
        plane = _read_overlay(ds, group)
        if plane is None or not _crop_overlay(ds, group, plane, box):
            tags = ds.keys()
            for tag in [tag for tag in tags if tag.group == group]:
                del ds[tag]


def _read_overlay(ds: Any, group: int) -> Frame | None:
    rows, columns = int(_one(ds, group, 0x0010) or 0), int(_one(ds, group, 0x0011) or 0)
    data = _one(ds, group, 0x3000)
    if not isinstance(data, bytes) or int(_one(ds, group, 0x0015) or 1) > 1 or len(data) * 8 < rows * columns:
        return None
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: rows * columns]
    return bits.reshape(rows, columns)


def _crop_overlay(ds: Any, group: int, plane: Frame, box: Box) -> bool:
    origin = _one(ds, group, 0x0050)
    top, left = (int(v) - 1 for v in origin) if origin is not None and len(origin) == 2 else (0, 0)
    y0, y1 = max(box.y[0] - top, 0), min(box.y[1] - top, plane.shape[0])
    x0, x1 = max(box.x[0] - left, 0), min(box.x[1] - left, plane.shape[1])
    if y0 >= y1 or x0 >= x1:
        return False
    data = np.packbits(plane[y0:y1, x0:x1], axis=None, bitorder="little").tobytes()
    _set(ds, group, "US", (0x0010, y1 - y0), (0x0011, x1 - x0))
    _set(ds, group, "SS", (0x0050, [y0 + top - box.y[0] + 1, x0 + left - box.x[0] + 1]))
    _set(ds, group, "OW", (0x3000, data + b"\0" * (len(data) & 1)))
    return True


def _one(ds: Any, group: int, element: int) -> Any:
    return ds[group, element].value if (group, element) in ds else None


def _set(ds: Any, group: int, vr: str, *pairs: tuple[int, Any]) -> None:
    for element, value in pairs:
        if (group, element) in ds:
            ds[group, element].value = value
        else:
            ds.add_new((group, element), vr, value)


def shift_edges(ds: Any, box: Box) -> None:
    """Move shutters and collimators by the box's corner; an edge beyond the image is meant to be so."""
    for keywords, offset in ((_COLUMN_EDGES, box.x[0]), (_ROW_EDGES, box.y[0])):
        for keyword in keywords:
            if ds.get(keyword) is not None:
                setattr(ds, keyword, int(getattr(ds, keyword)) - offset)
    for keyword in _ROW_COLUMN_PAIRS:
        if ds.get(keyword):
            moved = [int(v) - (box.x[0] if i % 2 else box.y[0]) for i, v in enumerate(getattr(ds, keyword))]
            setattr(ds, keyword, moved)


def shift_regions(ds: Any, box: Box) -> None:
    """Cut ultrasound regions to the box and drop those outside; reference pixels keep their place.

    Source: PS3.3 C.8.5.5 (a reference pixel counts from the region's corner).
    """
    if "SequenceOfUltrasoundRegions" not in ds:
        return
    kept = []
    for region in ds.SequenceOfUltrasoundRegions:
        x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
        x1, y1 = int(region.RegionLocationMaxX1), int(region.RegionLocationMaxY1)
        left, top = max(x0, box.x[0]), max(y0, box.y[0])
        right, bottom = min(x1, box.x[1] - 1), min(y1, box.y[1] - 1)
        if left > right or top > bottom:
            continue
        region.RegionLocationMinX0, region.RegionLocationMaxX1 = left - box.x[0], right - box.x[0]
        region.RegionLocationMinY0, region.RegionLocationMaxY1 = top - box.y[0], bottom - box.y[0]
        for keyword, moved in (("ReferencePixelX0", left - x0), ("ReferencePixelY0", top - y0)):
            if region.get(keyword) is not None:
                setattr(region, keyword, int(getattr(region, keyword)) - moved)
        kept.append(region)
    if kept:
        ds.SequenceOfUltrasoundRegions = kept
    else:
        del ds.SequenceOfUltrasoundRegions


def set_extremes(ds: Any, frames: Sequence[Frame]) -> None:
    """Recompute the smallest and largest pixel value where the image states them."""
    for keyword, pick in (("SmallestImagePixelValue", np.min), ("LargestImagePixelValue", np.max)):
        if keyword in ds:
            ds[keyword].VR = "SS" if int(ds.PixelRepresentation) else "US"
            ds[keyword].value = int(pick([pick(frame) for frame in frames]))
