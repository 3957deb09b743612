"""Bring files back: put together from an archive's blocks, proven by their hash, then handed to a `Keeper`."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from gpushrink.archive.assembly import Assembly, Lease, Shelf
from gpushrink.archive.restore import Keeper
from gpushrink.errors import CorruptError, DestinationError, GpushrinkError
from gpushrink.model import Entry, EntryKind, Target

__all__ = ["Proof", "Restorer"]


@dataclass(frozen=True, slots=True)
class Proof:
    """Compare one file with its hash, and keep it if that holds."""

    file_id: int
    entry: Entry
    digest: bytes
    assembly: Assembly
    keeper: Keeper

    def run(self) -> CorruptError | None:
        """Return why the file cannot be kept; None if it was."""
        try:
            if self.assembly.finish() != self.digest:
                raise CorruptError("its bytes do not match its SHA-256")
        except CorruptError as error:
            return error
        except OSError as error:  # what was written to a spool is written in truth here
            raise _cannot_write(self.entry, error) from error
        self.keeper.commit(self.entry, self.assembly)
        self.assembly.close()
        return None


def _cannot_write(entry: Entry, error: OSError) -> DestinationError:
    return DestinationError(f"cannot write {os.fsdecode(entry.path)!r}: {error.strerror or error}")


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
        self._settled: set[int] = set()  # those whose proof was begun, too
        self.entries: dict[int, Entry] = {}
        self.failures: dict[int, GpushrinkError] = {}
        self.proven: set[int] = set()
        self.bytes_proven = 0

    def prepare(self, entries: dict[int, Entry]) -> None:
        """Take in the whole tree; must come before the first data."""
        refused = self._keeper.judge(entries)
        self.entries = {i: e for i, e in entries.items() if self._wanted is None or i in self._wanted}
        self.failures = {i: error for i, error in refused.items() if i in self.entries}
        kept = {i: e for i, e in self.entries.items() if i not in self.failures}
        self.failures.update(self._keeper.prepare(kept))

    def place(self, targets: Iterable[Target], decoded: memoryview) -> None:
        """Hand the decoded bytes of a data block to the files they belong to."""
        lease = Lease(self._shelf, len(decoded))
        for target in targets:
            entry = self.entries.get(target.file_id)
            if entry is None or target.file_id in self.failures or target.file_id in self._settled:
                continue
            assembly = self._open.get(target.file_id)
            if assembly is None:
                assembly = self._start(target.file_id, entry)
            try:
                piece = decoded[target.source_offset : target.source_offset + target.length]
                assembly.place(target.file_offset, piece, lease)
            except CorruptError as error:
                self.fail(target.file_id, error)
            except OSError as error:
                raise _cannot_write(entry, error) from error

    def prove(self, file_ids: Iterable[int], digest: bytes) -> None:
        """Compare files with their hash; those that hold are kept, the others are failures."""
        for proof in self.begin_proofs(file_ids, digest):
            self.end_proof(proof, proof.run())

    def begin_proofs(self, file_ids: Iterable[int], digest: bytes) -> Iterator[Proof]:
        """Give the proofs of files whose bytes are all there, to be run in any thread; then comes `end_proof`."""
        for file_id in file_ids:
            entry = self.entries.get(file_id)
            if entry is None or file_id in self.failures or file_id in self._settled:
                continue
            if entry.kind is not EntryKind.FILE:
                self.fail(file_id, CorruptError("a folder or link has a hash"))
                continue
            assembly = self._open.get(file_id) or self._start(file_id, entry)
            self._settled.add(file_id)
            yield Proof(file_id, entry, digest, assembly, self._keeper)

    def end_proof(self, proof: Proof, error: CorruptError | None) -> None:
        """Note what a proof found."""
        if error is not None:
            self.fail(proof.file_id, error)
            return
        del self._open[proof.file_id]
        self.proven.add(proof.file_id)
        self.bytes_proven += proof.entry.size

    def fail(self, file_id: int, error: GpushrinkError) -> None:
        """Give a file up."""
        error.__traceback__ = error.__context__ = None  # they would keep whole blocks alive
        self.failures[file_id] = error
        assembly = self._open.pop(file_id, None)
        if assembly is not None:
            assembly.close()

    def finish(self) -> None:
        """Finish what is proven and name, as failures, the files that never came whole."""
        for file_id, entry in self.entries.items():
            if entry.kind is EntryKind.FILE and file_id not in self.proven and file_id not in self.failures:
                self.fail(file_id, CorruptError("its data or its hash is missing or damaged"))
        self.failures.update(self._keeper.finish())

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
