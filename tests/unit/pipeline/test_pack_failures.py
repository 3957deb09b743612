"""What goes wrong while packing is named, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gpushrink.dicom import source as source_module
from gpushrink.errors import DestinationError, GpushrinkError, InputError, UsageError, VerifyError
from gpushrink.pipeline import api, coding, files, packing
from gpushrink.pipeline.files import NewFile


def leftovers(folder: Path) -> list[str]:
    """List what lies beside the study."""
    return sorted(path.name for path in folder.iterdir() if path.name != "study")


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace", "vanish"])
def test_source_that_changes_while_being_read_is_an_input_error_that_names_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Whatever happens to a file between the walk and the last read stops the pack, naming the file."""
    victim = study / "random.bin"
    before = packing.scan_files

    def meddle(found: Any, **options: Any) -> Any:
        scan = before(found, **options)
        content = victim.read_bytes()
        if change == "vanish":
            victim.unlink()
        elif change == "touch":
            os.utime(victim, ns=(1, 1))
        elif change == "replace":
            other = victim.with_name("other")
            other.write_bytes(content)
            os.utime(other, ns=(victim.stat().st_atime_ns, victim.stat().st_mtime_ns))
            other.replace(victim)
        else:
            victim.write_bytes(content + b"x" if change == "grow" else content[:-1])
        return scan

    monkeypatch.setattr(packing, "scan_files", meddle)
    with pytest.raises(InputError, match=r"random\.bin"):
        api.pack(study, tmp_path / "a.gsz")
    assert leftovers(tmp_path) == []


def test_source_that_changes_without_a_trace_fails_the_proof(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes changed with size, time and inode restored are caught by the hash, and the archive is not kept."""
    victim = study / "random.bin"
    status = victim.stat()
    before = source_module.hash_file

    def meddle(found: Any) -> bytes:
        if found.path.endswith(b"random.bin"):
            content = bytearray(victim.read_bytes())
            content[0] ^= 1
            with victim.open("r+b") as stream:
                stream.write(content)
            os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
        return before(found)

    monkeypatch.setattr(coding, "hash_file", meddle)
    with pytest.raises(VerifyError, match=r"random\.bin"):
        api.pack(study, tmp_path / "a.gsz", threads=1)
    assert leftovers(tmp_path) == []


def test_source_that_may_not_be_read_is_an_input_error_that_names_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without permission is named."""

    def refuse(path: Any, *rest: Any, **options: Any) -> Any:
        if path.endswith(b"notes.txt"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open(path, *rest, **options)

    monkeypatch.setattr(source_module, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"notes\.txt"):
        api.pack(study, tmp_path / "a.gsz")
    assert leftovers(tmp_path) == []


def test_folder_that_may_not_be_listed_is_an_input_error_that_names_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without permission is named; it is never taken for an empty one."""
    before = os.scandir

    def refuse(path: Any) -> Any:
        if os.fsencode(path).endswith(b"series"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return before(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="series"):
        api.pack(study, tmp_path / "a.gsz")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("where", ["scan_files", "verify_archive", "fsync"])
def test_pack_interrupted_anywhere_leaves_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Ctrl-C in the scan, in the proof or at the last moment leaves neither archive nor temporary file."""

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    module = {"scan_files": packing, "verify_archive": api, "fsync": os}[where]
    monkeypatch.setattr(module, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        api.pack(study, tmp_path / "a.gsz")
    assert leftovers(tmp_path) == []


def test_pack_interrupted_while_coding_leaves_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt among the jobs stops them all."""
    before = packing.ArchiveWriter.data

    def interrupt(*arguments: Any, **named: Any) -> Any:
        before(*arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(packing.ArchiveWriter, "data", interrupt)
    for target in (tmp_path / "a.gsz", "-"):
        with pytest.raises(KeyboardInterrupt):
            api.pack(study, target)
    assert leftovers(tmp_path) == []


def test_pack_with_an_encoder_that_errs_fails_the_proof(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that does not give the sources back is never kept."""
    before = coding._encode

    def err(job: Any, data: bytes, *rest: Any) -> Any:
        return before(job, data[:-1] + bytes([data[-1] ^ 1]), *rest)

    monkeypatch.setattr(coding, "_encode", err)
    with pytest.raises(VerifyError):
        api.pack(study, tmp_path / "a.gsz")
    assert leftovers(tmp_path) == []


def test_pack_keeps_an_archive_that_appears_meanwhile(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packs onto one name: the second does not replace the first."""
    before = os.fsync

    def appear(descriptor: int) -> None:
        (tmp_path / "a.gsz").write_text("mine")
        before(descriptor)

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(DestinationError, match="meanwhile"):
        api.pack(study, tmp_path / "a.gsz")
    assert (tmp_path / "a.gsz").read_text() == "mine"
    assert leftovers(tmp_path) == ["a.gsz"]


@pytest.mark.skipif(os.name == "nt", reason="needs hard links to be refused")
def test_pack_where_there_are_no_hard_links_still_renames(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems without hard links take the archive too."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    api.pack(study, tmp_path / "a.gsz")
    assert leftovers(tmp_path) == ["a.gsz"]


def test_new_file_left_without_commit_leaves_nothing(tmp_path: Path) -> None:
    """Neither the file nor its temporary twin stays."""
    with NewFile(tmp_path / "a", force=False) as output:
        output.write(b"half")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "😀" * 63])
def test_new_file_with_the_longest_name_is_written(tmp_path: Path, name: str) -> None:
    """The temporary name is never longer than what the file system takes."""
    with NewFile(tmp_path / name, force=False) as output:
        output.write(b"whole")
        output.commit()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_new_file_on_a_failing_disk_is_a_destination_error_and_leaves_nothing(tmp_path: Path, code: int) -> None:
    """What the system refuses to write is named, and the temporary file goes."""

    class Failing:
        def write(self, _: bytes) -> int:
            raise OSError(code, os.strerror(code))

        def close(self) -> None:
            raise OSError(code, os.strerror(code))

    output = NewFile(tmp_path / "a", force=False)
    with pytest.raises(DestinationError, match="cannot write"), output:  # noqa: PT012
        output._stream.close()  # type: ignore[union-attr]
        output._stream = Failing()  # type: ignore[assignment]
        output.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_new_file_goes_to_the_disk_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each so many bytes are synced by a thread, in the order of writing, and the last by the commit."""
    sizes: list[tuple[int, bool]] = []
    before = os.fsync

    def note(descriptor: int) -> None:
        sizes.append((os.fstat(descriptor).st_size, threading.current_thread() is threading.main_thread()))
        before(descriptor)

    monkeypatch.setattr(files, "_SYNC_BYTES", 1000)
    monkeypatch.setattr(os, "fsync", note)
    with NewFile(tmp_path / "new", force=False) as output:
        for k in range(5):
            output.write(bytes([k]) * 600)
            if output._syncing is not None:
                output._syncing.result(30)
        output.commit()
    assert [(size, main) for size, main in sizes if size <= 3000][:3] == [(1200, False), (2400, False), (3000, True)]
    assert (tmp_path / "new").read_bytes() == b"".join(bytes([k]) * 600 for k in range(5))


def test_new_file_whose_sync_fails_on_the_way_is_a_destination_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system tells of a lost page once: whoever hears of it must say so, though a later sync succeeds."""
    calls: list[int] = []

    def fail_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_SYNC_BYTES", 10)
    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(DestinationError, match="new"), NewFile(tmp_path / "new", force=False) as output:
        output.write(b"0123456789abc")
        output.commit()
    assert leftovers(tmp_path) == []


def test_pack_into_a_folder_that_is_not_there_is_a_destination_error(study: Path, tmp_path: Path) -> None:
    """The folder of the archive is not made for the caller."""
    with pytest.raises(DestinationError):
        api.pack(study, tmp_path / "absent" / "a.gsz")


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_pack_onto_a_broken_link_is_refused_without_force(study: Path, tmp_path: Path) -> None:
    """A link to nothing is something too."""
    (tmp_path / "a.gsz").symlink_to("nowhere")
    with pytest.raises(DestinationError, match="exists"):
        api.pack(study, tmp_path / "a.gsz")


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_a_usage_error(study: Path, tmp_path: Path, threads: int) -> None:
    """Nothing can be done by nobody."""
    with pytest.raises(UsageError):
        api.pack(study, tmp_path / "a.gsz", threads=threads)


def test_no_sources_and_unknown_levels_are_usage_errors(study: Path, tmp_path: Path) -> None:
    """What cannot be meant is refused before anything is read."""
    with pytest.raises(UsageError):
        api.pack([], tmp_path / "a.gsz")
    with pytest.raises(UsageError):
        api.pack(study, tmp_path / "a.gsz", level="extreme")


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EINVAL, "odd")])
@pytest.mark.parametrize("verify", [True, False])
def test_standard_output_that_fails_is_a_destination_error(
    study: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, verify: bool
) -> None:
    """A reader that goes away, or a full disk behind the pipe, ends the pack with our error, not with a hang."""

    class Broken:
        class buffer:  # noqa: N801
            @staticmethod
            def write(_: bytes) -> int:
                raise error

    monkeypatch.setattr(sys, "stdout", Broken)
    with pytest.raises(DestinationError, match="standard output"):
        api.pack(study, "-", verify=verify)


def test_standard_output_that_takes_little_at_a_time_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unbuffered stream may take less than it is given."""
    taken = bytearray()

    class Slow:
        class buffer:  # noqa: N801
            @staticmethod
            def write(data: memoryview) -> int:
                taken.extend(data[:3])
                return min(3, len(data))

    monkeypatch.setattr(sys, "stdout", Slow)
    files.StandardOutput().write(b"0123456789")
    assert bytes(taken) == b"0123456789"


@pytest.mark.parametrize("read", [api.verify, api.catalogue, lambda path: api.unpack(path, "unused")])
def test_archive_that_is_not_there_or_a_folder_is_an_input_error(tmp_path: Path, read: Any) -> None:
    """What cannot be opened is named."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError):
            read(path)


def test_archive_that_cannot_be_read_on_is_an_input_error(study: Path, tmp_path: Path) -> None:
    """A disk error in the middle of an archive is not taken for its end."""
    from gpushrink.pipeline.unpacking import verify_archive

    api.pack(study, tmp_path / "a.gsz")
    with (tmp_path / "a.gsz").open("rb") as stream:

        class Failing:
            seekable = staticmethod(lambda: False)

            @staticmethod
            def read(count: int) -> bytes:
                if stream.tell() > 500:
                    raise OSError(errno.EIO, "Input/output error")
                return stream.read(min(count, 100))

        with pytest.raises(InputError, match="read on"):
            verify_archive(Failing(), threads=1)  # type: ignore[arg-type]


def test_every_error_has_its_own_meaning() -> None:
    """Exit codes are distinct for what a caller can tell apart, and all are named."""
    classes = [GpushrinkError, *GpushrinkError.__subclasses__()]
    codes = [one.exit_code for one in classes]
    assert len(set(codes)) == len(codes)
    assert all(one.meaning for one in classes)
