"""Frames to encapsulated PixelData: one fragment for each frame, even lengths, offsets that hold."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gpushrink.convert.report import KeepSourceError

__all__ = ["MAX_BASIC_OFFSET", "Encapsulated", "check_offsets", "encapsulate_frames"]

MAX_BASIC_OFFSET = 0xFFFFFFFE
"""The largest offset a Basic Offset Table may hold: 32 bits, and an even position. Source: PS3.5 A.4."""

_ITEM = 0xE000FFFE
_DELIMITER = 0xE0DDFFFE


@dataclass(frozen=True)
class Encapsulated:
    """Hold the value of PixelData, and of (7FE0,0001) and (7FE0,0002) where they are needed (else empty)."""

    pixel_data: bytes
    extended_offsets: bytes = b""
    extended_lengths: bytes = b""


def encapsulate_frames(frames: Sequence[bytes], *, largest_offset: int = MAX_BASIC_OFFSET) -> Encapsulated:
    """Lay the frames down behind an offset table.

    Beyond `largest_offset` the Basic Offset Table stays empty and the Extended Offset Table takes over;
    its lengths count the frame without the pad byte. Source: PS3.5 A.4, PS3.3 C.7.6.3.1.8.
    """
    offsets: list[int] = []
    position = 0
    for frame in frames:
        offsets.append(position)
        position += 8 + len(frame) + (len(frame) & 1)
    basic = offsets[-1] <= largest_offset
    table = struct.pack(f"<{len(offsets)}L", *offsets) if basic else b""
    parts = [struct.pack("<LL", _ITEM, len(table)), table]
    for frame in frames:
        if len(frame) + 1 > MAX_BASIC_OFFSET:
            raise KeepSourceError("one compressed frame is larger than a fragment may be")
        parts += [struct.pack("<LL", _ITEM, len(frame) + (len(frame) & 1)), frame, b"\0" * (len(frame) & 1)]
    # No sequence delimiter here: pydicom's writer adds it to an element of undefined length.
    value = b"".join(parts)
    if basic:
        return Encapsulated(value)
    count = len(offsets)
    return Encapsulated(
        value,
        struct.pack(f"<{count}Q", *offsets),
        struct.pack(f"<{count}Q", *(len(frame) for frame in frames)),
    )


def check_offsets(pixel_data: bytes, extended_offsets: bytes, frames: int) -> None:
    """Walk the items of PixelData and compare their places with the offset table.

    Raises
    ------
    KeepSourceError
        The table does not point at the first fragment of each frame, or a fragment is odd.
    """
    tag, length = struct.unpack_from("<LL", pixel_data, 0)
    if tag != _ITEM:
        raise KeepSourceError("the offset table item is missing")
    stated = list(struct.unpack_from(f"<{length // 4}L", pixel_data, 8))
    if extended_offsets:
        stated = list(struct.unpack(f"<{len(extended_offsets) // 8}Q", extended_offsets))
    start = position = 8 + length
    found: list[int] = []
    while position + 8 <= len(pixel_data):
        tag, length = struct.unpack_from("<LL", pixel_data, position)
        if tag == _DELIMITER:
            break
        if tag != _ITEM or length % 2:
            raise KeepSourceError(f"a fragment is malformed at byte {position} of the pixel data")
        found.append(position - start)
        position += 8 + length
    if len(found) != frames or stated != found:
        raise KeepSourceError("the offset table does not point at the frames")
