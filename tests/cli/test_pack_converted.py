"""Conversions ahead of a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

import gpushrink
from gpushrink.convert import pack_converted
from gpushrink.dicom.synthetic import write_series
from gpushrink.errors import InputError, UsageError


def test_pack_with_crop_archives_the_cropped_series(tmp_path: Path) -> None:
    """The archive holds the derived series: the box's samples, and UIDs that are new."""
    source = tmp_path / "series"
    source.mkdir()
    write_series(source, slices=3, rows=64, columns=64)
    report, cropped, transcoded = pack_converted([source], tmp_path / "a.gsz", box="8:40,16:32", seed="one")
    assert report.verified
    assert transcoded is None
    assert cropped is not None
    assert gpushrink.unpack(tmp_path / "a.gsz", tmp_path / "back").worst() is None
    whole = {d.InstanceNumber: d for d in map(pydicom.dcmread, source.glob("*.dcm"))}
    parts = [pydicom.dcmread(path) for path in (tmp_path / "back").rglob("*") if path.is_file()]
    assert len(parts) == 3
    by_place = {round(float(d.ImagePositionPatient[2]), 3): d for d in whole.values()}
    for part in parts:
        original = by_place[round(float(part.ImagePositionPatient[2]), 3)]
        assert np.array_equal(part.pixel_array, original.pixel_array[16:32, 8:40])
        assert part.SOPInstanceUID != original.SOPInstanceUID


def test_pack_with_transcode_keeps_the_samples(tmp_path: Path) -> None:
    """The archive holds the images in the other syntax, with the same samples."""
    source = tmp_path / "series"
    source.mkdir()
    write_series(source, slices=1, rows=32, columns=32)
    pack_converted([source], tmp_path / "a.gsz", to="rle")
    gpushrink.unpack(tmp_path / "a.gsz", tmp_path / "back")
    (path,) = (p for p in (tmp_path / "back").rglob("*") if p.is_file())
    back = pydicom.dcmread(path)
    assert back.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    assert np.array_equal(back.pixel_array, pydicom.dcmread(source / "IM0001.dcm").pixel_array)


def test_pack_with_crop_takes_what_may_be_burned_in_only_when_told(tmp_path: Path) -> None:
    """A capture that does not say whether annotation is burned in is refused, until the caller accepts it."""
    source = tmp_path / "series"
    source.mkdir()
    write_series(source, slices=2, rows=32, columns=32)
    for path in source.iterdir():
        data = pydicom.dcmread(path)
        data.BurnedInAnnotation = "YES"
        data.save_as(path)
    with pytest.raises(InputError, match="burned-in"):
        pack_converted([source], tmp_path / "a.gsz", box="0:9,0:9")
    _, cropped, _ = pack_converted([source], tmp_path / "a.gsz", box="0:9,0:9", accept_burned_in=True)
    assert cropped is not None
    assert cropped.count("cropped") == 2


def test_pack_of_a_conversion_asks_for_the_device_that_was_named(tmp_path: Path) -> None:
    """A device that cannot be had is an error, conversion or not: nothing falls back unasked."""
    source = tmp_path / "series"
    source.mkdir()
    write_series(source, slices=1, rows=32, columns=32)
    with pytest.raises(UsageError):
        pack_converted([source], tmp_path / "a.gsz", to="rle", device="nowhere")
    assert not (tmp_path / "a.gsz").exists()


def test_conversion_of_two_sources_is_refused(tmp_path: Path) -> None:
    """Which of two folders a box belongs to would be a guess."""
    with pytest.raises(UsageError):
        pack_converted([tmp_path, tmp_path], tmp_path / "a.gsz", box="0:1,0:1")
