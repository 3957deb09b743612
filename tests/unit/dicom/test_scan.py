"""Files are walked, grouped and compared the same way every time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import trees
from gpushrink.dicom import scan as scan_module
from gpushrink.dicom.scan import Scan, scan_files
from gpushrink.dicom.walk import Walk, walk_sources
from gpushrink.errors import InputError, UsageError
from gpushrink.model import Role
from gpushrink.pipeline.plan import BatchJob, BytesJob, HashJob, SlabJob, plan_jobs

RNG = np.random.default_rng(11)


def image(rows: int = 40, columns: int = 40, dtype: type = np.uint16) -> np.ndarray:
    """Make an image unlike any other."""
    return RNG.integers(0, 200, (rows, columns)).astype(dtype)


def scanned(folder: Path) -> tuple[Walk, Scan]:
    """Walk and scan a folder."""
    walk = walk_sources([folder])
    return walk, scan_files(walk.found)


def names(walk: Walk, ids: list[int]) -> list[str]:
    """Name files by id."""
    return [walk.found[i].entry.path.decode() for i in ids]


def test_slices_are_ordered_by_position_then_number_then_name(tmp_path: Path) -> None:
    """Names and numbers in wrong order do not matter where positions tell."""
    for name, z, number in (("c", 1.0, 9), ("a", 3.0, 1), ("b", -2.0, 5), ("e", 2.0, 1), ("d", 2.0, 0), ("f", 2.0, 1)):
        (tmp_path / name).write_bytes(trees.dicom_bytes(image(), number=number, z=z))
    walk, scan = scanned(tmp_path)
    assert len(scan.volumes) == 1
    assert names(walk, [frame.file_id for frame in scan.volumes[0].frames]) == ["b", "c", "d", "e", "f", "a"]


def test_slices_of_other_series_sizes_and_formats_are_other_volumes(tmp_path: Path) -> None:
    """Only what can be coded together is together; a multi-frame file stands alone."""
    files = {
        "1": trees.dicom_bytes(image()),
        "2": trees.dicom_bytes(image()),
        "other": trees.dicom_bytes(image(), series="2.25.9"),
        "small": trees.dicom_bytes(image(20, 40)),
        "signed": trees.dicom_bytes(image(dtype=np.int16)),
        "bytes": trees.dicom_bytes(image(dtype=np.uint8)),
        "movie": trees.dicom_bytes(np.stack([image(), image()]), frames=2),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    walk, scan = scanned(tmp_path)
    groups = sorted(sorted(set(names(walk, [f.file_id for f in volume.frames]))) for volume in scan.volumes)
    assert groups == [["1", "2"], ["bytes"], ["movie"], ["other"], ["signed"], ["small"]]


def test_copies_are_found_among_files_of_one_size_only_if_equal(tmp_path: Path) -> None:
    """Files that agree wherever the fingerprint looks are still told apart."""
    content = bytearray(RNG.integers(0, 256, 20_000, dtype=np.uint8).tobytes())
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    content[1000] ^= 1
    (tmp_path / "c").write_bytes(content)
    walk, scan = scanned(tmp_path)
    assert {walk.found[k].entry.path: names(walk, v) for k, v in scan.copies.items()} == {b"a": ["b"]}
    assert names(walk, list(scan.opaque)) == ["a", "c"]


def test_copies_beyond_the_most_are_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of a block stay below their limit, whatever the copies; everything still comes back."""
    from gpushrink.pipeline import api

    monkeypatch.setattr(scan_module, "_MOST_COPIES", 3)
    monkeypatch.setattr(scan_module, "_MOST_FRAME_COPIES", 2)
    monkeypatch.setattr("gpushrink.pipeline.plan.BLOCK_TARGETS", 4)
    source = tmp_path / "source"
    source.mkdir()
    one = image()
    for k in range(10):
        (source / f"same{k}").write_bytes(b"the same bytes again")
        (source / f"slice{k}").write_bytes(trees.dicom_bytes(one, number=k, z=k))
        (source / f"whole{k}").write_bytes(trees.dicom_bytes(one, number=77, z=77))
    walk, scan = scanned(source)
    assert sorted(len(others) for others in scan.copies.values()) == [1, 1, 3, 3, 3, 3]
    assert max(len(others) for others in scan.frame_copies.values()) <= 2
    for job in plan_jobs(walk.found, scan):
        if not isinstance(job, HashJob):
            assert len(job.targets) <= 3 * 4
    api.pack(source, tmp_path / "a.gsz")
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out").worst() is None
    assert trees.differences(source, tmp_path / "out") == []


def test_plan_is_the_same_every_time_and_covers_every_byte_once(study: Path) -> None:
    """The plan depends on the sources alone; its targets cover each file exactly; hashes come after all data."""
    walk, scan = scanned(study)
    jobs = list(plan_jobs(walk.found, scan))
    assert jobs == list(plan_jobs(*[walk.found, scan_files(walk_sources([study]).found)]))
    covered = {i: bytearray(item.entry.size) for i, item in enumerate(walk.found)}
    hashed: set[int] = set()
    for job in jobs:
        if isinstance(job, HashJob):
            ids = {i for group in job.groups for i in group}
            assert not ids & hashed
            assert all(all(covered[i]) for i in ids)
            hashed |= ids
            continue
        assert isinstance(job, (BytesJob, SlabJob, BatchJob))
        for target in job.targets:
            assert 0 <= target.source_offset <= target.source_offset + target.length <= job.size
            part = covered[target.file_id][target.file_offset : target.file_offset + target.length]
            assert len(part) == target.length
            assert not any(part)
            covered[target.file_id][target.file_offset : target.file_offset + target.length] = b"\1" * target.length
    assert all(all(part) for part in covered.values())
    assert hashed == {i for i, item in enumerate(walk.found) if item.entry.kind == 0}


def test_blocks_of_headers_end_between_two_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that would be cut begins the next block; one larger than any block is cut all the same."""
    for k in range(9):
        (tmp_path / f"{k}").write_bytes(
            trees.dicom_bytes(image(), number=k, z=float(k), extra=b"z" * (5000 * (k == 8)))
        )
    walk, scan = scanned(tmp_path)
    monkeypatch.setattr("gpushrink.pipeline.plan.HEADER_BLOCK_BYTES", 1300)
    monkeypatch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
    blocks = [job for job in plan_jobs(walk.found, scan) if isinstance(job, BytesJob) and job.role is Role.HEADER]
    assert all(job.size <= 1300 for job in blocks)
    assert len(blocks) > 6
    whole = {(i, 0): file.native.offset for i, file in scan.dicom.items() if file.native is not None}
    pieces = [piece for job in blocks for piece in job.pieces]
    assert all(piece.length == whole[piece.file_id, 0] for piece in pieces if piece.offset == 0)
    assert sum(piece.length for piece in pieces) > 5000


def test_walk_lists_in_order_of_stored_path_whatever_the_file_system_says(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of a folder's listing does not reach the archive."""
    first = walk_sources([study])
    before = os.scandir

    class Backwards:
        def __init__(self, path: bytes) -> None:
            with before(path) as listing:
                self.listing = list(listing)[::-1]

        def __enter__(self) -> list[os.DirEntry[bytes]]:
            return self.listing

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert walk_sources([study]) == first
    paths = [item.entry.path for item in first.found]
    assert paths == sorted(paths)


def test_walk_of_more_than_an_archive_holds_is_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the format is met before a byte is written."""
    for limit in ("_MAX_ENTRIES", "_MAX_TREE_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(f"gpushrink.dicom.walk.{limit}", 3)
            with pytest.raises(UsageError, match="archive"):
                walk_sources([study])


@pytest.mark.skipif(os.name == "nt", reason="Windows has shorter paths")
def test_walk_of_a_path_too_long_is_an_input_error(tmp_path: Path) -> None:
    """A stored path over 4096 bytes is named instead of cut."""
    folder = tmp_path
    here = Path.cwd()
    try:
        for _ in range(18):
            os.chdir(folder)
            folder = Path("x" * 240)
            folder.mkdir()
    finally:
        os.chdir(here)
    with pytest.raises(InputError):
        walk_sources([tmp_path])


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_walk_does_not_follow_links_but_a_source_that_is_one(study: Path, tmp_path: Path) -> None:
    """Links inside are kept as links, even to folders above themselves; the source itself is followed."""
    (study / "round").symlink_to("..")
    (tmp_path / "alias").symlink_to(study)
    assert [item.entry for item in walk_sources([tmp_path / "alias"]).found] == [
        item.entry for item in walk_sources([study]).found
    ]


def test_walk_of_times_out_of_range_stores_the_nearest_and_says_so(tmp_path: Path) -> None:
    """A time that the format cannot hold is named in the report."""
    (tmp_path / "far").write_text("x")
    try:
        os.utime(tmp_path / "far", ns=((1 << 41) * 10**9, (1 << 41) * 10**9))
    except (OSError, OverflowError):
        pytest.skip("this system refuses such times")
    walk = walk_sources([tmp_path])
    if (tmp_path / "far").stat().st_mtime_ns != (1 << 41) * 10**9:
        pytest.skip("this file system keeps no such times")
    assert [path for path, _ in walk.skipped] == [b"far"]
    assert walk.found[0].entry.mtime_ns == (1 << 40) * 10**9
