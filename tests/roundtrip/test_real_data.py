"""Real DICOM comes back, byte for byte: the sets beside the repository, and pydicom's own test files everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

import trees
from gpushrink.dicom.synthetic import write_series
from gpushrink.pipeline import api
from gpushrink.pipeline.unpacking import unpack_archive


def test_set_of_real_data_comes_back_by_file(real_set: Path, tmp_path: Path) -> None:
    """Every file of the set, odd, truncated and non-DICOM ones too, comes back with mode and time."""
    archive = tmp_path / "a.gsz"
    assert api.pack(real_set, archive, level="fast", threads=2).verified
    assert api.unpack(archive, tmp_path / "out", threads=2).worst() is None
    assert trees.differences(real_set, tmp_path / "out") == []


def test_set_of_real_data_comes_back_by_pipe(real_set: Path, tmp_path: Path) -> None:
    """The same at level default, from a stream that cannot seek and gives 64 KiB at a time."""
    archive = tmp_path / "a.gsz"
    api.pack(real_set, archive, threads=2, verify=False)  # unpack proves every hash
    pipe = trees.PipeIn(archive.read_bytes(), step=1 << 16)
    assert unpack_archive(pipe, tmp_path / "out", threads=2).worst() is None
    assert trees.differences(real_set, tmp_path / "out") == []


@pytest.fixture(scope="module")
def pydicom_files() -> Path:
    """Give the folder of the test files that come with pydicom."""
    from pydicom import data

    folder = Path(data.__file__).parent / "test_files"
    if not folder.is_dir():
        pytest.skip("this pydicom comes without test files")
    return folder


@pytest.mark.parametrize("level", ["fast", "default"])
def test_pydicom_test_files_come_back(pydicom_files: Path, tmp_path: Path, level: str) -> None:
    """All transfer syntaxes, character sets and deliberate faults come back exactly."""
    report = api.pack(pydicom_files, tmp_path / "a.gsz", level=level, threads=2)
    assert report.verified
    assert report.dicom_files > 40
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out", threads=2).worst() is None
    assert trees.differences(pydicom_files, tmp_path / "out") == []


def test_pydicom_test_files_cut_short_come_back(pydicom_files: Path, tmp_path: Path) -> None:
    """Files cut in the header, in the pixel data and at odd bytes, or with bytes added, come back exactly."""
    source = tmp_path / "source"
    source.mkdir()
    for path in sorted(pydicom_files.rglob("*.dcm")):
        content = path.read_bytes()[:200_000]
        for k, cut in enumerate((140, len(content) // 3, len(content) - 1)):
            (source / f"{path.stem}-{k}").write_bytes(content[:cut])
        (source / f"{path.stem}-more").write_bytes(content + b"\0\1\2")
    report = api.pack(source, tmp_path / "a.gsz", level="fast", threads=2)
    assert report.verified
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out", threads=2).worst() is None
    assert trees.differences(source, tmp_path / "out") == []


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_synthetic_series_comes_back_smaller(tmp_path: Path, level: str) -> None:
    """The phantom comes back exactly at every level, at less than half its size."""
    (tmp_path / "series").mkdir()
    size = write_series(tmp_path / "series", slices=5, rows=96, columns=128)
    report = api.pack(tmp_path / "series", tmp_path / "a.gsz", level=level, threads=2)
    assert report.volumes == 1
    assert report.archive_bytes < size / 2
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out", threads=2).worst() is None
    assert trees.differences(tmp_path / "series", tmp_path / "out") == []
