"""Frozen dataclasses and closed enumerations that cross layers.

No behaviour beyond arithmetic on their own fields, no I/O, no third-party import.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "BlockCodec",
    "Entry",
    "EntryKind",
    "Role",
    "SampleFormat",
    "SlabShape",
    "Target",
]


class EntryKind(IntEnum):
    """Name what lies at a path. Source: docs/format.md#tree."""

    FILE = 0
    FOLDER = 1
    LINK = 2


class Role(IntEnum):
    """Name what the bytes of a data block are, for reports; restoring does not need it.

    Source: docs/format.md#data.
    """

    HEADER = 0
    """Bytes of DICOM files outside their native or encapsulated pixel data."""
    PIXELS = 1
    """Native pixel data."""
    ENCAPSULATED = 2
    """Pixel data that was compressed already, or is no array of samples: coded as bytes."""
    OPAQUE = 3
    """Whole files that are not DICOM, or are kept as bytes."""


class BlockCodec(IntEnum):
    """Name how the bytes of a data block are coded: the closed table of docs/format.md#codecs."""

    STORED = 0
    ZSTD = 1
    LZMA = 2
    PLANES = 3
    VOLUME = 4
    MATCHED = 5
    HEADERS = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """Describe one path of the stored tree.

    Parameters
    ----------
    path
        Relative, ``/`` between components, in the bytes of the source file system (any encoding).
    mode
        Permission bits, ``st_mode & 0o7777``.
    mtime_ns
        Modification time in nanoseconds since 1970, may be negative.
    size
        Size in bytes; 0 unless `kind` is a file.
    link
        What a symbolic link points to; empty otherwise.
    """

    kind: EntryKind
    path: bytes
    mode: int
    mtime_ns: int
    size: int = 0
    link: bytes = b""


@dataclass(frozen=True, slots=True)
class Target:
    """Say where a run of a data block's decoded bytes belongs.

    The bytes ``[source_offset, source_offset + length)`` of the block are the bytes
    ``[file_offset, file_offset + length)`` of file `file_id`. Runs may be used by many targets:
    that is how identical files and frames are stored once.
    """

    source_offset: int
    length: int
    file_id: int
    file_offset: int


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """Say how stored pixel bytes are to be read as samples.

    Parameters
    ----------
    item_bytes
        1, 2 or 4: BitsAllocated / 8.
    signed
        PixelRepresentation is 1. Only prediction cares; every bit pattern survives either way.
    big_endian
        The samples are stored most significant byte first.
    components
        SamplesPerPixel.
    planar
        PlanarConfiguration is 1: each component is a plane of its own.
    """

    item_bytes: int
    signed: bool = False
    big_endian: bool = False
    components: int = 1
    planar: bool = False


@dataclass(frozen=True, slots=True)
class SlabShape:
    """Give the axes of a slab, a run of frames coded together: slice, row, column."""

    slices: int
    rows: int
    columns: int

    def byte_size(self, sample: SampleFormat) -> int:
        """Return the size in bytes of a slab of this shape with samples of this format."""
        return self.slices * self.rows * self.columns * sample.components * sample.item_bytes
