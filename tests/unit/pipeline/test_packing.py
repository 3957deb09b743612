"""What is coded how: the pipeline's own choices."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

import trees
from gpushrink.codec.buffers import Buffer
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.walk import walk_sources
from gpushrink.errors import DestinationError
from gpushrink.model import BlockCodec, Role, Target
from gpushrink.pipeline import api, coding, packing
from gpushrink.pipeline.plan import BatchJob, BytesJob, Piece, SlabJob, plan_jobs

IMAGE = np.random.default_rng(4).integers(0, 900, (64, 64)).astype(np.uint16)


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_headers_of_a_series_are_coded_by_what_they_share(level: str, tmp_path: Path) -> None:
    """The headers of a series of some length go through their own codec, at every level, and come back."""
    (tmp_path / "series").mkdir()
    for k in range(48):
        content = trees.dicom_bytes(IMAGE + k, number=k, z=k * 2.0)
        (tmp_path / "series" / f"{k:03}").write_bytes(content)
    report = api.pack(tmp_path / "series", tmp_path / "archive", level=level, threads=1)
    assert report.verified
    assert report.codecs.get(BlockCodec.HEADERS) == 1
    assert api.unpack(tmp_path / "archive", tmp_path / "out").worst() is None
    assert trees.differences(tmp_path / "series", tmp_path / "out") == []


def test_headers_that_share_nothing_are_coded_as_any_bytes() -> None:
    """What comes out smaller is kept."""
    headers = [bytes(np.random.default_rng(k).integers(97, 101, 3000, dtype=np.uint8)) for k in range(3)]
    pieces = tuple(Piece(k, 0, 3000) for k in range(3))
    job = BytesJob(Role.HEADER, pieces, tuple(Target(3000 * k, 3000, k, 0) for k in range(3)))
    coded = coding.encode_headers_of(job, headers, "default")
    assert coded.codec is BlockCodec.LZMA
    assert coded.decoded == 9000
    assert len(b"".join(coded.parts)) < 0.4 * 9000


def test_slabs_of_a_tiny_volume_are_of_one_kind(tmp_path: Path) -> None:
    """Its first slab is a slab where any is: the others wait for what it finds."""
    frames = np.arange(401, dtype=np.uint16).reshape(401, 1, 1)
    frames[400] = frames[399]
    (tmp_path / "one.dcm").write_bytes(trees.dicom_bytes(frames, frames=401))
    walk = walk_sources([tmp_path])
    jobs = list(plan_jobs(walk.found, scan_files(walk.found)))
    parts = [one for job in jobs for one in (job.jobs if isinstance(job, BatchJob) else (job,))]
    slabs = [one for one in parts if isinstance(one, SlabJob)]
    assert [slab.is_first for slab in slabs] == [True, False]
    assert api.pack(tmp_path, tmp_path.parent / "archive", threads=2).verified


def test_what_has_not_begun_is_given_up_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full is told at once, not after all that was on its way."""
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 1 << 13)
    for k in range(24):
        (tmp_path / f"{k:02}").write_bytes(trees.dicom_bytes(IMAGE + k, number=k, z=2.0 * k))
    monkeypatch.setattr("gpushrink.pipeline.plan.SMALL_SLAB", 0)
    monkeypatch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
    run, full, late = coding.Coder.run, threading.Event(), []

    def slowly(self: coding.Coder, job: BytesJob | SlabJob) -> list[coding.Coded]:
        late.extend([job] if full.is_set() else [])
        time.sleep(0.1)
        return run(self, job)

    class Full:
        def write(self, data: Buffer) -> None:
            full.set()
            raise DestinationError("full")

    monkeypatch.setattr(coding.Coder, "run", slowly)
    with pytest.raises(DestinationError):
        packing.pack_to_sink([tmp_path], Full(), level="fast", threads=4)
    assert not late


def _tried_together(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, packing.PackReport]:
    """Pack; tell whether everything was also coded as one block."""
    tried = []
    run = coding._run_together

    def note(*arguments: object) -> list[coding.Coded]:
        found = run(*arguments)  # type: ignore[arg-type]
        tried.append(bool(found))
        return found

    monkeypatch.setattr(coding, "_run_together", note)
    report = api.pack(folder, target, threads=1)
    assert report.verified
    return any(tried), report


def test_all_together_is_tried_and_kept_where_files_repeat_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same samples in two formats: one block of all bytes holds them once."""
    (tmp_path / "study").mkdir()
    noise = np.random.default_rng(5).integers(0, 60_000, (90, 90), dtype=np.uint16)
    (tmp_path / "study" / "a").write_bytes(trees.dicom_bytes(noise))
    (tmp_path / "study" / "b").write_bytes(trees.dicom_bytes(noise.astype(np.int16), series="2.25.9"))
    tried, report = _tried_together(tmp_path / "study", tmp_path / "archive", monkeypatch)
    assert tried
    assert report.archive_bytes < 1.2 * noise.nbytes


def test_all_together_is_not_tried_where_it_cannot_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that the volume codec codes far better than any dictionary are coded once."""
    (tmp_path / "study").mkdir()
    smooth = np.cumsum(np.random.default_rng(6).integers(-1, 2, (90, 90)), axis=1).cumsum(axis=0).astype(np.int16)
    for k in range(6):
        content = trees.dicom_bytes(smooth + k, number=k, z=float(k), series=f"2.25.{k % 2}")
        (tmp_path / "study" / f"{k}").write_bytes(content)
    tried, _ = _tried_together(tmp_path / "study", tmp_path / "archive", monkeypatch)
    assert not tried
