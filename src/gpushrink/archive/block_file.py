"""Read blocks of an archive on disk in any order, from several threads at once."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, cast

from gpushrink.archive import reader
from gpushrink.archive.blocks import DataBlock
from gpushrink.archive.index import BlockRecord
from gpushrink.archive.layout import BlockType
from gpushrink.archive.reader import Block
from gpushrink.errors import InputError, UsageError

__all__ = ["BlockFile"]


class BlockFile:
    """Hold an archive open, with its catalogue.

    Attributes
    ----------
    catalogue
        The tree, the hashes and where the blocks lie.

    Raises
    ------
    InputError
        If the file cannot be opened.
    ArchiveError
        If it is no archive, or its index or tree is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise InputError(f"cannot read archive {str(path)!r}: {error.strerror}") from None
        self._lock = threading.Lock()
        try:
            self.catalogue = reader.read_catalogue(self._stream())
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def concerning(self, ids: Collection[int]) -> list[BlockRecord]:
        """List the DATA blocks that hold bytes of any of these files, in order."""
        return [one for one in self.catalogue.records if one.type == BlockType.DATA and one.concerns(ids)]

    def peek(self, record: BlockRecord) -> DataBlock:
        """Read where a block's bytes belong; see `gpushrink.archive.reader.peek_data`."""
        return reader.peek_data(self._stream(), record)

    def read(self, record: BlockRecord) -> Block:
        """Read a block whose checksum holds; see `gpushrink.archive.reader.read_block`."""
        return reader.read_block(self._stream(), record)

    def _stream(self) -> BinaryIO:
        if self._file.closed:
            raise UsageError(f"the archive {str(self.path)!r} is closed")
        return cast(BinaryIO, _View(self._file, self._lock))


class _View(io.RawIOBase):
    """Read the file from a position of its own."""

    def __init__(self, file: io.FileIO, lock: threading.Lock) -> None:
        self._file = file
        self._lock = lock
        self._at = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, os.fstat(self._file.fileno()).st_size)[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        if hasattr(os, "pread"):
            found = os.pread(self._file.fileno(), size, self._at)
        else:  # Windows
            with self._lock:
                self._file.seek(self._at)
                found = self._file.read(size) or b""
        self._at += len(found)
        return found
