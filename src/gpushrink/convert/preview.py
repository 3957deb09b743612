"""A picture of the box on three orthogonal projections, as a PNG of grey and one red line."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from gpushrink.convert.geometry import Box
from gpushrink.convert.survey import Projections

__all__ = ["draw_preview", "encode_png"]

_RED = (255, 48, 32)
_GAP = 8
_LONGEST = 512


def draw_preview(projections: Projections, box: Box) -> bytes:
    """Draw axial, coronal and sagittal projections side by side, each in true proportions, with the box.

    Slices run upwards in the second and third picture: the first along the normal lies at the bottom.
    """
    dz, dy, dx = projections.spacing_mm
    z = box.z or (0, projections.coronal.shape[0])
    slices = projections.coronal.shape[0]
    upward = (slices - z[1], slices - z[0])
    pictures = [
        _picture(projections.axial, (dy, dx), box.y, box.x),
        _picture(projections.coronal[::-1], (dz, dx), upward, box.x),
        _picture(projections.sagittal[::-1], (dz, dy), upward, box.y),
    ]
    height = max(p.shape[0] for p in pictures)
    canvas = [np.pad(p, ((0, height - p.shape[0]), (0, _GAP), (0, 0))) for p in pictures]
    return encode_png(np.concatenate(canvas, axis=1))


def _picture(
    values: NDArray[np.float32], spacing: tuple[float, float], down: tuple[int, int], across: tuple[int, int]
) -> NDArray[np.uint8]:
    finite = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(finite, (1, 99.5))) if finite.size else (0.0, 1.0)
    grey = np.clip((np.where(np.isfinite(values), values, low) - low) / max(high - low, 1e-9), 0, 1) * 255
    size_mm = (values.shape[0] * spacing[0], values.shape[1] * spacing[1])
    scale = _LONGEST / max(size_mm)
    height, width = (max(1, round(s * scale)) for s in size_mm)
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    picture = np.repeat(grey.astype(np.uint8)[rows][:, columns][..., None], 3, axis=2)
    top, bottom = (round(v * height / values.shape[0]) for v in down)
    left, right = (round(v * width / values.shape[1]) for v in across)
    bottom, right = min(bottom, height) - 1, min(right, width) - 1
    picture[[top, bottom], left : right + 1] = _RED
    picture[top : bottom + 1, [left, right]] = _RED
    return picture


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Encode an RGB picture (rows, columns, 3): four chunks, so that no imaging library is needed.

    Source: ISO/IEC 15948 clauses 5 and 11.
    """
    height, width, _ = picture.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            chunk(b"IEND", b""),
        )
    )
