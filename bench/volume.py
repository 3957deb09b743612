"""Measure the volume codec on folders of DICOM files, next to JPEG XL and JPEG-LS slice by slice.

    python bench/volume.py FOLDER [FOLDER ...] --levels fast default max

Series of native 8 or 16 bit grey images only, sorted by position along their normal, then by
instance number. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray

from gpushrink.codec.volume import LEVELS, choose_references, decode_slab, encode_slab

LEAST_SLICES = 16
SLAB_SAMPLES = 32 << 18


def read_series(folder: Path) -> dict[str, NDArray[Any]]:
    """Return every series of equal native images below a folder, by its last UID digits."""
    found: dict[str, list[tuple[Any, NDArray[Any]]]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        try:
            item = pydicom.dcmread(path)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        if "PixelData" not in item or item.file_meta.TransferSyntaxUID.is_compressed:
            continue
        if item.BitsAllocated not in (8, 16) or item.SamplesPerPixel != 1:
            continue
        axes = np.array(item.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), float)
        normal = np.cross(axes[:3], axes[3:])
        place = float(normal @ np.array(item.get("ImagePositionPatient", [0, 0, 0]), float))
        frames = item.pixel_array.reshape(-1, item.Rows, item.Columns)
        for number, frame in enumerate(frames):
            key = (round(place, 3), int(item.get("InstanceNumber") or 0), number)
            found[str(item.SeriesInstanceUID)[-8:]].append((key, frame))
    series = {}
    for name, items in found.items():
        if len({frame.shape for _, frame in items}) == 1 and len(items) >= LEAST_SLICES:
            series[name] = np.stack([frame for _, frame in sorted(items, key=lambda one: one[0])])
    return series


def measure_peers(volume: NDArray[Any]) -> str:
    """Return a line on JPEG XL effort 7 and JPEG-LS."""
    shifted = (volume.astype(np.int32) - int(volume.min())).astype(np.uint16)
    parts = []
    for name, encode in (
        ("jpegxl-7", lambda plane: imagecodecs.jpegxl_encode(plane, lossless=True, effort=7, numthreads=1)),
        ("jpegls", imagecodecs.jpegls_encode),
    ):
        began = time.perf_counter()
        size = sum(len(encode(plane)) for plane in shifted)
        seconds = time.perf_counter() - began
        parts.append(f"{name} {8 * size / volume.size:.3f} bits, {volume.nbytes / seconds / 1e6:.0f} MB/s")
    return "; ".join(parts)


def measure_level(volume: NDArray[Any], level: str) -> str:
    """Return a line on one level, after checking that every slab comes back."""
    planes = max(LEVELS[level].slab_planes, min(256, SLAB_SAMPLES // volume[0].size))
    slabs = -(-len(volume) // planes)
    size, packing, unpacking = 0, 0.0, 0.0
    for number in range(slabs):
        slab = volume[len(volume) * number // slabs : len(volume) * (number + 1) // slabs]
        began = time.perf_counter()
        stored = encode_slab(slab, level=level, references=choose_references(slab))
        packing += time.perf_counter() - began
        began = time.perf_counter()
        same = np.array_equal(decode_slab(stored, shape=slab.shape, dtype=slab.dtype), slab)
        unpacking += time.perf_counter() - began
        if not same:
            raise AssertionError("a slab did not come back")
        size += len(stored)
    speeds = f"encode {volume.nbytes / packing / 1e6:.0f}, decode {volume.nbytes / unpacking / 1e6:.0f} MB/s"
    return f"{level} {8 * size / volume.size:.3f} bits, {speeds}"


def main() -> None:
    """Print a line for each series and codec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=list(LEVELS))
    options = parser.parse_args()
    for level in options.levels:  # compilation is not what is measured
        warm = np.random.default_rng(0).integers(0, 99, (4, 40, 50)).astype(np.uint16)
        decode_slab(encode_slab(warm, level=level), shape=warm.shape, dtype=warm.dtype)
    for folder in options.folders:
        for name, volume in read_series(folder).items():
            print(folder.name, name, volume.shape, volume.dtype)
            print("  ", measure_peers(volume))
            for level in options.levels:
                print("  ", measure_level(volume, level))


if __name__ == "__main__":
    main()
