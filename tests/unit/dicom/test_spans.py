"""The frames of native pixel data are found where they lie, and nothing that surprises is believed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

import trees
from gpushrink.dicom.spans import DicomFile, describe

IMAGE = np.random.default_rng(8).integers(0, 60_000, (12, 10), dtype=np.uint16)


def found(content: bytes) -> DicomFile | str:
    """Describe bytes."""
    return describe(io.BytesIO(content), len(content))


def native(content: bytes) -> tuple[DicomFile, bytes]:
    """Describe bytes that have native frames; return them too."""
    file = found(content)
    assert isinstance(file, DicomFile), file
    assert file.native is not None
    return file, content[file.native.offset : file.native.end]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
def test_frames_of_every_width_are_found(syntax: UID, dtype: type) -> None:
    """Offset, size and sign are those of the pixel data."""
    image = IMAGE.astype(dtype)
    file, raw = native(trees.dicom_bytes(image, syntax=syntax))
    assert raw == image.tobytes()
    assert file.native is not None
    assert file.native.sample.item_bytes == image.itemsize
    assert file.native.sample.signed is (np.dtype(dtype).kind == "i")
    assert (file.native.rows, file.native.columns, file.native.frames) == (12, 10, 1)
    assert (file.series, file.modality, file.number) == ("2.25.1", "CT", 1)


def test_frames_of_big_endian_files_are_found_as_such() -> None:
    """The byte order is part of the sample format."""
    file, raw = native(trees.dicom_bytes(IMAGE, syntax=ExplicitVRBigEndian, big_endian=True))
    assert raw == IMAGE.astype(">u2").tobytes()
    assert file.native is not None
    assert file.native.sample.big_endian


def test_frames_of_colour_and_planes_are_found() -> None:
    """Components beside each other or plane after plane."""
    colour = np.random.default_rng(1).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    file, raw = native(trees.dicom_bytes(colour))
    assert raw == colour.tobytes()
    assert file.native is not None
    assert (file.native.sample.components, file.native.sample.planar) == (3, False)
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1))
    file, raw = native(trees.dicom_bytes(planes, planar=1))
    assert raw == planes.tobytes()
    assert file.native is not None
    assert file.native.sample.planar


def test_frames_of_a_multi_frame_file_are_counted() -> None:
    """The length counts, not NumberOfFrames."""
    movie = np.stack([IMAGE, IMAGE + 1, IMAGE + 2])
    for claimed in (3, 1, 99):
        file, raw = native(trees.dicom_bytes(movie, frames=claimed))
        assert file.native is not None
        assert file.native.frames == 3
        assert raw == movie.tobytes()


def test_frames_of_a_cut_file_are_those_that_are_whole() -> None:
    """Half a frame is left to the bytes after."""
    content = trees.dicom_bytes(np.stack([IMAGE] * 3), frames=3)
    file = found(content[: -IMAGE.nbytes // 2])
    assert isinstance(file, DicomFile)
    assert file.native is not None
    assert file.native.frames == 2
    assert file.native.end <= len(content) - IMAGE.nbytes // 2


def test_file_without_preamble_is_found() -> None:
    """A data set that begins at byte 0 is DICOM too."""
    _, raw = native(trees.dicom_bytes(IMAGE, preamble=False))
    assert raw == IMAGE.tobytes()


def test_compressed_pixel_data_is_a_span_of_bytes() -> None:
    """Encapsulated fragments are kept as they are."""
    from pydicom import dcmread

    data = dcmread(io.BytesIO(trees.dicom_bytes(IMAGE)))
    data.compress(RLELossless)
    out = io.BytesIO()
    data.save_as(out)
    file = found(out.getvalue())
    assert isinstance(file, DicomFile)
    assert file.native is None
    assert file.encapsulated is not None
    assert sum(file.encapsulated) == len(out.getvalue())


def test_deflated_data_set_is_opaque() -> None:
    """What is compressed as a whole has no spans."""
    from pydicom import dcmread

    data = dcmread(io.BytesIO(trees.dicom_bytes(IMAGE)))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    data.save_as(out)
    assert "deflated" in str(found(out.getvalue()))


@pytest.mark.parametrize("content", [b"", b"x", b"hello world" * 30, bytes(300), bytes(128) + b"DICM", b"\x08\0" * 99])
def test_other_bytes_are_opaque_with_a_reason(content: bytes) -> None:
    """A reason is given in words; nothing is raised."""
    assert isinstance(found(content), str)


@pytest.mark.parametrize("seed", range(3))
def test_files_with_any_bytes_changed_are_described_within_their_bounds(seed: int) -> None:
    """Whatever a header claims, spans stay inside the file and frames inside spans."""
    import random

    source = random.Random(seed)
    content = trees.dicom_bytes(np.stack([IMAGE] * 2), frames=2, extra=b"tail")
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(source.choice((1, 2, 6))):
            changed[source.randrange(len(changed))] = source.choice((0, 255, source.randrange(256)))
        file = found(bytes(changed[: source.choice((len(changed), source.randrange(8, len(changed))))]))
        if isinstance(file, DicomFile):
            if file.native is not None:
                assert 0 < file.native.offset < file.native.end <= len(changed)
                assert file.native.frames >= 1
            if file.encapsulated is not None:
                assert 0 < file.encapsulated[0] <= sum(file.encapsulated) <= len(changed)


def test_frame_too_large_for_a_block_is_kept_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that would not fit memory several times over is no volume."""
    monkeypatch.setattr("gpushrink.dicom.spans._MAX_FRAME_BYTES", IMAGE.nbytes - 1)
    file = found(trees.dicom_bytes(IMAGE))
    assert isinstance(file, DicomFile)
    assert file.native is None


def test_frames_too_many_to_count_are_kept_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of millions of tiny frames is no volume."""
    monkeypatch.setattr("gpushrink.dicom.spans._MAX_FRAMES", 2)
    file = found(trees.dicom_bytes(np.stack([IMAGE] * 3), frames=3))
    assert isinstance(file, DicomFile)
    assert file.native is None
