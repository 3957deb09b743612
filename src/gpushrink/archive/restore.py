"""Bring files back: each under a temporary name, proven by its hash, then renamed.

`Restorer` follows an archive's blocks and hands proven files to a `Keeper`: `FolderKeeper` writes them below
a destination, `NullKeeper` only proves them. Paths are bytes throughout: stored names have no certain encoding.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from gpushrink.archive.assembly import Assembly, Shelf, anonymous_spool
from gpushrink.archive.paths import check_tree
from gpushrink.errors import CorruptError, DestinationError, GpushrinkError, UnsafePathError
from gpushrink.model import Entry, EntryKind, Target

__all__ = ["FolderKeeper", "Keeper", "NullKeeper", "Restorer"]


class Keeper(Protocol):
    """Say what becomes of files that are put together again."""

    keep: bool

    def prepare(self, entries: dict[int, Entry], refused: dict[int, Exception]) -> None:
        """Look at the tree, before any file comes."""

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Open a place for a file that is too large for memory."""

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Take a proven file."""

    def finish(self) -> None:
        """Do what is left once all files are there."""

    def abandon(self) -> None:
        """Leave nothing unfinished behind."""


class NullKeeper:
    """Prove files and keep none."""

    keep = False

    def prepare(self, entries: dict[int, Entry], refused: dict[int, Exception]) -> None:
        """Accept any tree."""

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Open a nameless temporary file."""
        return anonymous_spool()

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Forget the file."""

    def finish(self) -> None:
        """Do nothing."""

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
        self._counter = 0

    def prepare(self, entries: dict[int, Entry], refused: dict[int, Exception]) -> None:
        """Make the folders and make sure that nothing is in the way.

        Raises
        ------
        DestinationError
            If an entry exists and `force` is not given, or a folder cannot be made.
        """
        self._entries = {i: entry for i, entry in entries.items() if i not in refused}
        try:
            os.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise DestinationError(f"cannot make {os.fsdecode(self._root)!r}: {error.strerror}") from None
        for entry in sorted(self._entries.values(), key=lambda entry: entry.path):
            full = self._full(entry)
            self._check_way(entry.path)
            try:
                found = os.lstat(full)
            except FileNotFoundError:
                found = None
            except OSError as error:
                raise DestinationError(f"cannot look at {os.fsdecode(full)!r}: {error.strerror}") from None
            if entry.kind is EntryKind.FOLDER:
                if found is None:
                    with self._explained(full):
                        os.mkdir(full, 0o700)  # its own mode comes last, it may forbid writing
                elif not stat.S_ISDIR(found.st_mode):
                    raise DestinationError(f"{os.fsdecode(full)!r} is in the way of a folder; move it")
            elif found is not None and (stat.S_ISDIR(found.st_mode) or not self._force):
                hint = "a folder is in its way" if stat.S_ISDIR(found.st_mode) else "use --force to replace it"
                raise DestinationError(f"{os.fsdecode(full)!r} exists already; {hint}")

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Open a temporary file beside the place where the file will lie."""
        part = self._new_part(entry)
        self._spools[id(entry)] = part
        with self._explained(part):
            stream: BinaryIO = open(part, "x+b")  # closed by the assembly
        return stream

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Write a proven file under a temporary name, set its mode and time, and rename it."""
        full = self._full(entry)
        part = self._spools.pop(id(entry), None)
        with self._explained(full):
            if part is None:
                part = self._new_part(entry)
                with open(part, "xb") as stream:
                    for piece in assembly.pieces():
                        stream.write(piece)
            assembly.close()
            # Set-id bits are not taken from an archive: who may run as whom is the receiver's decision.
            os.chmod(part, entry.mode & ~(stat.S_ISUID | stat.S_ISGID))
            os.utime(part, ns=(entry.mtime_ns, entry.mtime_ns))
            self._check_way(entry.path)
            os.replace(part, full)
            self._parts.discard(part)

    def finish(self) -> None:
        """Make the links, then give the folders their modes and times, deepest first."""
        for entry in self._entries.values():
            if entry.kind is EntryKind.LINK:
                full = self._full(entry)
                with self._explained(full):
                    part = self._new_part(entry)
                    os.symlink(entry.link, part)
                    with contextlib.suppress(OSError, NotImplementedError):
                        os.utime(part, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
                    os.replace(part, full)
                    self._parts.discard(part)
        folders = [entry for entry in self._entries.values() if entry.kind is EntryKind.FOLDER]
        for entry in sorted(folders, key=lambda entry: entry.path.count(b"/"), reverse=True):
            full = self._full(entry)
            with self._explained(full):
                os.chmod(full, entry.mode)
                os.utime(full, ns=(entry.mtime_ns, entry.mtime_ns))

    def abandon(self) -> None:
        """Remove the temporary files."""
        for part in self._parts:
            with contextlib.suppress(OSError):
                os.unlink(part)
        self._parts.clear()

    def _full(self, entry: Entry) -> bytes:
        return os.path.join(self._root, entry.path.replace(b"/", os.sep.encode()))

    def _new_part(self, entry: Entry) -> bytes:
        self._counter += 1
        name = f".gpushrink-{os.getpid()}-{self._counter}.part".encode()
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
            raise DestinationError(f"cannot write {path!r}: {why}") from error


class Restorer:
    """Follow the blocks of an archive and bring back what they prove.

    Parameters
    ----------
    wanted
        The ids to bring back; None for all.
    """

    def __init__(self, keeper: Keeper, *, wanted: Container[int] | None = None) -> None:
        self._keeper = keeper
        self._wanted = wanted
        self._shelf = Shelf()
        self._open: dict[int, Assembly] = {}
        self._refused: dict[int, Exception] = {}
        self.entries: dict[int, Entry] = {}
        self.failures: dict[int, GpushrinkError] = {}
        self.proven: set[int] = set()
        self.bytes_proven = 0

    def prepare(self, entries: dict[int, Entry]) -> None:
        """Take in the whole tree; must come before the first data."""
        self._refused = check_tree(entries)
        self.entries = {i: e for i, e in entries.items() if self._wanted is None or i in self._wanted}
        for i, error in self._refused.items():
            if i in self.entries:
                self.failures[i] = error if isinstance(error, GpushrinkError) else CorruptError(str(error))
        self._keeper.prepare(self.entries, self._refused)

    def place(self, targets: Iterable[Target], decoded: memoryview) -> None:
        """Hand the decoded bytes of a data block to the files they belong to."""
        for target in targets:
            entry = self.entries.get(target.file_id)
            if entry is None or target.file_id in self.failures or target.file_id in self.proven:
                continue
            assembly = self._open.get(target.file_id)
            if assembly is None:
                assembly = self._start(target.file_id, entry)
            try:
                piece = decoded[target.source_offset : target.source_offset + target.length]
                assembly.place(target.file_offset, piece)
            except CorruptError as error:
                self.fail(target.file_id, error)
            except OSError as error:
                raise DestinationError(
                    f"cannot write {os.fsdecode(entry.path)!r}: {error.strerror or error}"
                ) from error

    def prove(self, file_ids: Iterable[int], digest: bytes) -> None:
        """Compare files with their hash; those that hold are kept, the others are failures."""
        for file_id in file_ids:
            entry = self.entries.get(file_id)
            if entry is None or file_id in self.failures or file_id in self.proven:
                continue
            if entry.kind is not EntryKind.FILE:
                self.fail(file_id, CorruptError("a folder or link has a hash"))
                continue
            assembly = self._open.pop(file_id, None) or self._start(file_id, entry)
            self._open[file_id] = assembly
            try:
                if assembly.finish() != digest:
                    raise CorruptError("its bytes do not match its SHA-256")
            except CorruptError as error:
                self.fail(file_id, error)
                continue
            self._keeper.commit(entry, assembly)
            assembly.close()
            del self._open[file_id]
            self.proven.add(file_id)
            self.bytes_proven += entry.size

    def fail(self, file_id: int, error: GpushrinkError) -> None:
        """Give a file up."""
        self.failures[file_id] = error
        assembly = self._open.pop(file_id, None)
        if assembly is not None:
            assembly.close()

    def finish(self) -> None:
        """Finish what is proven and name, as failures, the files that never came whole."""
        for file_id, entry in self.entries.items():
            if entry.kind is EntryKind.FILE and file_id not in self.proven and file_id not in self.failures:
                self.fail(file_id, CorruptError("its data or its hash is missing or damaged"))
        self._keeper.finish()

    def abandon(self) -> None:
        """Let go of everything unfinished."""
        for assembly in self._open.values():
            assembly.close()
        self._open.clear()
        self._keeper.abandon()

    def _start(self, file_id: int, entry: Entry) -> Assembly:
        assembly = Assembly(entry.size, self._shelf, lambda: self._keeper.open_spool(entry), keep=self._keeper.keep)
        self._open[file_id] = assembly
        return assembly
