"""The payloads of the blocks: values to bytes and back, each with the checks its section asks for.

Source: docs/format.md, one section a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpushrink.archive.layout import (
    MAX_DECODED,
    MAX_ENTRIES,
    MAX_FILE,
    MAX_PATH,
    MAX_TARGETS,
    BlockType,
    unwrap_packed,
    wrap_packed,
)
from gpushrink.codec.varint import Cursor, pack_column, pack_varint
from gpushrink.errors import NewerVersionError
from gpushrink.model import BlockCodec, Entry, EntryKind, Role, Target

__all__ = [
    "TREE_ENTRIES",
    "BlockRecord",
    "DataBlock",
    "check_codec_and_role",
    "pack_data",
    "pack_hashes",
    "pack_index",
    "pack_info",
    "pack_tree",
    "parse_data",
    "parse_hashes",
    "parse_index",
    "parse_info",
    "parse_tree",
]

TREE_ENTRIES = 4096
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """Say where a block lies and what it concerns; one row of the index.

    Parameters
    ----------
    offset, length
        Of the block's header in the archive; of its payload.
    decoded
        Decoded size of a DATA block, else 0.
    file_ids
        The files a DATA or HASH block concerns, ascending.
    """

    type: BlockType
    codec: int
    role: int
    offset: int
    length: int
    decoded: int = 0
    file_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DataBlock:
    """Hold a DATA payload taken apart; `coded` is a view of it."""

    decoded: int
    targets: tuple[Target, ...]
    coded: memoryview


def pack_info(entries: int, total: int) -> bytes:
    """Return an INFO payload."""
    return pack_varint(entries) + pack_varint(total)


def parse_info(payload: bytes | memoryview) -> tuple[int, int]:
    """Return the number of entries and the sum of the file sizes."""
    cursor = Cursor(payload, "the INFO block")
    found = cursor.varint(MAX_ENTRIES), cursor.varint()
    cursor.end()
    return found


def pack_tree(first: int, entries: Sequence[Entry]) -> bytes:
    """Return a TREE payload for entries with ids from `first` on, in order of their paths."""
    paths, last = [], b""
    for entry in entries:
        shared = _common_prefix(last, entry.path)
        rest = entry.path[shared:]
        paths.append(pack_varint(shared) + pack_varint(len(rest)) + rest)
        last = entry.path
    body = b"".join(
        (
            bytes(entry.kind for entry in entries),
            pack_column(entry.mode for entry in entries),
            pack_column(entry.mtime_ns for entry in entries),
            pack_column(entry.size for entry in entries),
            *paths,
            *(pack_varint(len(entry.link)) + entry.link for entry in entries if entry.kind is EntryKind.LINK),
        )
    )
    return pack_varint(first) + pack_varint(len(entries)) + wrap_packed(body)


def parse_tree(payload: bytes | memoryview) -> tuple[int, list[Entry]]:
    """Return the first id and the entries; paths are bounded but not yet judged for safety."""
    what = "a TREE block"
    outer = Cursor(payload, what)
    first, count = outer.varint(MAX_ENTRIES), outer.varint(TREE_ENTRIES)
    cursor = unwrap_packed(outer, what)
    kinds = cursor.take(count)
    if any(kind not in EntryKind._value2member_map_ for kind in kinds):
        raise NewerVersionError(f"{what} uses entry kind {max(kinds)}, which is reserved; update gpushrink")
    modes, times, sizes = cursor.column(count), cursor.column(count), cursor.column(count)
    paths, last = [], b""
    for _ in range(count):
        shared, rest = cursor.varint(len(last)), cursor.varint(MAX_PATH)
        last = last[:shared] + bytes(cursor.take(rest))
        if len(last) > MAX_PATH:
            raise cursor.fail("a path is too long")
        paths.append(last)
    entries = []
    for kind, path, mode, time, size in zip(kinds, paths, modes, times, sizes, strict=True):
        link = bytes(cursor.take(cursor.varint(MAX_PATH))) if kind == EntryKind.LINK else b""
        if not 0 <= mode <= 0o7777 or not 0 <= size <= MAX_FILE or (size and kind != EntryKind.FILE):
            raise cursor.fail(f"entry {path!r} has a mode or size out of range")
        entries.append(Entry(EntryKind(kind), path, mode, time, size, link))
    cursor.end()
    return first, entries


def pack_data(decoded: int, targets: Sequence[Target], coded: bytes) -> bytes:
    """Return a DATA payload."""
    columns = b"".join(
        (
            pack_column(target.source_offset for target in targets),
            pack_column(target.length for target in targets),
            pack_column(target.file_id for target in targets),
            pack_column(target.file_offset for target in targets),
        )
    )
    packed = wrap_packed(columns)
    return b"".join((pack_varint(decoded), pack_varint(len(targets)), pack_varint(len(packed)), packed, coded))


def parse_data(payload: memoryview) -> DataBlock:
    """Take a DATA payload apart; targets are checked against the decoded size, not yet against the tree."""
    what = "a DATA block"
    outer = Cursor(payload, what)
    decoded, count = outer.varint(MAX_DECODED), outer.varint(MAX_TARGETS)
    cursor = unwrap_packed(Cursor(outer.take(outer.varint()), what), what)
    columns = [cursor.column(count) for _ in range(4)]
    cursor.end()
    targets = tuple(map(Target, *columns))
    for target in targets:
        if (
            target.length < 1
            or target.source_offset < 0
            or target.file_id < 0
            or target.file_offset < 0
            or target.source_offset + target.length > decoded
        ):
            raise outer.fail("a target lies outside the block")
    return DataBlock(decoded, targets, outer.rest())


def pack_hashes(records: Sequence[tuple[Sequence[int], bytes]]) -> bytes:
    """Return a HASH payload for (file ids, SHA-256 of their content) pairs."""
    parts = [pack_varint(len(records))]
    for ids, digest in records:
        parts += (pack_varint(len(ids)), pack_column(ids), digest)
    return b"".join(parts)


def parse_hashes(payload: bytes | memoryview) -> list[tuple[list[int], bytes]]:
    """Return (file ids, SHA-256) pairs."""
    cursor = Cursor(payload, "a HASH block")
    records = []
    for _ in range(cursor.varint(MAX_ENTRIES)):
        ids = cursor.column(cursor.varint(MAX_ENTRIES))
        records.append((ids, bytes(cursor.take(_DIGEST))))
    cursor.end()
    return records


def pack_index(records: Sequence[BlockRecord]) -> bytes:
    """Return an INDEX payload for the blocks before it."""
    parts = [
        pack_varint(len(records)),
        bytes(record.type for record in records),
        bytes(record.codec for record in records),
        bytes(record.role for record in records),
        pack_column(record.offset for record in records),
        pack_column(record.length for record in records),
        pack_column(record.decoded for record in records),
    ]
    for record in records:
        if record.type in (BlockType.DATA, BlockType.HASH):
            runs = list(_runs(record.file_ids))
            parts.append(pack_varint(len(runs)))
            last = 0
            for start, length in runs:
                parts.append(pack_varint(start - last) + pack_varint(length))
                last = start + length
    return wrap_packed(b"".join(parts))


def parse_index(payload: bytes | memoryview, entries: int) -> list[BlockRecord]:
    """Return the rows of the index; `entries` bounds the ids."""
    what = "the INDEX block"
    cursor = unwrap_packed(Cursor(payload, what), what)
    count = cursor.varint()
    types, codecs, roles = cursor.take(count), cursor.take(count), cursor.take(count)
    offsets, lengths, decoded = cursor.column(count), cursor.column(count), cursor.column(count)
    for kind, codec, role in zip(types, codecs, roles, strict=True):
        if kind == BlockType.DATA:
            check_codec_and_role(codec, role)
    if any(kind not in BlockType._value2member_map_ for kind in types):
        raise NewerVersionError(f"{what} names block type {max(types)}, which is reserved; update gpushrink")
    records = []
    for row in zip(types, codecs, roles, offsets, lengths, decoded, strict=True):
        ids: list[int] = []
        if row[0] in (BlockType.DATA, BlockType.HASH):
            last = 0
            for _ in range(cursor.varint(entries)):
                start = last + cursor.varint(entries)
                last = start + cursor.varint(entries)
                if last > entries:
                    raise cursor.fail("a file id is out of range")
                ids.extend(range(start, last))
        if min(row[3:]) < 0:
            raise cursor.fail("an offset or size is negative")
        kind, codec, role, offset, length, size = row
        records.append(BlockRecord(BlockType(kind), codec, role, offset, length, size, tuple(ids)))
    cursor.end()
    return records


def check_codec_and_role(codec: int, role: int) -> None:
    """Refuse, by name, a codec or role of a DATA block that this version does not know.

    Raises
    ------
    NewerVersionError
        If either is reserved.
    """
    if codec not in BlockCodec._value2member_map_:
        raise NewerVersionError(f"block codec {codec} is reserved; update gpushrink")
    if role not in Role._value2member_map_:
        raise NewerVersionError(f"block role {role} is reserved; update gpushrink")


def _common_prefix(a: bytes, b: bytes) -> int:
    limit = min(len(a), len(b))
    return next((k for k in range(limit) if a[k] != b[k]), limit)


def _runs(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    start, length = -1, 0
    for value in ids:
        if start >= 0 and value == start + length:
            length += 1
        else:
            if start >= 0:
                yield start, length
            start, length = value, 1
    if start >= 0:
        yield start, length
