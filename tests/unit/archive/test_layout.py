"""The fixed layouts of the container: what is written is read, what is reserved is refused by name."""

from __future__ import annotations

import struct
import zlib

import pytest

from gpushrink.archive import layout
from gpushrink.archive.layout import BlockType
from gpushrink.codec.varint import Cursor
from gpushrink.errors import CorruptError, NewerVersionError, NotAnArchiveError, TruncatedError


def resealed(data: bytes, place: int, value: int, end: int) -> bytes:
    """Change a byte before a checksum at `end` and repair the checksum."""
    out = bytearray(data)
    out[place] = value
    out[end : end + 4] = struct.pack("<I", zlib.crc32(out[:end]))
    return bytes(out)


def test_preamble_has_the_bytes_of_the_specification() -> None:
    """Magic, version 1, a reserved field and a checksum: 16 bytes that never change."""
    assert layout.pack_preamble().hex() == "8947535a0d0a1a0a01000000777da3a3"
    layout.parse_preamble(layout.pack_preamble())


def test_preamble_of_another_version_is_refused_by_name() -> None:
    """Version 2 and a used reserved field are named."""
    data = layout.pack_preamble()
    with pytest.raises(NewerVersionError, match="version 2"):
        layout.parse_preamble(resealed(data, 8, 2, 12))
    with pytest.raises(NewerVersionError, match="reserved"):
        layout.parse_preamble(resealed(data, 10, 1, 12))


def test_preamble_cut_or_changed_has_its_error() -> None:
    """No magic is no archive, a magic alone is truncated, a broken checksum is corrupt."""
    data = layout.pack_preamble()
    for length in range(1, 16):
        with pytest.raises(TruncatedError):
            layout.parse_preamble(data[:length])
    for wrong in (b"", b"\x89PNG\r\n\x1a\n" + bytes(8), data.replace(b"\r\n", b"\n")):
        with pytest.raises(NotAnArchiveError):
            layout.parse_preamble(wrong)
    with pytest.raises(CorruptError):
        layout.parse_preamble(data[:9] + b"\1" + data[10:])


@pytest.mark.parametrize("kind", list(BlockType))
def test_block_head_of_every_type_comes_back(kind: BlockType) -> None:
    """All fields come back, and the checksum is that of the payload."""
    codec, role = (3, 1) if kind == BlockType.DATA else (0, 0)
    head = layout.parse_block_head(layout.pack_block_head(kind, b"payload", codec=codec, role=role))
    assert (head.type, head.codec, head.role, head.length) == (kind, codec, role, 7)
    assert head.crc == zlib.crc32(b"payload")


@pytest.mark.parametrize("value", [0, 6, 255])
def test_block_head_of_a_reserved_type_is_refused_by_name(value: int) -> None:
    """Types that version 1 does not know are named."""
    data = layout.pack_block_head(BlockType.DATA, b"")
    with pytest.raises(NewerVersionError, match=str(value)):
        layout.parse_block_head(resealed(data, 4, value, 20))


def test_block_head_with_a_reserved_field_is_refused_by_name() -> None:
    """The reserved byte is never ignored."""
    with pytest.raises(NewerVersionError, match="reserved"):
        layout.parse_block_head(resealed(layout.pack_block_head(BlockType.DATA, b""), 7, 1, 20))


@pytest.mark.parametrize(
    ("kind", "limit"), [(BlockType.DATA, layout.MAX_PAYLOAD), (BlockType.TREE, layout.MAX_OTHER_PAYLOAD)]
)
def test_block_head_over_the_limit_is_corrupt(kind: BlockType, limit: int) -> None:
    """A length over the limit of its type is refused, at the limit it is not."""
    for length, good in ((limit, True), (limit + 1, False), ((1 << 64) - 1, False)):
        body = struct.pack("<4sBBBBQI", layout.BLOCK_MAGIC, kind, 0, 0, 0, length, 0)
        data = body + struct.pack("<I", zlib.crc32(body))
        if good:
            assert layout.parse_block_head(data).length == limit
        else:
            with pytest.raises(CorruptError, match="limit"):
                layout.parse_block_head(data)


def test_block_head_with_any_byte_changed_is_corrupt() -> None:
    """Each of the 24 bytes is under the header's own checksum."""
    data = layout.pack_block_head(BlockType.DATA, b"payload")
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x20
        with pytest.raises(CorruptError):
            layout.parse_block_head(bytes(changed))


def test_trailer_comes_back_and_any_change_is_corrupt() -> None:
    """Offsets come back; every byte counts; the reserved field is refused by name."""
    data = layout.pack_trailer(1 << 40, (1 << 40) + 99)
    assert len(data) == layout.TRAILER_SIZE
    assert layout.parse_trailer(data) == layout.Trailer(1 << 40, (1 << 40) + 99)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(CorruptError):
            layout.parse_trailer(bytes(changed))
    with pytest.raises(NewerVersionError):
        layout.parse_trailer(resealed(data, 16, 1, 20))


@pytest.mark.parametrize("content", [b"", b"a", b"abc" * 500, bytes(range(256)) * 40])
def test_packed_field_comes_back(content: bytes) -> None:
    """Whatever the kind."""
    wrapped = layout.wrap_packed(content)
    assert bytes(layout.unwrap_packed(Cursor(wrapped, "test"), "test").rest()) == content
    assert len(wrapped) <= len(content) + 1


@pytest.mark.parametrize("kind", [3, 4, 255])
def test_packed_field_of_a_reserved_kind_is_refused_by_name(kind: int) -> None:
    """Kinds that version 1 does not know are named."""
    with pytest.raises(NewerVersionError, match=str(kind)):
        layout.unwrap_packed(Cursor(bytes([kind]) + b"xyz", "test"), "test")


def test_packed_field_that_claims_too_much_is_corrupt() -> None:
    """A field of gigabytes is refused before anything is allocated."""
    claim = b"\xff\xff\xff\xff\x0f"
    with pytest.raises(CorruptError):
        layout.unwrap_packed(Cursor(bytes([2]) + claim + b"\x5d\x10xyz", "test"), "test")
