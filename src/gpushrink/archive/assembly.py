"""Put files together from the pieces that data blocks deliver, in any order, in bounded memory.

A file of which less than `SPOOL_SIZE` came waits in memory and is written at once; a larger one, or any once the
memory budget is used up, goes to a spool file piece by piece and is read back for its hash. Large pieces wait where
they were decoded; then the block they lie in counts, and no less.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from gpushrink.errors import CorruptError

__all__ = ["MAX_EXTENTS", "MEMORY_BUDGET", "SPOOL_SIZE", "Assembly", "Lease", "Shelf", "anonymous_spool"]

SPOOL_SIZE = 32 << 20
MEMORY_BUDGET = 256 << 20
MAX_EXTENTS = 1 << 21
# What Python needs to remember a piece, beside its bytes: pieces of one byte are not free.
_PIECE_BYTES = 160
_STEP = 1 << 20
# Pieces from this size on are not copied: their file keeps the whole block they lie in.
_LEASED_BYTES = 1 << 16


class Shelf:
    """Count what unfinished files hold in memory: bytes, and places in spool files. Safe from many threads."""

    def __init__(self) -> None:
        self.held = 0
        self.extents = 0
        self._lock = threading.Lock()

    def hold(self, size: int, extents: int = 0) -> None:
        """Count more bytes and places, or fewer."""
        with self._lock:
            self.held += size
            self.extents += extents


class Lease:
    """Count a block's memory for as long as pieces of it are held, however few."""

    def __init__(self, shelf: Shelf, size: int) -> None:
        self._shelf, self._size = shelf, size
        self._pieces = 0
        self._lock = threading.Lock()

    @property
    def price(self) -> int:
        """Return how many bytes more are held if a piece of the block is."""
        return 0 if self._pieces else self._size

    def take(self) -> None:
        """Count a piece that is held."""
        with self._lock:
            self._pieces += 1
            if self._pieces == 1:
                self._shelf.hold(self._size)

    def drop(self) -> None:
        """Count a piece that is let go of."""
        with self._lock:
            self._pieces -= 1
            if not self._pieces:
                self._shelf.hold(-self._size)


def anonymous_spool() -> BinaryIO:
    """Open a spool file that has no name and is gone when closed."""
    return tempfile.TemporaryFile(prefix="gpushrink-")


class Assembly:
    """Collect the bytes of one file.

    Parameters
    ----------
    size
        The file's size in bytes.
    open_spool
        Opens a file for reading and writing, called at most once.
    keep
        False: hash pieces that arrive in order and forget them, for checking without writing.
    """

    def __init__(self, size: int, shelf: Shelf, open_spool: Callable[[], BinaryIO], *, keep: bool = True) -> None:
        self.size = size
        self._shelf = shelf
        self._open_spool = open_spool
        self._keep = keep
        self._pieces: dict[int, bytes | memoryview] = {}
        self._leases: list[Lease] = []
        self._leased = 0  # bytes of pieces that are not copied
        self._extents: list[tuple[int, int]] = []  # start and end of what went to the spool
        self._held = 0
        self._received = 0
        self._spool: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._hashed = 0

    @property
    def spool(self) -> BinaryIO | None:
        """Give the spool file, if the file went to one."""
        return self._spool

    def place(self, offset: int, data: memoryview, lease: Lease | None = None) -> None:
        """Take in the bytes that belong at `offset`.

        Parameters
        ----------
        lease
            Counts the block in whose memory `data` lies; without one the bytes are copied.

        Raises
        ------
        CorruptError
            If they reach past the file's end, or more bytes came than the file has.
        """
        self._received += len(data)
        if offset + len(data) > self.size or self._received > self.size:
            raise CorruptError("the archive gives a file more bytes than it has")
        if self._spool is None and not self._keep and offset == self._hashed:
            self._absorb(data)
            return
        if len(data) < _LEASED_BYTES or not self._keep:
            lease = None
        if self._spool is None and self._must_spool(len(data), len(data) if lease is None else lease.price):
            self._start_spool()
        if self._spool is not None:
            self._put(offset, data)
            return
        if offset in self._pieces:
            raise CorruptError("the archive gives the same bytes of a file twice")
        if lease is None:
            self._pieces[offset] = bytes(data)  # a copy: a view would keep the whole block alive
            self._hold(len(data) + _PIECE_BYTES)
        else:
            self._pieces[offset] = data
            self._leases.append(lease)
            self._leased += len(data)
            lease.take()
            self._hold(_PIECE_BYTES)

    def finish(self) -> bytes:
        """Insist that every byte came once and return the SHA-256.

        Raises
        ------
        CorruptError
            If bytes are missing or overlap.
        """
        if self._received != self.size:
            raise CorruptError(f"{self.size - self._received} of {self.size} bytes are missing")
        if self._spool is None:
            if self._keep:
                at, digest = 0, hashlib.sha256()
                for offset, piece in sorted(self._pieces.items()):
                    if offset != at:
                        raise CorruptError("the archive gives bytes of a file twice and leaves others out")
                    digest.update(piece)
                    at += len(piece)
                return digest.digest()
            if self._hashed != self.size:
                raise CorruptError("the archive gives bytes of a file twice and leaves others out")
            return self._hash.digest()
        self._spool.flush()
        at = self._hashed
        for start, end in sorted(self._extents):
            if start != at:
                raise CorruptError("the archive gives bytes of a file twice and leaves others out")
            at = end
        self._spool.seek(self._hashed)
        while block := self._spool.read(_STEP):
            self._hash.update(block)
        return self._hash.digest()

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Give the bytes held in memory, in order."""
        for _, piece in sorted(self._pieces.items()):
            yield piece

    def close(self) -> None:
        """Let go of everything."""
        self._let_go()
        self._shelf.hold(0, -len(self._extents))
        self._extents.clear()
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _hold(self, more: int) -> None:
        self._held += more
        self._shelf.hold(more)

    def _let_go(self) -> None:
        """Let go of the pieces."""
        self._hold(-self._held)
        self._pieces.clear()
        self._leased = 0
        for lease in self._leases:
            lease.drop()
        self._leases.clear()

    def _must_spool(self, more: int, price: int) -> bool:
        # By what is held, not by the file's size: the headers of a thousand large files come together, and no
        # system lets a thousand files be open.
        if self._keep and self._held + self._leased + more > SPOOL_SIZE:
            return True
        return self._shelf.held + price > MEMORY_BUDGET

    def _start_spool(self) -> None:
        self._spool = self._open_spool()
        for offset, piece in self._pieces.items():
            self._put(offset, piece)
        self._let_go()

    def _put(self, offset: int, data: bytes | memoryview) -> None:
        assert self._spool is not None
        self._spool.seek(offset)
        self._spool.write(data)
        if self._extents and self._extents[-1][1] == offset:
            self._extents[-1] = (self._extents[-1][0], offset + len(data))
            return
        if self._shelf.extents >= MAX_EXTENTS:
            raise CorruptError("the archive scatters the bytes of a file in more pieces than the limit")
        self._shelf.hold(0, 1)
        self._extents.append((offset, offset + len(data)))

    def _absorb(self, data: bytes | memoryview) -> None:
        """Hash bytes that continue what was hashed, and the waiting pieces that follow."""
        self._hash.update(data)
        self._hashed += len(data)
        while (piece := self._pieces.pop(self._hashed, None)) is not None:
            self._hold(-len(piece) - _PIECE_BYTES)
            self._hash.update(piece)
            self._hashed += len(piece)
