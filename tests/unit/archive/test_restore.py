"""Files are brought back below the destination, whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trees
from gpushrink.archive import restore
from gpushrink.archive.restorer import Proof
from gpushrink.errors import CorruptError, DestinationError, GpushrinkError, UnsafePathError
from gpushrink.model import Entry, EntryKind, Target
from gpushrink.pipeline import api
from gpushrink.pipeline.restore_report import RestoreReport
from gpushrink.pipeline.unpacking import unpack_archive

posix = pytest.mark.skipif(os.name == "nt", reason="this file system keeps no such thing")


def file(path: bytes, size: int = 0, mode: int = 0o644, mtime_ns: int = 10**18) -> Entry:
    """Make a file entry."""
    return Entry(EntryKind.FILE, path, mode, mtime_ns, size)


def folder(path: bytes, mode: int = 0o755) -> Entry:
    """Make a folder entry."""
    return Entry(EntryKind.FOLDER, path, mode, 10**18)


def link(path: bytes, target: bytes) -> Entry:
    """Make a link entry."""
    return Entry(EntryKind.LINK, path, 0o777, 0, 0, target)


def unpack(archive: bytes, destination: Path, *, force: bool = False) -> RestoreReport:
    """Unpack an archive held in memory."""
    return unpack_archive(io.BytesIO(archive), destination, force=force, threads=1)


def names(folder: Path) -> list[str]:
    """List all that lies below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("path", [b"../evil", b"/tmp/evil-gpushrink", b"a/../../evil"])
def test_unpack_of_a_path_that_leads_out_refuses_it_and_restores_the_rest(tmp_path: Path, path: bytes) -> None:
    """The file is named as unsafe; the others come back; nothing appears outside."""
    archive = trees.stored_archive([file(path, 3), file(b"good", 4)], {0: b"bad", 1: b"good"})
    report = unpack(archive, tmp_path / "out")
    assert isinstance(report.worst(), UnsafePathError)
    assert names(tmp_path) == ["out", os.path.join("out", "good")]


@posix
def test_unpack_through_a_link_in_the_destination_is_refused(tmp_path: Path) -> None:
    """A link that lies in the destination where a folder belongs is not followed, with force or without."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    archive = trees.stored_archive([folder(b"a"), file(b"a/b", 1)], {1: b"x"})
    for force in (False, True):
        with pytest.raises((DestinationError, UnsafePathError)):
            unpack(archive, tmp_path / "out", force=force)
    assert names(tmp_path / "elsewhere") == []


@posix
def test_unpack_onto_a_link_with_force_replaces_the_link_not_its_target(tmp_path: Path) -> None:
    """Force replaces what lies at the path, never what a link there points to."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "precious")
    archive = trees.stored_archive([file(b"a", 1)], {0: b"x"})
    with pytest.raises(DestinationError):
        unpack(archive, tmp_path / "out")
    assert unpack(archive, tmp_path / "out", force=True).worst() is None
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "out" / "a").read_text() == "x"


@posix
def test_unpack_into_a_destination_that_is_a_link_follows_it(tmp_path: Path) -> None:
    """The destination itself is the caller's choice."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert unpack(trees.stored_archive([file(b"a", 1)], {0: b"x"}), tmp_path / "out").worst() is None
    assert names(tmp_path / "real") == ["a"]


@posix
def test_unpack_while_a_folder_becomes_a_link_writes_nothing_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder swapped for a link between the look and the write is noticed."""
    (tmp_path / "elsewhere").mkdir()
    archive = trees.stored_archive([folder(b"a"), file(b"a/b", 1)], {1: b"x"})
    before = Proof.run

    def swap(self: Proof) -> CorruptError | None:
        (tmp_path / "out" / "a").rmdir()
        (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
        return before(self)

    monkeypatch.setattr(Proof, "run", swap)
    with pytest.raises(UnsafePathError):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path / "elsewhere") == []


def test_unpack_while_a_file_appears_does_not_replace_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file made by somebody else after the first look keeps its bytes."""
    archive = trees.stored_archive([file(b"a", 1)], {0: b"x"})
    before = Proof.run

    def appear(self: Proof) -> CorruptError | None:
        (tmp_path / "out" / "a").write_text("mine")
        return before(self)

    monkeypatch.setattr(Proof, "run", appear)
    with pytest.raises(DestinationError, match="meanwhile"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "mine"
    assert names(tmp_path / "out") == ["a"]


def test_unpack_where_case_does_not_count_names_the_collision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two names that are one to the file system the second is a failure, not a replacement."""
    monkeypatch.setattr(restore, "_is_one_case", lambda _: True)
    archive = trees.stored_archive([file(b"A", 1), file(b"a", 1)], {0: b"1", 1: b"2"})
    report = unpack(archive, tmp_path / "out")
    assert [path for path, _ in report.failures] == [b"a"]
    assert (tmp_path / "out" / "A").read_bytes() == b"1"


@posix
def test_unpack_of_a_failed_file_in_a_read_only_folder_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails its hash is gone before its folder takes its mode and time, even for users who are not root."""
    monkeypatch.setattr("gpushrink.archive.assembly.SPOOL_SIZE", 2)
    entries = [folder(b"a", 0o555), file(b"a/b", 5)]
    parts = trees.ArchiveParts().tree(entries).stored([Target(0, 5, 1, 0)], b"wrong").hashes({1: b"right"})
    report = unpack(parts.end(), tmp_path / "out")
    assert isinstance(report.worst(), CorruptError)
    assert names(tmp_path / "out") == ["a"]
    assert (tmp_path / "out" / "a").stat().st_mtime_ns == 10**18
    (tmp_path / "out" / "a").chmod(0o755)


@posix
def test_unpack_twice_as_an_ordinary_user_with_read_only_folders_works(tmp_path: Path) -> None:
    """Force works again on a tree with read-only folders and files, for users who are not root too."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    archive = tmp_path / "a.gsz"
    archive.write_bytes(trees.stored_archive([folder(b"a", 0o555), file(b"a/b", 5, 0o444)], {1: b"hello"}))
    program = (
        "import os, sys\n"
        "from gpushrink.pipeline import api\n"
        "api.verify(sys.argv[1])\n"  # everything is imported before root's folders are out of reach
        "os.setgid(65534); os.setuid(65534)\n"
        "for _ in range(2): assert api.unpack(sys.argv[1], sys.argv[2], force=True).worst() is None"
    )
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, 65534, 65534)
    for place in (tmp_path, *tmp_path.parents):
        if place.owner() == "root" and place != Path("/") and not place.stat().st_mode & 1:
            place.chmod(place.stat().st_mode | 0o711)
    ran = subprocess.run([sys.executable, "-c", program, archive, out], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert names(out) == ["a", "a/b"]


@posix
def test_unpack_of_a_name_too_long_names_it_and_restores_the_rest(tmp_path: Path) -> None:
    """A name that no file system here can hold is one failure."""
    archive = trees.stored_archive([file(b"good", 1), file(b"x" * 300, 1)], {0: b"1", 1: b"2"})
    report = unpack(archive, tmp_path / "out")
    assert [path for path, _ in report.failures] == [b"x" * 300]
    assert isinstance(report.worst(), DestinationError)
    assert names(tmp_path / "out") == ["good"]


@posix
def test_unpack_where_links_cannot_be_made_names_them_and_restores_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user or file system without symbolic links gets everything else."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "symlink", refuse)
    archive = trees.stored_archive([file(b"a", 1), folder(b"b", 0o700), link(b"l", b"a")], {0: b"x"})
    report = unpack(archive, tmp_path / "out")
    assert [path for path, _ in report.failures] == [b"l"]
    assert names(tmp_path / "out") == ["a", "b"]
    assert (tmp_path / "out" / "b").stat().st_mtime_ns == 10**18


@posix
def test_unpack_never_grants_set_id_bits(tmp_path: Path) -> None:
    """Who may run as whom is not for an archive to say."""
    unpack(trees.stored_archive([file(b"a", 1, 0o6755)], {0: b"x"}), tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_mode & 0o7777 == 0o755


def test_unpack_of_times_out_of_reach_restores_the_bytes(tmp_path: Path) -> None:
    """A time that the file system cannot hold is no reason to lose a file, or to fall over."""
    far = (1 << 40) * 10**9
    archive = trees.stored_archive([file(b"a", 1, mtime_ns=far), file(b"b", 1, mtime_ns=-far)], {0: b"x", 1: b"y"})
    report = unpack(archive, tmp_path / "out")
    assert report.failures == []
    assert names(tmp_path / "out") == ["a", "b"]


def test_unpack_of_files_named_like_temporary_files_restores_them(tmp_path: Path) -> None:
    """No stored name collides with the names used while writing."""
    source = tmp_path / "source"
    source.mkdir()
    pid = os.getpid()
    for name in (f".gpushrink-{pid}-1.part", f".gpushrink-{pid}-2.part", f".a.gsz.{pid}.part", ".gpushrink-.part"):
        (source / name).write_text(name)
    (tmp_path / f".a.gsz.{pid}.part").write_text("left behind by a killed run of the same number")
    api.pack(source, tmp_path / "a.gsz")
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out").worst() is None
    assert trees.differences(source, tmp_path / "out") == []


def test_unpack_of_an_archive_that_holds_one_passes_over_a_damaged_block_header(tmp_path: Path) -> None:
    """Blocks of the archive stored inside are not taken for this one's: all but the damaged file comes back."""
    inner = trees.stored_archive([file(b"%d" % k, 9) for k in range(4)], {k: b"inside %02d" % k for k in range(4)})
    contents = {0: inner, **{k: b"outside %d" % k for k in range(1, 4)}}
    entries = [file(b"%d" % k, len(contents[k])) for k in range(4)]
    archive = bytearray(trees.stored_archive(entries, contents))
    within = archive.index(inner)
    begin = archive.rindex(b"GSZb", 0, within)
    archive[begin + 9] ^= 1
    report = unpack(bytes(archive), tmp_path / "out")
    assert [path for path, _ in report.failures] == [b"0"]
    assert {k: (tmp_path / "out" / str(k)).read_bytes() for k in range(1, 4)} == {k: contents[k] for k in range(1, 4)}


@pytest.mark.parametrize(("spool", "told_at"), [(1, "write"), (1, "flush"), (1 << 20, "write")])
def test_unpack_on_a_full_disk_is_a_destination_error_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: int, told_at: str
) -> None:
    """A disk that fills up ends the run with what is whole, and nothing half-written."""
    monkeypatch.setattr("gpushrink.archive.assembly.SPOOL_SIZE", spool)
    archive = trees.stored_archive([file(b"a", 5), file(b"b", 5)], {0: b"first", 1: b"other"})

    def fail(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Full = type("Full", (io.BytesIO,), {told_at: fail})  # noqa: N806
    real, opened = open, []

    def crowded(path: object, mode: str = "r", *rest: object, **named: object) -> object:
        opened.append(path)
        stream = real(path, mode, *rest, **named)  # type: ignore[call-overload]
        if len(opened) == 2:
            stream.close()
            return Full()
        return stream

    monkeypatch.setattr(restore, "open", crowded, raising=False)
    with pytest.raises(DestinationError):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == ([] if (spool, told_at) == (1, "write") else ["a"])


@posix
def test_unpack_onto_a_really_full_disk_is_a_destination_error(tmp_path: Path) -> None:
    """A file system of 64 KB takes what fits and nothing half-written."""
    out = tmp_path / "tiny"
    out.mkdir()
    mount = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", out], capture_output=True, check=False)
        if os.geteuid() == 0 and sys.platform == "linux"
        else None
    )
    if mount is None or mount.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        archive = trees.stored_archive(
            [file(b"a", 10), file(b"b", 200_000)], {0: bytes(10), 1: bytes(range(250)) * 800}
        )
        with pytest.raises(DestinationError, match="space"):
            unpack(archive, out)
        assert names(out) == ["a"]
        (tmp_path / "big").write_bytes(os.urandom(200_000))
        with pytest.raises(DestinationError, match="space"):
            api.pack(tmp_path / "big", out / "a.gsz")
        assert names(out) == ["a"]
    finally:
        subprocess.run(["umount", out], check=True)


def test_unpack_interrupted_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two files leaves the first whole and nothing else."""
    archive = trees.stored_archive([file(b"a", 5), file(b"b", 5)], {0: b"first", 1: b"other"})
    before = restore.FolderKeeper.commit

    def interrupted(self: restore.FolderKeeper, entry: Entry, assembly: restore.Assembly) -> None:
        if entry.path == b"b":
            self.open_spool(entry).write(b"ha")
            raise KeyboardInterrupt
        before(self, entry, assembly)

    monkeypatch.setattr(restore.FolderKeeper, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == ["a"]


def test_unpack_where_the_destination_is_a_file_is_a_destination_error(tmp_path: Path) -> None:
    """A file in the place of the destination is named."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DestinationError, match="out"):
        unpack(trees.stored_archive([file(b"a")]), tmp_path / "out")


def test_unpack_of_data_for_a_folder_or_nobody_is_damage_or_nothing(tmp_path: Path) -> None:
    """Bytes aimed at a folder, a link or an id that is not there harm nothing."""
    parts = trees.ArchiveParts().tree([folder(b"a"), file(b"b", 1)])
    parts.stored([Target(0, 1, 0, 0), Target(0, 1, 1, 0), Target(0, 1, 77, 0)], b"x").hashes({1: b"x"})
    report = unpack(parts.end(), tmp_path / "out")
    assert isinstance(report.worst(), GpushrinkError)
    assert (tmp_path / "out" / "b").read_bytes() == b"x"
    assert (tmp_path / "out" / "a").is_dir()
