"""Compressed images of one kind share a block, others do not, and every byte comes back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, RLELossless, SecondaryCaptureImageStorage

import trees
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.walk import walk_sources
from gpushrink.model import BlockCodec, Role, Target
from gpushrink.pipeline import api
from gpushrink.pipeline.packing import pack_to_sink
from gpushrink.pipeline.plan import BytesJob, HashJob, Piece, plan_jobs


def stream(kind: int, count: int, seed: int) -> bytes:
    """Return bytes of which each makes few successors likely; which ones, the kind says."""
    likely = np.random.default_rng(kind).integers(0, 200, (16, 40), dtype=np.uint8)
    out, byte = bytearray(), 0
    for choice in np.random.default_rng(seed).integers(0, 40, count):
        byte = int(likely[byte >> 4, choice])
        out.append(byte)
    return bytes(out)


def encapsulated_file(kind: int, number: int) -> bytes:
    """Return a DICOM file with one fragment."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, f"2.25.{kind}.{number}"
    data.SeriesInstanceUID, data.Rows, data.Columns, data.SamplesPerPixel = f"2.25.{kind}", 200, 200, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = encapsulate([stream(kind, 30_000, number)])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1 if kind else RLELossless
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Write four files of two kinds in turn, and a copy of the first."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.dcm").write_bytes(encapsulated_file(number % 2, number))
    (folder / "copy.dcm").write_bytes((folder / "0.dcm").read_bytes())
    return folder


@pytest.mark.parametrize("level", ["fast", "default"])
def test_files_of_two_kinds_are_packed_in_blocks_of_their_own(mixed: Path, tmp_path: Path, level: str) -> None:
    """Each kind has its own tables, so it is nearly as small as its entropy, and comes back."""
    sink = io.BytesIO()
    report = pack_to_sink([mixed], sink, level=level, threads=2)
    assert report.codecs[BlockCodec.MATCHED] == 2
    sizes = report.roles[Role.ENCAPSULATED]
    assert sizes.stored < sizes.source * np.log2(40) / 8 * 1.1
    archive = tmp_path / "a.gsz"
    archive.write_bytes(sink.getvalue())
    assert api.unpack(archive, tmp_path / "out").worst() is None
    assert trees.differences(mixed, tmp_path / "out") == []


def test_pixels_that_lie_in_a_broken_file_too_are_stored_once(tmp_path: Path) -> None:
    """Small folders are packed in one block where their parts repeat each other, however far apart."""
    image = np.random.default_rng(12).integers(0, 4096, (640, 512), dtype=np.uint16)
    content = trees.dicom_bytes(image)
    sizes = []
    for name, broken in (("one", b""), ("both", b"no DICOM at all" + content[300:])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "image.dcm").write_bytes(content)
        if broken:
            (folder / "broken").write_bytes(broken)
        sizes.append(api.pack(folder, tmp_path / f"{name}.gsz", level="default").archive_bytes)
    assert sizes[1] < 1.15 * sizes[0]


def test_parts_of_a_job_hold_its_pieces_and_their_targets(mixed: Path) -> None:
    """Whatever pieces are chosen, each target aims its piece's bytes at the same place as before."""
    walk = walk_sources([mixed])
    jobs = [job for job in plan_jobs(walk.found, scan_files(walk.found)) if not isinstance(job, HashJob)]
    batch = jobs[0]
    job = next(one for one in getattr(batch, "jobs", jobs) if one.role == Role.ENCAPSULATED)
    assert job.part(range(len(job.pieces))) == job
    for chosen in ([0], [1], [0, 2], [1, 3], []):
        part = job.part(chosen)
        assert part.pieces == tuple(job.pieces[k] for k in chosen)
        ids = {piece.file_id for piece in part.pieces}
        meant = {(t.file_id, t.file_offset, t.length) for t in job.targets if first_of(job, t).file_id in ids}
        assert {(t.file_id, t.file_offset, t.length) for t in part.targets} == meant
        assert all(first_of(part, t).offset == t.file_offset for t in part.targets)


def first_of(job: BytesJob, target: Target) -> Piece:
    """Return the piece whose bytes a target takes."""
    at = 0
    for piece in job.pieces:
        if at == target.source_offset:
            return piece
        at += piece.length
    raise AssertionError("a target begins where no piece does")
