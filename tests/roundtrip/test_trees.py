"""Everything a file system may hold comes back, by file and by pipe."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import trees
from gpushrink.errors import DestinationError, InputError, UnsafePathError, UsageError
from gpushrink.pipeline import api, packing
from gpushrink.pipeline.unpacking import unpack_archive

posix = pytest.mark.skipif(os.name == "nt", reason="this file system keeps no such thing")


def round_trip(source: Path, scratch: Path, *, times: bool = True) -> None:
    """Pack and unpack by file and by pipe and insist on every byte."""
    archive = scratch / "a.gsz"
    report = api.pack(source, archive, threads=2)
    assert report.verified
    assert report.archive_bytes == archive.stat().st_size
    assert api.unpack(archive, scratch / "by-file", threads=2).worst() is None
    assert trees.differences(source, scratch / "by-file", times=times) == []
    pipe = trees.PipeIn(archive.read_bytes())
    assert unpack_archive(pipe, scratch / "by-pipe", threads=2).worst() is None
    assert trees.differences(source, scratch / "by-pipe", times=times) == []
    assert api.verify(archive, threads=1).worst() is None


def test_small_study_comes_back(study: Path, tmp_path: Path) -> None:
    """A series, a copy, text, an empty file, an empty folder and a link come back with modes and times."""
    round_trip(study, tmp_path)


def test_empty_folder_as_source_comes_back(tmp_path: Path) -> None:
    """A source with nothing in it makes an archive that makes a folder with nothing in it."""
    (tmp_path / "nothing").mkdir()
    round_trip(tmp_path / "nothing", tmp_path)


@posix
def test_names_of_any_bytes_come_back(tmp_path: Path) -> None:
    """Names that are not UTF-8, hold newlines, end in dots, look like options or are as long as may be come back."""
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)
    names = [b"\xff\xfe-not-utf8", b"new\nline", b"dot.", b" ", b"-rf", b"CON", b"a:b", b"back\\slash", b"x" * 255]
    names += ["Zürich-日本語-😀".encode(), b".gpushrink-1-1.part", b".a.gsz.1.part", b"\x01\x7f"]
    try:
        for k, name in enumerate(names):
            with open(os.path.join(folder, name), "wb") as stream:
                stream.write(b"content %d" % k)
    except OSError:
        pytest.skip("this file system refuses such names")
    round_trip(tmp_path / "odd", tmp_path)


@posix
def test_links_of_every_kind_come_back(tmp_path: Path) -> None:
    """Links to files, folders, nothing, themselves and siblings of their folder come back as links."""
    source = tmp_path / "links"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "file").write_text("x")
    for place, target in (
        ("to-file", "file"),
        ("to-folder", "deep"),
        ("to-nothing", "not there"),
        ("loop", "loop"),
        ("here", "."),
        ("deep/er/up", "../../file"),
        ("deep/odd", b"\xff\xfe"),
    ):
        os.symlink(os.fsencode(target) if isinstance(target, str) else target, os.fsencode(source / place))
    round_trip(source, tmp_path)


@posix
def test_modes_and_times_come_back(tmp_path: Path) -> None:
    """Every permission, read-only folders too, and times before 1970 and after 2200 come back to the nanosecond."""
    source = tmp_path / "modes"
    source.mkdir()
    moments = (0, 1, -1, -(10**18) - 7, 1_700_000_000_123_456_789, 7_500_000_000_000_000_001)
    for k, mode in enumerate((0o400, 0o644, 0o755, 0o600, 0o777, 0o444)):
        path = source / f"{k}"
        path.write_text(str(k))
        path.chmod(mode)
        os.utime(path, ns=(moments[k], moments[k]))
    inner = source / "read-only"
    inner.mkdir()
    (inner / "file").write_text("in a folder that may not be written")
    inner.chmod(0o555)
    sticky = source / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    os.utime(inner, ns=(5, 5))
    try:
        round_trip(source, tmp_path)
    finally:
        for name in ("modes", "by-file", "by-pipe"):
            if (tmp_path / name / "read-only").exists():
                (tmp_path / name / "read-only").chmod(0o755)


@posix
def test_hard_links_come_back_as_equal_files(tmp_path: Path) -> None:
    """Names of one file come back as files of equal bytes, stored once."""
    source = tmp_path / "hard"
    source.mkdir()
    content = np.random.default_rng(3).integers(0, 256, 50_000, dtype=np.uint8).tobytes()
    (source / "one").write_bytes(content)
    os.link(source / "one", source / "two")
    round_trip(source, tmp_path)
    assert (tmp_path / "a.gsz").stat().st_size < 52_000


def test_copies_of_files_and_frames_are_stored_once(tmp_path: Path) -> None:
    """A copied file and a repeated frame cost next to nothing and come back."""
    source = tmp_path / "copies"
    source.mkdir()
    rng = np.random.default_rng(4)
    image = rng.integers(0, 65536, (64, 64), dtype=np.uint16)
    for k in range(4):
        (source / f"slice{k}").write_bytes(trees.dicom_bytes(image, number=k, z=k))
    (source / "again").write_bytes((source / "slice2").read_bytes())
    movie = np.stack([image, rng.integers(0, 65536, (64, 64), dtype=np.uint16), image, image])
    (source / "movie").write_bytes(trees.dicom_bytes(movie, series="2.25.7", frames=4))
    round_trip(source, tmp_path)
    report = api.pack(source, tmp_path / "b.gsz")
    assert report.copied_files == 1
    assert report.copied_frames == 3 + 2
    assert (tmp_path / "b.gsz").stat().st_size < 3 * image.nbytes + 4000


def test_sources_of_several_kinds_are_kept_under_their_names(tmp_path: Path, study: Path) -> None:
    """Several sources, files and folders, each come back under their own name."""
    (tmp_path / "single.txt").write_text("one")
    api.pack([study, tmp_path / "single.txt"], tmp_path / "a.gsz")
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out").worst() is None
    assert trees.differences(study, tmp_path / "out" / "study") == []
    assert (tmp_path / "out" / "single.txt").read_text() == "one"


def test_one_file_as_source_is_kept_under_its_name(tmp_path: Path) -> None:
    """A file given as the only source comes back under its name."""
    (tmp_path / "single.txt").write_text("one")
    api.pack(tmp_path / "single.txt", tmp_path / "a.gsz")
    api.unpack(tmp_path / "a.gsz", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["single.txt"]


def test_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two sources whose names are the same are a usage error, before anything is written."""
    for name in ("a", "b"):
        (tmp_path / name / "same").mkdir(parents=True)
    with pytest.raises(UsageError, match="same"):
        api.pack([tmp_path / "a" / "same", tmp_path / "b" / "same"], tmp_path / "a.gsz")
    assert not (tmp_path / "a.gsz").exists()


@posix
def test_pipes_and_sockets_are_left_out_and_named(study: Path, tmp_path: Path) -> None:
    """A named pipe has no bytes: the pack goes on and the report says so."""
    os.mkfifo(study / "pipe")
    report = api.pack(study, tmp_path / "a.gsz")
    assert [path for path, _ in report.skipped] == [b"pipe"]


@posix
def test_link_that_leads_out_is_packed_and_refused_by_unpack(study: Path, tmp_path: Path) -> None:
    """A link out of the study is noted by pack, refused by unpack, and costs no other file."""
    (study / "out").symlink_to("/etc/passwd")
    report = api.pack(study, tmp_path / "a.gsz")
    assert [path for path, _ in report.skipped] == [b"out"]
    restored = api.unpack(tmp_path / "a.gsz", tmp_path / "out")
    assert isinstance(restored.worst(), UnsafePathError)
    assert trees.differences(study, tmp_path / "out", times=False) == ["only on one side: b'out'"]


@pytest.mark.parametrize("threads", [1, 3])
def test_archive_bytes_do_not_depend_on_threads_or_verify(study: Path, tmp_path: Path, threads: int) -> None:
    """The same sources give the same archive, whatever the threads, verified or not, by file or by pipe."""
    for k in range(40):
        (study / f"more{k}").write_bytes(bytes([k]) * 5000)
    api.pack(study, tmp_path / "a.gsz", threads=2)
    api.pack(study, tmp_path / "b.gsz", threads=threads, verify=False)
    sink = io.BytesIO()
    packing.pack_to_sink([study], sink, threads=threads, level="default")
    assert (tmp_path / "a.gsz").read_bytes() == (tmp_path / "b.gsz").read_bytes() == sink.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="the shell line is POSIX")
@pytest.mark.parametrize("verify", [True, False])
def test_pack_to_standard_output_gives_the_same_archive(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    """Down a pipe go the bytes a file would hold, proven on the way."""

    class Out:
        buffer = io.BytesIO()

    out = Out()
    out.buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", out)
    report = api.pack(study, "-", verify=verify, threads=2)
    monkeypatch.undo()
    api.pack(study, tmp_path / "a.gsz")
    assert out.buffer.getvalue() == (tmp_path / "a.gsz").read_bytes()
    assert report.verified is verify


def test_unpack_of_single_paths_brings_them_and_their_folders(study: Path, tmp_path: Path) -> None:
    """A path brings that file, a folder's path all below it, and nothing else."""
    api.pack(study, tmp_path / "a.gsz")
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "one", paths=["series/IM0001"]).worst() is None
    found = sorted(str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*"))
    assert found == ["series", os.path.join("series", "IM0001")]
    assert (tmp_path / "one/series/IM0001").read_bytes() == (study / "series/IM0001").read_bytes()
    report = api.unpack(tmp_path / "a.gsz", tmp_path / "two", paths=[b"series/", "copy.dcm"])
    assert (report.files, report.folders) == (4, 1)
    assert trees.differences(study / "series", tmp_path / "two" / "series") == []


def test_unpack_of_a_path_that_is_not_there_is_a_usage_error(study: Path, tmp_path: Path) -> None:
    """Naming what the archive lacks restores nothing."""
    api.pack(study, tmp_path / "a.gsz")
    with pytest.raises(UsageError, match="nowhere"):
        api.unpack(tmp_path / "a.gsz", tmp_path / "out", paths=["nowhere"])
    assert not (tmp_path / "out").exists()


def test_unpack_of_single_paths_from_a_pipe_is_a_usage_error(study: Path, tmp_path: Path) -> None:
    """A pipe cannot be searched."""
    api.pack(study, tmp_path / "a.gsz")
    with pytest.raises(UsageError, match="pipe"):
        unpack_archive(trees.PipeIn((tmp_path / "a.gsz").read_bytes()), tmp_path / "out", paths=[b"empty"], threads=1)


def test_pack_onto_an_existing_file_is_refused_without_force(study: Path, tmp_path: Path) -> None:
    """An existing file keeps its bytes; force replaces it."""
    (tmp_path / "a.gsz").write_text("mine")
    with pytest.raises(DestinationError, match="exists"):
        api.pack(study, tmp_path / "a.gsz")
    assert (tmp_path / "a.gsz").read_text() == "mine"
    api.pack(study, tmp_path / "a.gsz", force=True)
    assert api.verify(tmp_path / "a.gsz").worst() is None


def test_unpack_onto_existing_files_is_refused_before_anything_is_written(study: Path, tmp_path: Path) -> None:
    """One file in the way and nothing changes; force replaces it."""
    api.pack(study, tmp_path / "a.gsz")
    out = tmp_path / "out"
    out.mkdir()
    (out / "random.bin").write_text("mine")
    with pytest.raises(DestinationError, match=r"random\.bin"):
        api.unpack(tmp_path / "a.gsz", out)
    assert [path.name for path in out.iterdir()] == ["random.bin"]
    assert (out / "random.bin").read_text() == "mine"
    assert api.unpack(tmp_path / "a.gsz", out, force=True).worst() is None
    assert trees.differences(study, out) == []


def test_unpack_twice_with_force_gives_the_same_tree(study: Path, tmp_path: Path) -> None:
    """Force replaces files and links that are there already, whatever their modes."""
    (study / "notes.txt").chmod(0o444)
    api.pack(study, tmp_path / "a.gsz")
    for _ in range(2):
        assert api.unpack(tmp_path / "a.gsz", tmp_path / "out", force=True).worst() is None
    assert trees.differences(study, tmp_path / "out") == []


def test_archive_inside_its_source_is_refused(study: Path) -> None:
    """An archive never becomes its own source."""
    with pytest.raises(UsageError, match="inside"):
        api.pack(study, study / "a.gsz")


def test_archive_that_is_its_source_is_refused(tmp_path: Path) -> None:
    """With force, packing a file onto itself would lose it."""
    (tmp_path / "a.gsz").write_text("precious")
    with pytest.raises(UsageError, match="source"):
        api.pack(tmp_path / "a.gsz", tmp_path / "a.gsz", force=True)
    assert (tmp_path / "a.gsz").read_text() == "precious"


def test_missing_source_is_an_input_error_that_names_it(tmp_path: Path) -> None:
    """A source that is not there is named, and no archive appears."""
    with pytest.raises(InputError, match="absent"):
        api.pack(tmp_path / "absent", tmp_path / "a.gsz")
    assert list(tmp_path.iterdir()) == []
