"""A crop loads as a volume in SimpleITK, with the origin, spacing and direction that the box implies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_dicom import MARK, ORIGIN, SPACING, mark_place, orientation, volume, write_enhanced, write_series

from gpushrink.convert import Box, crop

sitk: Any = pytest.importorskip("SimpleITK")

KINDS = ("axial", "tilted", "oblique")
BOX = Box((20, 40), (10, 30), (3, 8))
TILT_COSINE = np.cos(np.deg2rad(20))


def series(folder: Path) -> Any:
    """Load the one series of a folder."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def corner(kind: str, number: int) -> np.ndarray:
    """Give the place of the box's first voxel in a slice."""
    row, column, step = orientation(kind)
    return ORIGIN + step * number + row * SPACING[1] * BOX.x[0] + column * SPACING[0] * BOX.y[0]


def axes(image: Any) -> np.ndarray:
    """Give the direction of an image: one column for each of its axes."""
    return np.array(image.GetDirection()).reshape(3, 3)


def place_of_mark(image: Any) -> np.ndarray:
    """Give where SimpleITK places the voxel of 3000."""
    (found,) = np.argwhere(sitk.GetArrayFromImage(image) == 3000)
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in found[::-1]]))


@pytest.mark.parametrize("kind", KINDS)
def test_cropped_series_has_its_origin_spacing_and_direction(tmp_path: Path, kind: str) -> None:
    """Tilted slices lie 2.5 mm apart along the table, which is what SimpleITK takes between their corners."""
    whole, out = write_series(tmp_path / "in", kind), tmp_path / "out"
    crop(whole, out, region=BOX, seed="s")
    image, source = series(out), series(whole)
    row, column, step = orientation(kind)
    assert image.GetSize() == (20, 20, 5)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume()[3:8, 10:30, 20:40])
    assert np.abs(np.array(image.GetOrigin()) - corner(kind, 3)).max() < 1e-3
    assert np.allclose(image.GetSpacing(), (SPACING[1], SPACING[0], np.linalg.norm(step)), atol=1e-6)
    assert np.allclose(axes(image), np.stack([row, column, np.cross(row, column)], axis=1), atol=1e-6)
    assert np.allclose(image.GetSpacing(), source.GetSpacing(), atol=1e-6)
    assert np.allclose(axes(image), axes(source), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_cropped_multiframe_has_its_origin_spacing_and_direction(tmp_path: Path, kind: str) -> None:
    """Its frames run backwards, and so does the third axis; between tilted frames SimpleITK takes the normal."""
    whole = write_enhanced(tmp_path / "in" / "e.dcm", kind)
    crop(whole, tmp_path / "out", region=BOX, seed="s")
    image, source = sitk.ReadImage(str(tmp_path / "out" / "e.dcm")), sitk.ReadImage(str(whole))
    row, column, _ = orientation(kind)
    assert image.GetSize() == (20, 20, 5)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume()[3:8, 10:30, 20:40][::-1])
    assert np.abs(np.array(image.GetOrigin()) - corner(kind, 7)).max() < 1e-3
    between = 2.5 * (TILT_COSINE if kind == "tilted" else 1)
    assert np.allclose(image.GetSpacing(), (SPACING[1], SPACING[0], between), atol=1e-6)
    assert np.allclose(axes(image), np.stack([row, column, -np.cross(row, column)], axis=1), atol=1e-6)
    assert np.allclose(image.GetSpacing(), source.GetSpacing(), atol=1e-6)
    assert np.allclose(axes(image), axes(source), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_simpleitk_places_the_marked_voxel_where_it_was(tmp_path: Path, kind: str) -> None:
    """Slice by slice in every case: a volume of SimpleITK is a cuboid, and cannot hold a tilt between slices."""
    crop(write_series(tmp_path / "in", kind), tmp_path / "out", region=BOX, seed="s")
    slices = [sitk.ReadImage(str(path)) for path in (tmp_path / "out").iterdir()]
    (marked,) = [image for image in slices if (sitk.GetArrayFromImage(image) == 3000).any()]
    assert np.abs(place_of_mark(marked) - mark_place(kind)).max() < 1e-3


@pytest.mark.parametrize("kind", ["axial", "oblique"])
def test_simpleitk_places_the_marked_voxel_of_a_volume_where_it_was(tmp_path: Path, kind: str) -> None:
    """Series and multi-frame alike, where the slices stand at right angles to their stack."""
    crop(write_series(tmp_path / "in", kind), tmp_path / "out", region=BOX, seed="s")
    write_enhanced(tmp_path / "e" / "e.dcm", kind)
    crop(tmp_path / "e", tmp_path / "eo", region=BOX, seed="s")
    for image in (series(tmp_path / "out"), sitk.ReadImage(str(tmp_path / "eo" / "e.dcm"))):
        assert np.abs(place_of_mark(image) - mark_place(kind)).max() < 1e-3


def test_mark_lies_in_the_box() -> None:
    """The mark that the others look for is one that the crop keeps."""
    assert all(low <= at < high for at, (low, high) in zip(MARK, (BOX.z or (0, 9), BOX.y, BOX.x), strict=True))
