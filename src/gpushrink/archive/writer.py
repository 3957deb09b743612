"""Write an archive front to back, without ever seeking."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

from gpushrink.archive import blocks, layout
from gpushrink.archive.index import BlockRecord, pack_index, runs_of
from gpushrink.archive.layout import BlockType
from gpushrink.codec.buffers import Buffer, Parts, size_of
from gpushrink.model import BlockCodec, Entry, Role

__all__ = ["ArchiveWriter", "ByteSink"]


class ByteSink(Protocol):
    """Take bytes in order: a file, a pipe, or something that counts or hashes them."""

    def write(self, data: Buffer, /) -> object:
        """Take all of `data`."""


class ArchiveWriter:
    """Write the blocks of one archive and keep the index that ends it.

    The order of calls is that of docs/format.md#block: `begin`, `data` and `hashes` as they come, `finish`.
    """

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._records: list[BlockRecord] = []
        self.position = 0

    def begin(self, entries: Sequence[Entry]) -> None:
        """Write the preamble, INFO and TREE; the ids are the positions in `entries`, which are in order of path."""
        self._write(layout.pack_preamble())
        self._block(BlockType.INFO, blocks.pack_info(len(entries), sum(entry.size for entry in entries)))
        for first in range(0, len(entries), blocks.TREE_ENTRIES):
            part = entries[first : first + blocks.TREE_ENTRIES]
            self._block(BlockType.TREE, blocks.pack_tree(first, part))

    def data(
        self, parts: Parts, *, crc: int, codec: BlockCodec, role: Role, decoded: int, file_ids: Sequence[int]
    ) -> BlockRecord:
        """Write a DATA block; return its index row.

        Parameters
        ----------
        parts, crc
            What `blocks.pack_data_head` made and the coded bytes, and the CRC-32 of both: threads have time for it.
        """
        return self._put(BlockType.DATA, parts, crc, codec=codec, role=role, decoded=decoded, file_ids=file_ids)

    def hashes(self, records: Sequence[tuple[Sequence[int], bytes]]) -> None:
        """Write the SHA-256 of files all of whose bytes are written."""
        ids = [i for some, _ in records for i in some]
        self._block(BlockType.HASH, blocks.pack_hashes(records), file_ids=ids)

    def finish(self) -> int:
        """Write the index and the trailer; return the archive's size in bytes."""
        at = self.position
        payload = pack_index(self._records)
        self._write(layout.pack_block_head(BlockType.INDEX, payload))
        self._write(payload)
        self._write(layout.pack_trailer(at, self.position + layout.TRAILER_SIZE))
        return self.position

    def _block(self, kind: BlockType, payload: bytes, *, file_ids: Sequence[int] = ()) -> None:
        self._put(kind, (payload,), zlib.crc32(payload), file_ids=file_ids)

    def _put(
        self,
        kind: BlockType,
        parts: Parts,
        crc: int,
        *,
        codec: int = 0,
        role: int = 0,
        decoded: int = 0,
        file_ids: Sequence[int] = (),
    ) -> BlockRecord:
        length = size_of(parts)
        record = BlockRecord(kind, codec, role, self.position, length, decoded, runs_of(file_ids))
        self._records.append(record)
        self._write(layout.seal_block_head(kind, length, crc, codec=codec, role=role))
        for part in parts:
            self._write(part)
        return record

    def _write(self, data: Buffer) -> None:
        self._sink.write(data)
        self.position += len(data)
