"""The constants and byte layouts of docs/format.md, and nothing that reads or writes files.

Every function here turns values into bytes or bytes into values.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from gpushrink.codec import bytestream
from gpushrink.codec.varint import Cursor, pack_varint
from gpushrink.errors import CorruptError, NewerVersionError, NotAnArchiveError, TruncatedError

__all__ = [
    "BLOCK_HEAD",
    "BLOCK_MAGIC",
    "MAX_DECODED",
    "MAX_ENTRIES",
    "MAX_FILE",
    "MAX_OTHER_PAYLOAD",
    "MAX_PACKED",
    "MAX_PATH",
    "MAX_PAYLOAD",
    "MAX_RUNS",
    "MAX_SECONDS",
    "MAX_TARGETS",
    "MAX_TREE_BYTES",
    "PREAMBLE_SIZE",
    "TRAILER_MAGIC",
    "TRAILER_SIZE",
    "VERSION",
    "BlockHead",
    "BlockType",
    "Trailer",
    "pack_block_head",
    "pack_preamble",
    "pack_trailer",
    "parse_block_head",
    "parse_preamble",
    "parse_trailer",
    "seal_block_head",
    "unwrap_packed",
    "wrap_packed",
]

VERSION = 1

MAGIC = b"\x89GSZ\r\n\x1a\n"
BLOCK_MAGIC = b"GSZb"
TRAILER_MAGIC = b"GSZ-end\n"

_PREAMBLE = struct.Struct("<8sHHI")
BLOCK_HEAD = struct.Struct("<4sBBBBQII")
_TRAILER = struct.Struct("<QQII8s")
PREAMBLE_SIZE = _PREAMBLE.size
TRAILER_SIZE = _TRAILER.size

# Limits: docs/format.md#limits. Each bounds what a hostile archive can make a reader allocate.
MAX_ENTRIES = 1 << 22
MAX_TREE_BYTES = 1 << 28
MAX_PATH = 4096
MAX_FILE = 1 << 61
MAX_SECONDS = 1 << 40
MAX_PAYLOAD = 1 << 28
MAX_OTHER_PAYLOAD = 1 << 26
MAX_DECODED = 1 << 27
MAX_PACKED = 1 << 26
MAX_TARGETS = 1 << 19
MAX_RUNS = 1 << 23


class BlockType(IntEnum):
    """Name the blocks. Source: docs/format.md#block."""

    INFO = 1
    TREE = 2
    DATA = 3
    HASH = 4
    INDEX = 5


@dataclass(frozen=True, slots=True)
class BlockHead:
    """Hold the fields of a block header that a reader needs. Source: docs/format.md#block."""

    type: int
    codec: int
    role: int
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """Hold the trailer's fields. Source: docs/format.md#trailer."""

    index_offset: int
    archive_length: int


def pack_preamble() -> bytes:
    """Return the 16 bytes every archive begins with."""
    body = struct.pack("<8sHH", MAGIC, VERSION, 0)
    return body + struct.pack("<I", zlib.crc32(body))


def parse_preamble(data: bytes) -> None:
    """Check the first bytes of an archive.

    Raises
    ------
    NotAnArchiveError
        If the magic is not there (an empty input among them).
    TruncatedError
        If the input ends inside the preamble.
    CorruptError
        If the preamble's checksum does not hold.
    NewerVersionError
        If the version is not known, or a reserved field is used.
    """
    if not data or data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise NotAnArchiveError("not a gpushrink archive: the first bytes are not its magic")
    if len(data) < PREAMBLE_SIZE:
        raise TruncatedError("the archive ends inside its first 16 bytes; transfer it again")
    _, version, reserved, crc = _PREAMBLE.unpack(data[:PREAMBLE_SIZE])
    if zlib.crc32(data[: PREAMBLE_SIZE - 4]) != crc:
        raise CorruptError("the first 16 bytes of the archive are damaged")
    if version != VERSION:
        raise NewerVersionError(f"the archive has version {version}, this gpushrink reads version {VERSION}; update it")
    if reserved:
        raise NewerVersionError(f"the archive uses the reserved preamble field (value {reserved}); update gpushrink")


def pack_block_head(kind: BlockType, payload: bytes | memoryview, *, codec: int = 0, role: int = 0) -> bytes:
    """Return the 24 bytes that stand before `payload`."""
    return seal_block_head(kind, len(payload), zlib.crc32(payload), codec=codec, role=role)


def seal_block_head(kind: BlockType, length: int, crc: int, *, codec: int = 0, role: int = 0) -> bytes:
    """Return the 24 bytes that stand before a payload of this length and CRC-32."""
    body = struct.pack("<4sBBBBQI", BLOCK_MAGIC, kind, codec, role, 0, length, crc)
    return body + struct.pack("<I", zlib.crc32(body))


def parse_block_head(data: bytes) -> BlockHead:
    """Take a block header apart.

    Raises
    ------
    CorruptError
        If the magic or the checksum does not hold, or the length is over the limit.
    NewerVersionError
        If the type or the reserved byte has a value that this version does not know.
    """
    magic, kind, codec, role, reserved, length, crc, own = BLOCK_HEAD.unpack(data)
    if magic != BLOCK_MAGIC or zlib.crc32(data[: BLOCK_HEAD.size - 4]) != own:
        raise CorruptError("no block header where one belongs")
    if kind not in BlockType._value2member_map_:
        raise NewerVersionError(f"block type {kind} is reserved; update gpushrink")
    if reserved:
        raise NewerVersionError(f"a reserved block header field is used (value {reserved}); update gpushrink")
    limit = MAX_PAYLOAD if kind == BlockType.DATA else MAX_OTHER_PAYLOAD
    if length > limit:
        raise CorruptError(f"a block claims {length} bytes; the limit is {limit}")
    return BlockHead(kind, codec, role, length, crc)


def pack_trailer(index_offset: int, archive_length: int) -> bytes:
    """Return the 32 bytes every archive ends with."""
    body = struct.pack("<QQI", index_offset, archive_length, 0)
    return body + struct.pack("<I", zlib.crc32(body)) + TRAILER_MAGIC


def parse_trailer(data: bytes) -> Trailer:
    """Take the trailer apart.

    Raises
    ------
    CorruptError
        If the magic or the checksum does not hold.
    NewerVersionError
        If the reserved field is used.
    """
    index_offset, archive_length, reserved, crc, magic = _TRAILER.unpack(data)
    if magic != TRAILER_MAGIC or zlib.crc32(data[:20]) != crc:
        raise CorruptError("the archive's end mark is damaged or missing")
    if reserved:
        raise NewerVersionError(f"the reserved trailer field is used (value {reserved}); update gpushrink")
    return Trailer(index_offset, archive_length)


def wrap_packed(data: bytes) -> bytes:
    """Return `data` as a ``packed`` field: whichever of its kinds is smallest."""
    kind, coded = bytestream.squeeze(data)
    if kind == bytestream.LZMA:
        return bytes([kind]) + pack_varint(len(data)) + coded
    return bytes([kind]) + coded


def unwrap_packed(cursor: Cursor, what: str, *, limit: int = MAX_PACKED) -> Cursor:
    """Read a ``packed`` field to the end of `cursor`'s bytes and return a cursor over its content.

    Raises
    ------
    CorruptError
        If it does not decode.
    NewerVersionError
        If its kind is reserved.
    """
    kind = cursor.byte()
    if kind == bytestream.LZMA:
        size = cursor.varint(limit)
    elif kind in (bytestream.STORED, bytestream.ZSTD):
        size = -1
    else:
        raise NewerVersionError(f"{what}: packed kind {kind} is reserved; update gpushrink")
    return Cursor(bytestream.expand(kind, cursor.rest(), size=size, limit=limit), what)
