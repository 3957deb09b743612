"""Read source files, insisting that they are still what the walk saw."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from typing import Protocol

from gpushrink.dicom.walk import Found, identity_of
from gpushrink.errors import InputError

__all__ = ["hash_file", "open_source", "read_and_hash", "read_fully", "read_into", "read_ranges"]

_STEP = 1 << 20


class _Source(Protocol):
    @property
    def path(self) -> bytes: ...

    @property
    def identity(self) -> tuple[int, int, int]: ...


def open_source(found: _Source) -> io.FileIO:
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


def read_fully(stream: io.RawIOBase, length: int) -> bytes:
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
        _insist_unchanged(stream, found)
    return parts


def read_into(found: Found, offset: int, target: memoryview) -> None:
    """Read a range of a file into memory that is there already.

    Raises
    ------
    InputError
        As `read_ranges`.
    """
    with open_source(found) as stream:
        try:
            stream.seek(offset)
            _fill(stream, target, found)
        except OSError as error:
            raise InputError(f"cannot read {os.fsdecode(found.path)!r}: {error.strerror}") from None
        _insist_unchanged(stream, found)


def read_and_hash(found: Found, offset: int, target: memoryview) -> bytes:
    """Read a range of a file into memory and return the SHA-256 of the whole file, reading every byte once.

    Raises
    ------
    InputError
        As `read_ranges`.
    """
    digest = hashlib.sha256()
    rest = found.entry.size - offset - len(target)
    parts: list[bytearray | memoryview] = []
    if offset + rest <= _STEP:
        parts = [bytearray(offset), target, bytearray(rest)]
    with open_source(found) as stream:
        try:
            if parts and _read_at_once(stream, parts):
                for part in parts:
                    digest.update(part)
            else:
                stream.seek(0)
                _hash_on(stream, offset, digest, found)
                _fill(stream, target, found)
                digest.update(target)
                _hash_on(stream, rest, digest, found)
        except OSError as error:
            raise InputError(f"cannot read {os.fsdecode(found.path)!r}: {error.strerror}") from None
        _insist_unchanged(stream, found)
    return digest.digest()


def _read_at_once(stream: io.FileIO, parts: list[bytearray | memoryview]) -> bool:
    """Fill parts from the start of a file by one call, where a system has one: each is a wait for the interpreter."""
    return hasattr(os, "preadv") and os.preadv(stream.fileno(), parts, 0) == sum(map(len, parts))


def _insist_unchanged(stream: io.RawIOBase, found: Found) -> None:
    if identity_of(os.fstat(stream.fileno())) != found.identity:
        raise _changed(found)


def _fill(stream: io.RawIOBase, target: memoryview, found: Found) -> None:
    """Read on until the memory is full: a system may give less than it is asked for."""
    while len(target):
        count = stream.readinto(target)
        if not count:
            raise _changed(found)
        target = target[count:]


def _hash_on(stream: io.RawIOBase, length: int, digest: hashlib._Hash, found: Found) -> None:
    """Hash the bytes that follow."""
    while length:
        block = stream.read(min(_STEP, length))
        if not block:
            raise _changed(found)
        digest.update(block)
        length -= len(block)


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


def _changed(found: _Source) -> InputError:
    return InputError(f"{os.fsdecode(found.path)!r} changed while it was being read; pack again when it is at rest")
