"""Read an archive: in sequence from any stream, surviving damage, or by its index from a file."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from gpushrink.archive import blocks, layout
from gpushrink.archive.index import BlockRecord, parse_index
from gpushrink.archive.layout import BlockHead, BlockType
from gpushrink.errors import ArchiveError, CorruptError, InputError, NewerVersionError, TruncatedError
from gpushrink.model import Entry

__all__ = ["Block", "Catalogue", "Damage", "peek_data", "read_block", "read_blocks", "read_catalogue"]

_READ_STEP = 1 << 24
_PEEK = 1 << 12


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one block whose checksum held."""

    offset: int
    head: BlockHead
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Say what is wrong where; reading goes on after it."""

    offset: int
    error: ArchiveError


@dataclass(slots=True)
class Catalogue:
    """Hold what an archive says of itself: its tree, its hashes and where its blocks lie."""

    count: int = 0
    total: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)
    records: list[BlockRecord] = field(default_factory=list)
    archive_length: int = 0
    next_id: int = 0
    _last_path: bytes = b""
    _tree_bytes: int = 0

    def add(self, head: BlockHead, payload: memoryview) -> None:
        """Take in an INFO, TREE or HASH block.

        Raises
        ------
        CorruptError
            If its content contradicts itself or what came before.
        """
        if head.type == BlockType.INFO:
            if self.count or self.entries:
                raise CorruptError("an INFO block stands where none belongs")
            self.count, self.total = blocks.parse_info(payload)
        elif head.type == BlockType.TREE:
            first, entries = blocks.parse_tree(payload)
            if first < self.next_id or (self.count and first + len(entries) > self.count):
                raise CorruptError("a TREE block numbers entries that the archive has not, or has already")
            if entries and entries[0].path <= self._last_path:
                raise CorruptError("a TREE block is out of order")
            self._tree_bytes += sum(len(entry.path) + len(entry.link) for entry in entries)
            if self._tree_bytes > layout.MAX_TREE_BYTES:
                raise CorruptError("the paths of the tree are longer than the limit")
            self.entries.update(enumerate(entries, first))
            self.next_id = first + len(entries)
            self._last_path = entries[-1].path if entries else self._last_path
        elif head.type == BlockType.HASH:
            for ids, digest in blocks.parse_hashes(payload, self.count):
                if any(self.digests.setdefault(i, digest) != digest for i in ids):
                    raise CorruptError("a file has two hashes")

    def insist_whole(self) -> None:
        """Insist that the tree has all the entries that INFO promised.

        Raises
        ------
        CorruptError
            If it has not.
        """
        if len(self.entries) != self.count:
            raise CorruptError(f"the tree has {len(self.entries)} of its {self.count} entries")


def read_some(stream: BinaryIO, count: int) -> bytes:
    """Read at most `count` bytes.

    Raises
    ------
    InputError
        If the system cannot.
    """
    try:
        return stream.read(count)
    except OSError as error:
        raise InputError(f"the archive cannot be read on: {error.strerror or error}") from None


class _Source:
    """Read exact counts from a stream that may deliver less at a time, knowing the position."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""
        self._at = 0  # where in `_ahead` the position lies
        self.position = 0

    def read(self, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end of the stream."""
        parts = [self._ahead[self._at : self._at + count]]
        got = len(parts[0])
        self._at += got
        while got < count:
            # In steps, so that a length which lies cannot make us allocate it.
            part = read_some(self._stream, min(_READ_STEP, count - got))
            if not part:
                break
            parts.append(part)
            got += len(part)
        self.position += got
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def unread(self, data: bytes) -> None:
        """Take back bytes that were just read."""
        if self._ahead[max(0, self._at - len(data)) : self._at] == data:
            self._at -= len(data)
        else:
            self._ahead, self._at = data + self._ahead[self._at :], 0
        self.position -= len(data)

    def seek(self, position: int) -> None:
        """Move to a place of a stream that can seek and that the archive begins."""
        self._stream.seek(position)
        self._ahead, self._at, self.position = b"", 0, position

    def find(self, mark: bytes, size: int) -> bytes:
        """Move on, by one byte at least, to the next place where `mark` stands; return `size` bytes from there.

        Each byte is looked at once, however often this is called. Returns nothing at the end of the stream.
        """
        start = self._at + 1
        while True:
            found = self._ahead.find(mark, start)
            if 0 <= found <= len(self._ahead) - size:
                self.position += found - self._at
                self._at = found
                return self._ahead[found : found + size]
            keep = found if found >= 0 else max(start, len(self._ahead) - len(mark) + 1)
            more = read_some(self._stream, 1 << 16)
            if not more:
                return b""
            self.position += keep - self._at
            self._ahead, self._at, start = self._ahead[keep:] + more, 0, 0


def read_blocks(stream: BinaryIO, *, progress: Callable[[int], None] | None = None) -> Iterator[Block | Damage]:
    """Yield the blocks of an archive in order; what is damaged is reported and passed over.

    Parameters
    ----------
    progress
        Called with the position in the archive after each block.

    Raises
    ------
    NotAnArchiveError, NewerVersionError
        If the first bytes say so; NewerVersionError also for a reserved value in a block that is whole.

    Notes
    -----
    The last item is a `Damage` with TruncatedError if the end mark is missing. Where the head of a block is damaged and
    the stream can seek, the index says where the next one begins. Without it that is where something looks like a
    block, which may be one of an archive that lies stored in this one.
    """
    source = _Source(stream)
    places = _Places(stream)
    try:
        layout.parse_preamble(source.read(layout.PREAMBLE_SIZE))
    except CorruptError as error:
        yield Damage(0, error)
    except TruncatedError as error:
        yield Damage(0, error)
        return
    while True:
        at = source.position
        raw = source.read(layout.BLOCK_HEAD.size)
        if len(raw) < layout.BLOCK_HEAD.size:
            yield Damage(at, TruncatedError(f"the archive ends at byte {source.position}, before its end mark"))
            return
        try:
            head = layout.parse_block_head(raw)
        except CorruptError as error:
            yield Damage(at, CorruptError(f"{error} (byte {at})"))
            source.unread(raw)
            if not _go_on(source, places):
                return
            continue
        payload = source.read(head.length)
        if len(payload) < head.length:
            yield Damage(at, TruncatedError(f"the archive ends at byte {source.position}, inside a block"))
            return
        if progress:
            progress(source.position)
        if zlib.crc32(payload) != head.crc:
            yield Damage(at, CorruptError(f"the {BlockType(head.type).name} block at byte {at} is damaged"))
        else:
            yield Block(at, head, memoryview(payload))
        if head.type == BlockType.INDEX:
            yield from _end(source, at)
            return


def _end(source: _Source, index_offset: int) -> Iterator[Damage]:
    """Check the trailer and that nothing follows."""
    at = source.position
    raw = source.read(layout.TRAILER_SIZE)
    if len(raw) < layout.TRAILER_SIZE:
        yield Damage(at, TruncatedError(f"the archive ends at byte {source.position}, inside its end mark"))
        return
    try:
        trailer = layout.parse_trailer(raw)
        if (trailer.index_offset, trailer.archive_length) != (index_offset, source.position):
            raise CorruptError("the end mark's offsets do not match the archive; bytes are missing or were added")
    except CorruptError as error:
        yield Damage(at, error)
        return
    if source.read(1):
        yield Damage(at, CorruptError("bytes follow the archive's end mark"))


class _Places:
    """Know from the index where blocks begin, if the stream begins here, can seek, and its index is whole."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._can_seek = stream.seekable() and stream.tell() == 0
        self._offsets: list[int] | None = None

    def after(self, at: int) -> int | None:
        """Return where the first block after `at` begins; None if that is not known."""
        if self._offsets is None:
            self._offsets = self._read() if self._can_seek else []
        place = bisect_right(self._offsets, at)
        return self._offsets[place] if place < len(self._offsets) else None

    def _read(self) -> list[int]:
        back = self._stream.tell()
        try:
            records, index_offset, _ = _read_index(self._stream)
        except ArchiveError:
            return []
        finally:
            self._stream.seek(back)
        return [*(record.offset for record in records), index_offset]


def _go_on(source: _Source, places: _Places) -> bool:
    """Move on to the next block; False if there is none."""
    if (place := places.after(source.position)) is None:
        return _find_block(source)
    source.seek(place)
    return True


def _find_block(source: _Source) -> bool:
    """Move on to the next place where a block header holds; False at the end of the stream."""
    while head := source.find(layout.BLOCK_MAGIC, layout.BLOCK_HEAD.size):
        try:
            layout.parse_block_head(head)
        except NewerVersionError:
            return True  # whole, and the caller will refuse it by name
        except CorruptError:
            continue
        return True
    return False


def read_block(stream: BinaryIO, record: BlockRecord) -> Block:
    """Read one block of a seekable archive by its index row.

    Raises
    ------
    CorruptError
        If the block is damaged or is not the one that the index names.
    """
    stream.seek(record.offset)
    raw = read_some(stream, layout.BLOCK_HEAD.size)
    if len(raw) < layout.BLOCK_HEAD.size:
        raise CorruptError(f"the index names a block at byte {record.offset}, after the archive's end")
    head = layout.parse_block_head(raw)
    if (head.type, head.codec, head.role, head.length) != (record.type, record.codec, record.role, record.length):
        raise CorruptError(f"the block at byte {record.offset} is not the one the index names")
    payload = _Source(stream).read(head.length)
    if len(payload) < head.length or zlib.crc32(payload) != head.crc:
        raise CorruptError(f"the {BlockType(head.type).name} block at byte {record.offset} is damaged")
    return Block(record.offset, head, memoryview(payload))


def peek_data(stream: BinaryIO, record: BlockRecord) -> blocks.DataBlock:
    """Read what a DATA block says of itself before its coded bytes; `coded` of the result is empty.

    The checksum covers the whole block, so nothing is proven yet: good for telling whether a block is worth reading.

    Raises
    ------
    CorruptError
        If that cannot be read.
    """
    stream.seek(record.offset + layout.BLOCK_HEAD.size)
    source = _Source(stream)
    start = source.read(min(record.length, _PEEK))
    try:
        size = blocks.measure_targets(memoryview(start))
        if size > record.length:
            raise CorruptError("its targets do not fit it")
        return blocks.parse_data(memoryview(start[:size] + source.read(max(0, size - len(start)))))
    except CorruptError as error:
        raise CorruptError(f"the DATA block at byte {record.offset} is damaged: {error}") from None


def read_catalogue(stream: BinaryIO) -> Catalogue:
    """Read what an archive says of itself: by the index if the stream can seek, else in sequence.

    Raises
    ------
    ArchiveError
        If the archive is damaged where this reads it.
    """
    return _catalogue_by_index(stream) if stream.seekable() else _catalogue_in_sequence(stream)


def _catalogue_by_index(stream: BinaryIO) -> Catalogue:
    stream.seek(0)
    layout.parse_preamble(read_some(stream, layout.PREAMBLE_SIZE))
    records, _, length = _read_index(stream)
    catalogue = Catalogue(records=records, archive_length=length)
    for record in records:
        if record.type in (BlockType.INFO, BlockType.TREE, BlockType.HASH):
            block = read_block(stream, record)
            catalogue.add(block.head, block.payload)
    catalogue.insist_whole()
    return catalogue


def _read_index(stream: BinaryIO) -> tuple[list[BlockRecord], int, int]:
    """Return the index's rows, where it lies, and the archive's length, going by the end mark."""
    length = stream.seek(0, 2)
    if length < layout.PREAMBLE_SIZE + layout.TRAILER_SIZE:
        raise TruncatedError(f"the archive ends at byte {length}, before its end mark")
    stream.seek(length - layout.TRAILER_SIZE)
    raw = read_some(stream, layout.TRAILER_SIZE)
    if not raw.endswith(layout.TRAILER_MAGIC):
        raise TruncatedError(
            f"the archive ends at byte {length} without its end mark; transfer it again, or unpack what it holds"
        )
    trailer = layout.parse_trailer(raw)
    if trailer.archive_length != length or trailer.index_offset > length - layout.TRAILER_SIZE:
        raise CorruptError("the end mark's offsets do not match the archive; bytes are missing or were added")
    stream.seek(trailer.index_offset)
    raw = read_some(stream, layout.BLOCK_HEAD.size)
    if len(raw) < layout.BLOCK_HEAD.size:
        raise CorruptError("the end mark's offsets do not match the archive")
    head = layout.parse_block_head(raw)
    if trailer.index_offset + layout.BLOCK_HEAD.size + head.length + layout.TRAILER_SIZE != length:
        raise CorruptError("the INDEX block does not fit before the end mark")
    index = read_block(stream, BlockRecord(BlockType.INDEX, 0, 0, trailer.index_offset, head.length))
    return (
        parse_index(index.payload, entries=layout.MAX_ENTRIES, end=trailer.index_offset),
        trailer.index_offset,
        length,
    )


def _catalogue_in_sequence(stream: BinaryIO) -> Catalogue:
    catalogue = Catalogue()
    for item in read_blocks(stream):
        if isinstance(item, Damage):
            raise item.error
        catalogue.add(item.head, item.payload)
        if item.head.type == BlockType.INDEX:
            catalogue.records = parse_index(item.payload, entries=layout.MAX_ENTRIES, end=item.offset)
            catalogue.archive_length = item.offset + layout.BLOCK_HEAD.size + len(item.payload) + layout.TRAILER_SIZE
    catalogue.insist_whole()
    return catalogue
