"""Keep files that are brought back: each under a temporary name, then renamed.

`FolderKeeper` writes them below a destination, `NullKeeper` only proves them. Paths are bytes throughout: stored names
have no certain encoding.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from gpushrink.archive.assembly import Assembly, anonymous_spool
from gpushrink.archive.paths import check_tree
from gpushrink.errors import DestinationError, GpushrinkError, UnsafePathError
from gpushrink.model import Entry, EntryKind

__all__ = ["FolderKeeper", "Keeper", "NullKeeper"]

# What systems answer to a name they cannot hold: too long, or bytes that are no text to them.
_UNNAMEABLE = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


class Keeper(Protocol):
    """Say what becomes of files that are put together again; `commit` is called from several threads at once."""

    keep: bool

    def judge(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Return, by id, what of the whole tree is refused."""

    def prepare(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Make ready for what will come; return, by id, what cannot be kept."""

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Open a place for a file that is too large for memory."""

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Take a proven file."""

    def finish(self) -> dict[int, GpushrinkError]:
        """Do what is left once all files are there; return, by id, what could not be done."""

    def abandon(self) -> None:
        """Leave nothing unfinished behind."""


class NullKeeper:
    """Prove files and keep none."""

    keep = False

    def judge(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Refuse what would be refused anywhere."""
        return check_tree(entries)

    def prepare(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Accept all."""
        return {}

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Open a nameless temporary file."""
        return anonymous_spool()

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Forget the file."""

    def finish(self) -> dict[int, GpushrinkError]:
        """Do nothing."""
        return {}

    def abandon(self) -> None:
        """Do nothing."""


class FolderKeeper:
    """Write files below a destination folder and never outside it.

    Parameters
    ----------
    destination
        The folder; made if missing.
    force
        Replace files that exist.
    """

    keep = True

    def __init__(self, destination: Path, *, force: bool) -> None:
        self._root = os.fsencode(destination)
        self._force = force
        self._entries: dict[int, Entry] = {}
        self._parts: set[bytes] = set()
        self._spools: dict[int, bytes] = {}
        # A random name: those of a killed run, or of stored files, must not be in the way.
        self._run = secrets.token_hex(8)
        self._count = itertools.count(1)  # whose steps are whole, whichever threads take them

    def judge(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Refuse what may not or cannot lie below this destination."""
        try:
            os.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise DestinationError(f"cannot make {os.fsdecode(self._root)!r}: {error.strerror}") from None
        return check_tree(entries, one_case=_is_one_case(self._root))

    def prepare(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Make sure that nothing is in the way, then make the folders.

        Returns
        -------
        dict
            By id, what this file system cannot name.

        Raises
        ------
        DestinationError
            If an entry exists and `force` is not given, or a folder cannot be made. Nothing was made then.
        """
        impossible: dict[int, GpushrinkError] = {}
        missing: list[bytes] = []
        way = b""
        for i, entry in sorted(entries.items(), key=lambda pair: pair[1].path):
            full = self._full(entry)
            if not way or entry.path.rpartition(b"/")[0] != way:  # of a thousand files in a folder, look at it once
                self._check_way(entry.path)
                way = entry.path.rpartition(b"/")[0]
            try:
                found = self._look(entry, full)
            except (OSError, UnicodeError) as error:
                if isinstance(error, OSError) and error.errno not in _UNNAMEABLE:
                    raise DestinationError(f"cannot look at {os.fsdecode(full)!r}: {error.strerror}") from None
                impossible[i] = DestinationError(f"this file system cannot hold the name {os.fsdecode(entry.path)!r}")
                continue
            if found is None and entry.kind is EntryKind.FOLDER:
                missing.append(full)
            self._entries[i] = entry
        for full in missing:
            with self._explained(full):
                os.mkdir(full, 0o700)  # its own mode comes last, it may forbid writing
        return impossible

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Open a temporary file beside the place where the file will lie."""
        with self._explained(self._full(entry)):
            part = self._new_part(entry)
            self._spools[id(entry)] = part
            stream: BinaryIO = open(part, "x+b")  # closed by the assembly
        return stream

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Write a proven file under a temporary name, set its mode and time, and rename it: safe from many threads."""
        full = self._full(entry)
        part = self._spools.pop(id(entry), None)
        with self._explained(full):
            if part is None:
                part = self._new_part(entry)
                with open(part, "xb") as stream:
                    for piece in assembly.pieces():
                        stream.write(piece)
            assembly.close()
            _set_time(part, entry)
            # Set-id bits are not taken from an archive: who may run as whom is the receiver's decision.
            os.chmod(part, entry.mode & ~(stat.S_ISUID | stat.S_ISGID))
            self._rename(part, full, entry)

    def finish(self) -> dict[int, GpushrinkError]:
        """Make the links, then give the folders their modes and times, deepest first.

        Returns
        -------
        dict
            By id, the links that this file system, or this user on Windows, cannot make.
        """
        self.abandon()  # what failed goes before its folder may no longer be written
        impossible: dict[int, GpushrinkError] = {}
        for i, entry in self._entries.items():
            if entry.kind is EntryKind.LINK:
                full = self._full(entry)
                with self._explained(full):
                    part = self._new_part(entry)
                    try:
                        os.symlink(entry.link, part)
                    except (OSError, NotImplementedError, UnicodeError) as error:
                        self._parts.discard(part)
                        impossible[i] = DestinationError(f"cannot make the link {os.fsdecode(full)!r}: {error}")
                        continue
                    with contextlib.suppress(OSError, OverflowError, NotImplementedError):
                        os.utime(part, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
                    self._rename(part, full, entry)
        folders = [entry for entry in self._entries.values() if entry.kind is EntryKind.FOLDER]
        for entry in sorted(folders, key=lambda entry: entry.path.count(b"/"), reverse=True):
            full = self._full(entry)
            with self._explained(full):
                self._check_way(entry.path + b"/")
                os.chmod(full, entry.mode)
                _set_time(full, entry)
        return impossible

    def abandon(self) -> None:
        """Remove the temporary files."""
        for part in self._parts:
            with contextlib.suppress(OSError):
                os.unlink(part)
        self._parts.clear()

    def _look(self, entry: Entry, full: bytes) -> os.stat_result | None:
        """Return what lies at an entry's place, None for nothing; insist that it may be used or replaced."""
        try:
            found = os.lstat(full)
        except FileNotFoundError:
            return None
        shown = repr(os.fsdecode(full))
        if entry.kind is EntryKind.FOLDER:
            if not stat.S_ISDIR(found.st_mode):
                raise DestinationError(f"{shown} is in the way of a folder; move it")
            if self._force:
                with contextlib.suppress(OSError):  # an earlier unpack may have left it read-only
                    os.chmod(full, stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
        elif stat.S_ISDIR(found.st_mode):
            raise DestinationError(f"{shown} exists already and is a folder; move it")
        elif not self._force:
            raise DestinationError(f"{shown} exists already; use --force to replace it")
        return found

    def _rename(self, part: bytes, full: bytes, entry: Entry) -> None:
        self._check_way(entry.path)
        if not self._force and os.path.lexists(full):
            raise DestinationError(f"{os.fsdecode(full)!r} appeared meanwhile; use --force to replace it")
        if self._force and os.name == "nt":
            with contextlib.suppress(OSError):  # Windows replaces no read-only file
                os.chmod(full, stat.S_IWRITE)
        os.replace(part, full)
        self._parts.discard(part)

    def _full(self, entry: Entry) -> bytes:
        return os.path.join(self._root, entry.path.replace(b"/", os.sep.encode()))

    def _new_part(self, entry: Entry) -> bytes:
        self._check_way(entry.path)
        name = f".gpushrink-{self._run}-{next(self._count)}.part".encode()
        part = os.path.join(os.path.dirname(self._full(entry)), name)
        self._parts.add(part)
        return part

    def _check_way(self, path: bytes) -> None:
        """Insist that no folder on the way to `path` is a symbolic link that somebody put there."""
        at = self._root
        for part in path.split(b"/")[:-1]:
            at = os.path.join(at, part)
            if os.path.islink(at):
                raise UnsafePathError(f"{os.fsdecode(at)!r} is a symbolic link; nothing is written through it")

    @contextlib.contextmanager
    def _explained(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that Windows cannot hold
            why = error.strerror if isinstance(error, OSError) else error
            raise DestinationError(f"cannot write {os.fsdecode(path)!r}: {why}") from error


def _set_time(path: bytes, entry: Entry) -> None:
    """Set the modification time; one that the file system cannot hold is no reason to lose a file."""
    with contextlib.suppress(OSError, OverflowError):
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def _is_one_case(folder: bytes) -> bool:
    """Tell whether names that differ in case only are one name in a folder."""
    name = b".gpushrink-case-" + secrets.token_hex(8).encode()
    probe = os.path.join(folder, name)
    try:
        os.mkdir(probe)
    except OSError:
        return False  # nothing can be written here anyway
    try:
        return os.path.lexists(os.path.join(folder, name.upper()))
    finally:
        os.rmdir(probe)
