"""Look into files one by one: what the scan then compares with each other.

What is found without pydicom depends on the file alone, so that several processes may look into a part of them each.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from gpushrink.dicom.plain import HEAD_BYTES, PlainReader
from gpushrink.dicom.source import open_source, read_fully
from gpushrink.dicom.spans import DicomFile, PixelSpan, describe, describe_plainly
from gpushrink.errors import InputError

__all__ = ["MARK_BYTES", "Looked", "Place", "look_into", "look_into_plain"]

MARK_BYTES = 512
"""What is compared of a frame, or of the end of a file, before either is hashed as a whole."""

# A file is told from others by its beginning, where a DICOM object has its identity.
_FILE_MARK = 2048
_LEAST_AHEAD = 1 << 12
_MOST_AHEAD = 1 << 20


class Place(NamedTuple):
    """Say where a file lies and what it was when the tree was walked. A tuple: there are many, and they travel.

    Parameters
    ----------
    path, identity
        As `gpushrink.dicom.walk.Found` has them; the identity begins with the size.
    is_marked
        Whether it may be a copy: another file has its size.
    """

    path: bytes
    identity: tuple[int, int, int]
    is_marked: bool


class Looked(NamedTuple):
    """Hold what was found in one file.

    Parameters
    ----------
    described
        What the DICOM file holds, or why it is kept as plain bytes.
    mark
        Equal for files that begin alike, and seldom for others; empty where nobody asked.
    frame_marks
        Of each native frame, in order: equal for equal frames, and seldom for others.
    head
        All that stands before native pixel data, if it is short enough to be kept; else empty.
    """

    described: DicomFile | str
    mark: bytes
    frame_marks: tuple[bytes, ...]
    head: bytes


def look_into(places: Sequence[Place], keep: int) -> list[Looked]:
    """Look into files, best into neighbours: what they have in common is looked at once.

    Parameters
    ----------
    keep
        The most bytes of heads to keep, in all.

    Raises
    ------
    InputError
        If a file cannot be read or changed since the walk.
    """
    return cast("list[Looked]", _look(places, keep, describe))  # `describe` leaves nothing open


def look_into_plain(places: Sequence[Place], keep: int) -> list[Looked | None]:
    """Do what `look_into` does, in any process: None for files that pydicom must look into."""
    return _look(places, keep, describe_plainly)


def _look(places: Sequence[Place], keep: int, describing: Callable[..., DicomFile | str | None]) -> list[Looked | None]:
    ahead, reader = HEAD_BYTES, PlainReader()
    found: list[Looked | None] = []
    for place in places:
        with open_source(place) as stream:
            try:
                head = read_fully(stream, min(place.identity[0], ahead))
                described = describing(stream, place.identity[0], head, reader=reader)
                span = described.native if isinstance(described, DicomFile) else None
                marks = () if span is None else _mark_frames(stream, head, span)
            except OSError as error:
                raise InputError(f"cannot read {os.fsdecode(place.path)!r}: {error.strerror}") from None
        if described is None:
            found.append(None)
            continue
        kept = b""
        if span is not None:
            # The next file's header is likely as long as this one's.
            ahead = min(_MOST_AHEAD, max(_LEAST_AHEAD, span.offset + (span.offset >> 3)))
            if span.offset <= min(keep, len(head)):
                kept = head[: span.offset]
                keep -= span.offset
        found.append(Looked(described, _mark(head[:_FILE_MARK]) if place.is_marked else b"", marks, kept))
    return found


def _mark(content: bytes) -> bytes:
    # Not `hash`, which is another one in each process.
    return hashlib.blake2b(content, digest_size=8).digest()


def _mark_frames(stream: io.RawIOBase, head: bytes, span: PixelSpan) -> tuple[bytes, ...]:
    size = span.frame_bytes
    at, length = (0, size) if size <= 4 * MARK_BYTES else (size // 2, MARK_BYTES)
    return tuple(_mark(_cut(stream, head, span.offset + k * size + at, length)) for k in range(span.frames))


def _cut(stream: io.RawIOBase, head: bytes, offset: int, length: int) -> bytes:
    """Return a range of a file of which `head` has been read."""
    if offset + length <= len(head):
        return head[offset : offset + length]
    stream.seek(offset)
    return stream.read(length)
