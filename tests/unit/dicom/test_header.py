"""What stands before pixel data is read from a file's first bytes alone; whatever surprises is no image."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

import trees
from gpushrink.dicom.geometry import lay_grid
from gpushrink.dicom.header import parse_header
from gpushrink.dicom.spans import DicomFile, describe

PIXELS = np.arange(7 * 9, dtype=np.int16).reshape(7, 9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"syntax": ImplicitVRLittleEndian},
        {"syntax": ExplicitVRBigEndian, "big_endian": True},
        {"preamble": False},
        {"extra": b"\xfc\xff\xfc\xff\x00\x00\x00\x00"},
    ],
)
def test_pixels_lie_where_the_packer_finds_them(options: dict[str, Any]) -> None:
    """Offset, length and format are those of the whole file, though its pixel data is not there."""
    content = trees.dicom_bytes(PIXELS, z=3.0, **options)
    whole = describe(io.BytesIO(content), len(content))
    assert isinstance(whole, DicomFile)
    assert whole.native is not None
    for end in (whole.native.offset, whole.native.offset + 20, len(content)):
        header = parse_header(content[:end])
        assert header is not None
        pixels = header.pixels
        assert (pixels.offset, pixels.length, pixels.native) == (whole.native.offset, PIXELS.nbytes, True)
        assert pixels.big_endian == whole.native.sample.big_endian
        assert (pixels.rows, pixels.columns, pixels.dtype, pixels.frames) == (7, 9, "int16", 1)
        assert header.planes[0] is not None
        assert header.planes[0].position == (0.0, 0.0, 3.0)


@pytest.mark.parametrize(
    ("tags", "native"),
    [
        ({"PhotometricInterpretation": "YBR_FULL_422"}, False),
        ({"BitsAllocated": 12}, False),
        ({"BitsAllocated": 1}, False),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, True),
    ],
)
def test_samples_that_need_a_decoder_are_not_native(tags: dict[str, object], native: bool) -> None:
    """Bits packed across bytes and subsampled colour do not lie as samples."""
    header = parse_header(trees.dicom_bytes(PIXELS, tags=tags))
    assert header is not None
    assert header.pixels.native is native


def test_compressed_syntax_is_not_native() -> None:
    """Fragments have no length that is told."""
    data = pydicom.dcmread(io.BytesIO(trees.dicom_bytes(PIXELS)))
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].VR = "OB"
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    header = parse_header(out.getvalue())
    assert header is not None
    assert (header.pixels.native, header.pixels.length) == (False, None)


def test_functional_groups_place_each_frame() -> None:
    """Per-frame groups first, then shared ones."""

    def item(**values: object) -> Dataset:
        data = Dataset()
        for keyword, value in values.items():
            setattr(data, keyword, value)
        return data

    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.5, 0.75], SpacingBetweenSlices="2")]),
    )
    frames = [
        item(
            PlanePositionSequence=Sequence([item(ImagePositionPatient=[1, 2, 2 * k])]),
            PixelValueTransformationSequence=Sequence([item(RescaleSlope=k + 1, RescaleIntercept=-5)]),
        )
        for k in range(3)
    ]
    data = pydicom.dcmread(io.BytesIO(trees.dicom_bytes(np.stack([PIXELS] * 3), frames=3)))
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    header = parse_header(out.getvalue())
    assert header is not None
    assert [one.position for one in header.planes if one] == [(1, 2, 0), (1, 2, 2), (1, 2, 4)]
    assert header.planes[0] is not None
    assert (header.planes[0].spacing, header.planes[0].thickness) == ((0.5, 0.75), 2.0)
    assert header.slopes == ((1, -5), (2, -5), (3, -5))


@pytest.mark.parametrize("first", [0.0, 30.0])
def test_dose_grid_places_its_frames_along_the_normal(first: float) -> None:
    """Offsets count from the first frame, whether they begin with 0 or with its place. PS3.3 C.8.8.3.2."""
    tags = {
        "GridFrameOffsetVector": [first, first + 2.5, first + 5],
        "PixelSpacing": ["2", "3"],
        "DoseGridScaling": "0.001",
        "DoseUnits": "GY",
    }
    header = parse_header(trees.dicom_bytes(np.stack([PIXELS] * 3), frames=3, z=30.0, tags=tags))
    assert header is not None
    assert [one.position[2] for one in header.planes if one] == [30, 32.5, 35]
    assert (header.slopes, header.unit) == (((0.001, 0.0),) * 3, "GY")
    geometry = lay_grid(header.planes)
    assert geometry is not None
    assert geometry.spacing == (2.5, 2, 3)


def test_cine_loop_has_no_place_for_its_frames() -> None:
    """One position does not place many frames."""
    header = parse_header(trees.dicom_bytes(np.stack([PIXELS] * 3), frames=3, z=30.0))
    assert header is not None
    assert header.planes == (None, None, None)


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
        {"ImageOrientationPatient": ["2", "0", "0", "0", "1", "0"]},
        {"ImageOrientationPatient": ["1", "0", "0"]},
        {"ImagePositionPatient": ["1", "2"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]},
    ],
)
def test_place_that_is_none_is_not_believed(tags: dict[str, object]) -> None:
    """Orientations that are no right angle, values missing, mosaics: no plane, but an image."""
    header = parse_header(trees.dicom_bytes(PIXELS, z=1.0, tags=tags))
    assert header is not None
    assert header.planes == (None,)


def test_image_type_of_one_value_is_that_value() -> None:
    """A single value is no list of letters."""
    header = parse_header(trees.dicom_bytes(PIXELS, tags={"ImageType": "DERIVED"}))
    assert header is not None
    assert header.image_type == "DERIVED"


def test_damaged_and_foreign_bytes_raise_nothing() -> None:
    """Any bytes give a header or None."""
    content = trees.dicom_bytes(PIXELS, z=1.0)
    rng = random.Random(5)
    found = 0
    for _ in range(300):
        data = bytearray(content)
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
        found += parse_header(bytes(data[: rng.randrange(len(data))])) is not None
    assert 0 < found < 300
    assert parse_header(b"") is None
    assert parse_header(b"text " * 100) is None
