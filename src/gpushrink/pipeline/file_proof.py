"""Put whole files of an open archive together again and prove them by their SHA-256."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from gpushrink.archive.assembly import Assembly
from gpushrink.archive.block_file import BlockFile
from gpushrink.archive.blocks import DataBlock
from gpushrink.archive.restore import NullKeeper
from gpushrink.archive.restorer import Restorer
from gpushrink.errors import CorruptError, GpushrinkError
from gpushrink.model import Entry

__all__ = ["FileProof"]


class FileProof:
    """Take decoded blocks in any order and prove the files they hold.

    Parameters
    ----------
    ids
        The files; all blocks that concern them must come.
    keep
        Hold the contents, for `contents`.
    """

    def __init__(self, file: BlockFile, ids: Collection[int], *, keep: bool = False) -> None:
        self._catalogue = file.catalogue
        self._ids = ids
        self._keeper = _MemoryKeeper(keep)
        self._restorer = Restorer(self._keeper, wanted=set(ids))
        self._restorer.prepare(file.catalogue.entries)

    def take(self, data: DataBlock, content: bytes | memoryview) -> None:
        """Take the decoded bytes of a block."""
        self._restorer.place(data.targets(), memoryview(content))

    def finish(self) -> dict[bytes, bytes]:
        """Compare every file with its hash; return the contents by name, if they were kept.

        Raises
        ------
        CorruptError
            If a file cannot be proven; the message names it.
        """
        try:
            for file_id in self._ids:
                if file_id in self._catalogue.digests:
                    self._restorer.prove((file_id,), self._catalogue.digests[file_id])
            self._restorer.finish()
            for file_id, error in self._restorer.failures.items():
                name = os.fsdecode(self._catalogue.entries[file_id].path)
                raise CorruptError(f"{name!r} cannot be proven: {error}")
        finally:
            self._restorer.abandon()
        return self._keeper.contents


class _MemoryKeeper(NullKeeper):
    """Hold proven files, or only prove them. Nothing is written, so no name is refused."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.contents: dict[bytes, bytes] = {}

    def judge(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        return {}

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        if not self.keep:
            return
        if assembly.spool is None:
            self.contents[entry.path] = b"".join(assembly.pieces())
        else:
            assembly.spool.seek(0)
            self.contents[entry.path] = assembly.spool.read()
