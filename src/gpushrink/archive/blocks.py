"""The payloads of the blocks: values to bytes and back, each with the checks its section asks for.

Source: docs/format.md, one section a block.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpushrink.archive.layout import (
    MAX_DECODED,
    MAX_ENTRIES,
    MAX_FILE,
    MAX_PATH,
    MAX_PAYLOAD,
    MAX_SECONDS,
    MAX_TARGETS,
    BlockType,
    unwrap_packed,
    wrap_packed,
)
from gpushrink.codec.varint import VARINT_BYTES, Cursor, pack_column, pack_varint
from gpushrink.errors import CorruptError, NewerVersionError
from gpushrink.model import BlockCodec, Entry, EntryKind, Role, Target

__all__ = [
    "TREE_ENTRIES",
    "DataBlock",
    "check_codec_and_role",
    "measure_targets",
    "pack_data",
    "pack_data_head",
    "pack_hashes",
    "pack_info",
    "pack_tree",
    "parse_data",
    "parse_hashes",
    "parse_info",
    "parse_tree",
    "peek_decoded",
]

TREE_ENTRIES = 4096
_DIGEST = 32
_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class DataBlock:
    """Hold a DATA payload taken apart; `coded` is a view of it.

    The targets' columns are kept as arrays: a few bytes of a hostile archive may claim a million of them.
    """

    decoded: int
    sources: array[int]
    lengths: array[int]
    file_ids: array[int]
    file_offsets: array[int]
    coded: memoryview

    def targets(self) -> Iterator[Target]:
        """Give the targets one by one."""
        return map(Target, self.sources, self.lengths, self.file_ids, self.file_offsets)


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
            pack_column(entry.mtime_ns // _SECOND for entry in entries),
            pack_column(entry.mtime_ns % _SECOND for entry in entries),
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
    modes, seconds, parts, sizes = (cursor.column(count) for _ in range(4))
    if any(abs(whole) > MAX_SECONDS for whole in seconds) or any(not 0 <= part < _SECOND for part in parts):
        raise cursor.fail("a modification time is out of range")
    times = [whole * _SECOND + part for whole, part in zip(seconds, parts, strict=True)]
    paths, last = [], b""
    for _ in range(count):
        shared, rest = cursor.varint(len(last)), cursor.varint(MAX_PATH)
        path = last[:shared] + bytes(cursor.take(rest))
        if len(path) > MAX_PATH or path <= last:
            raise cursor.fail("a path is too long or out of order")
        last = path
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
    return pack_data_head(decoded, targets) + coded


def pack_data_head(decoded: int, targets: Sequence[Target]) -> bytes:
    """Return what stands before the coded bytes in a DATA payload."""
    columns = b"".join(
        (
            pack_column(target.source_offset for target in targets),
            pack_column(target.length for target in targets),
            pack_column(target.file_id for target in targets),
            pack_column(target.file_offset for target in targets),
        )
    )
    packed = wrap_packed(columns)
    return b"".join((pack_varint(decoded), pack_varint(len(targets)), pack_varint(len(packed)), packed))


def parse_data(payload: memoryview) -> DataBlock:
    """Take a DATA payload apart; targets are checked against the decoded size, not yet against the tree."""
    what = "a DATA block"
    outer = Cursor(payload, what)
    decoded, count = outer.varint(MAX_DECODED), outer.varint(MAX_TARGETS)
    packed = Cursor(outer.take(outer.varint()), what)
    cursor = unwrap_packed(packed, what, limit=4 * VARINT_BYTES * count)
    try:
        sources, lengths, ids, places = (array("q", cursor.column(count)) for _ in range(4))
    except OverflowError:
        raise cursor.fail("a target lies outside its file") from None
    cursor.end()
    for source, length, file_id, place in zip(sources, lengths, ids, places, strict=True):
        if length < 1 or source < 0 or file_id < 0 or place < 0 or source + length > decoded:
            raise outer.fail("a target lies outside the block")
    return DataBlock(decoded, sources, lengths, ids, places, outer.rest())


def measure_targets(payload: memoryview) -> int:
    """Return how many bytes of a DATA payload lie before its coded bytes; the first thirty are enough to tell.

    Raises
    ------
    CorruptError
        If they are not there.
    """
    cursor = Cursor(payload, "a DATA block")
    cursor.varint(MAX_DECODED)
    cursor.varint(MAX_TARGETS)
    size = cursor.varint(MAX_PAYLOAD)
    return len(payload) - cursor.left + size


def pack_hashes(records: Sequence[tuple[Sequence[int], bytes]]) -> bytes:
    """Return a HASH payload for (file ids, SHA-256 of their content) pairs."""
    parts = [pack_varint(len(records))]
    for ids, digest in records:
        parts += (pack_varint(len(ids)), pack_column(ids), digest)
    return b"".join(parts)


def parse_hashes(payload: bytes | memoryview, entries: int = 0) -> list[tuple[list[int], bytes]]:
    """Return (file ids, SHA-256) pairs.

    Parameters
    ----------
    entries
        How many the tree has, 0 if that is not known: each has one hash at most.

    Raises
    ------
    CorruptError
        If an id is no entry's, or there are more ids than entries.
    """
    cursor = Cursor(payload, "a HASH block")
    most = left = entries or MAX_ENTRIES
    records = []
    for _ in range(cursor.varint(most)):
        ids = cursor.column(cursor.varint(left))
        if not all(0 <= i < most for i in ids):
            raise CorruptError("a hash belongs to no entry")
        left -= len(ids)
        records.append((ids, bytes(cursor.take(_DIGEST))))
    cursor.end()
    return records


def check_codec_and_role(kind: int, codec: int, role: int) -> None:
    """Refuse, by name, a codec or role of a block that this version does not know.

    Raises
    ------
    NewerVersionError
        If either is reserved; outside DATA both are 0.
    """
    if codec not in BlockCodec._value2member_map_ or (codec and kind != BlockType.DATA):
        raise NewerVersionError(f"block codec {codec} (block type {kind}) is reserved; update gpushrink")
    if role not in Role._value2member_map_ or (role and kind != BlockType.DATA):
        raise NewerVersionError(f"block role {role} (block type {kind}) is reserved; update gpushrink")


def peek_decoded(payload: memoryview) -> int:
    """Return the decoded size that a DATA payload claims; 0 if it does not even hold that."""
    try:
        return Cursor(payload, "a DATA block").varint(MAX_DECODED)
    except CorruptError:
        return 0


def _common_prefix(a: bytes, b: bytes) -> int:
    limit = min(len(a), len(b))
    return next((k for k in range(limit) if a[k] != b[k]), limit)
