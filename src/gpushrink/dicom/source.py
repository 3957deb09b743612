"""Read source files, insisting that they are still what the walk saw."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import BinaryIO

from gpushrink.dicom.walk import Found, identity_of
from gpushrink.errors import InputError

__all__ = ["hash_file", "open_source", "read_fully", "read_ranges"]

_STEP = 1 << 20


def open_source(found: Found) -> BinaryIO:
    """Open a file for reading, without a buffer: of a small file the system's own calls are the cost.

    Raises
    ------
    InputError
        If it cannot be opened, or changed since the walk.
    """
    try:
        stream = open(found.path, "rb", buffering=0)  # the caller closes it
    except OSError as error:
        raise InputError(f"cannot read {os.fsdecode(found.path)!r}: {error.strerror}") from None
    if identity_of(os.fstat(stream.fileno())) != found.identity:
        stream.close()
        raise _changed(found)
    return stream


def read_fully(stream: BinaryIO, length: int) -> bytes:
    """Read `length` bytes, fewer only at the end: a system may give less than it is asked for."""
    part = stream.read(length)
    while len(part) < length and (more := stream.read(length - len(part))):
        part += more
    return part


def read_ranges(found: Found, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
    """Read (offset, length) ranges of a file.

    Raises
    ------
    InputError
        If the file cannot be read, is too short, or changed.
    """
    with open_source(found) as stream:
        parts = []
        try:
            for offset, length in ranges:
                stream.seek(offset)
                part = read_fully(stream, length)
                if len(part) != length:
                    raise _changed(found)
                parts.append(part)
        except OSError as error:
            raise InputError(f"cannot read {os.fsdecode(found.path)!r}: {error.strerror}") from None
        if identity_of(os.fstat(stream.fileno())) != found.identity:
            raise _changed(found)
    return parts


def hash_file(found: Found) -> bytes:
    """Return the SHA-256 of a whole file.

    Raises
    ------
    InputError
        As `read_ranges`.
    """
    digest, size = hashlib.sha256(), 0
    with open_source(found) as stream:
        try:
            while block := stream.read(min(_STEP, found.entry.size - size)):
                digest.update(block)
                size += len(block)
        except OSError as error:
            raise InputError(f"cannot read {os.fsdecode(found.path)!r}: {error.strerror}") from None
        if size != found.entry.size or identity_of(os.fstat(stream.fileno())) != found.identity:
            raise _changed(found)
    return digest.digest()


def _changed(found: Found) -> InputError:
    return InputError(f"{os.fsdecode(found.path)!r} changed while it was being read; pack again when it is at rest")
