"""Arrays of the real data: what pydicom gives for the source files, for every set."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian

import gpushrink

_GE_PRIVATE = "1.2.840.113619.5.2"  # its pixel data lies as in big endian, which pydicom does not know


def stacked(folder: Path, info: gpushrink.VolumeInfo) -> np.ndarray[Any, Any] | None:
    """Return pydicom's samples of a volume, in the machine's byte order; None where it has none for a file."""
    parts = []
    try:
        for name in info.files:
            data = pydicom.dcmread(folder / name, force=True)
            if data.file_meta.get("TransferSyntaxUID") == _GE_PRIVATE:
                data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            parts.append(data.pixel_array if info.encoding == "native" else pixel_array(data, raw=True))
    except Exception:  # pydicom refuses some of its own test files
        return None
    alone = len(parts) == 1 and info.shape[0] > 1
    whole = parts[0] if alone else np.stack(parts)
    return whole.astype(whole.dtype.newbyteorder("="))


def test_volumes_of_a_real_set_equal_pydicom_s(real_set: Path, tmp_path: Path) -> None:
    """Every volume of which pydicom decodes every file comes out the same; parts are parts of it."""
    gpushrink.pack(real_set, tmp_path / "a.gsz", level="fast", verify=False)
    compared = images = placed = 0
    with warnings.catch_warnings(), gpushrink.open(tmp_path / "a.gsz") as archive:
        warnings.simplefilter("ignore")
        for info in archive.series():
            images += 1
            want = stacked(real_set, info)
            if want is None:
                continue
            found = archive.volume(info, verify=info.index % 4 == 0)
            np.testing.assert_array_equal(found, want, err_msg=str(info))
            assert (found.shape, found.dtype) == (info.shape, info.dtype)
            middle = slice(info.shape[0] // 3, info.shape[0] // 3 + 2)
            part = archive.volume(info, slices=middle, rows=slice(1, 9), columns=slice(-7, None))
            np.testing.assert_array_equal(part, want[middle, 1:9, -7:])
            if info.geometry is not None:
                check_grid(info, info.geometry)
                placed += 1
            compared += 1
        found_files = {name for info in archive.series() for name in info.files}
    contents = {(real_set / name).read_bytes() for name in found_files}
    for path in real_set.rglob("*"):  # nothing that pydicom reads as an image is left out, but for copies
        if path.is_file() and path.read_bytes() not in contents:
            assert not _is_image(path), f"{path.name} is in no volume"
    assert compared >= images * 0.8
    assert placed or not real_set.name.startswith(("ct-", "mr-")) or "mosaic" in real_set.name


def check_grid(info: gpushrink.VolumeInfo, geometry: gpushrink.Geometry) -> None:
    """Insist that a volume's affine leads to where its headers place each slice."""
    assert info.positions is not None
    for k, position in enumerate(info.positions):
        np.testing.assert_allclose((geometry.affine @ [k, 0, 0, 1])[:3], position, atol=0.02)
    if info.description == "Recon 2:  CT CHEST R/O PE":
        np.testing.assert_allclose(geometry.spacing, (0.8, 0.644531, 0.644531), atol=1e-4)


def _is_image(path: Path) -> bool:
    try:
        data = pydicom.dcmread(path, force=True)
        return data.get("Rows", 0) > 0 and data.get("Columns", 0) > 0 and data.pixel_array is not None
    except Exception:
        return False
