"""Read what the scan needs of a plainly written DICOM file without pydicom.

A fast path and nothing else: it gives the values that pydicom would give, or nothing at all. Values are taken only
where their form leaves no doubt; all else is pydicom's to read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from gpushrink.dicom.elements import (
    UNDEFINED,
    Known,
    MoreError,
    Picked,
    SurpriseError,
    find_fragments_end,
    tag_key,
    walk_explicit,
    walk_implicit,
)

__all__ = ["HEAD_BYTES", "Plain", "PlainReader"]

HEAD_BYTES = 1 << 16
_MOST_HEAD = 1 << 26
_MOST_TAIL = 1 << 16
_MOST_VALUES = 1 << 12
_MOST_VALUE = 1024  # pydicom defers longer ones

_IMPLICIT = b"1.2.840.10008.1.2"
_EXPLICIT = b"1.2.840.10008.1.2.1"
_ENCAPSULATED = re.compile(rb"1\.2\.840\.10008\.1\.2\.(4\.(5[0-9]|70|8[01]|9[0-3]|20[1-3]|110)|5)")
_META_LENGTH = tag_key(0x0002, 0x0000)
_SYNTAX = tag_key(0x0002, 0x0010)
_INSTANCE = tag_key(0x0002, 0x0003)
_PIXELS = tag_key(0x7FE0, 0x0010)


@dataclass(frozen=True, slots=True)
class Plain:
    """Hold what a plain data set says.

    Parameters
    ----------
    values
        By keyword, as pydicom gives them; what is absent is not there.
    pixels
        Offset and length of the value of PixelData; the length is `UNDEFINED` for fragments; None without.
    """

    values: dict[str, Any]
    pixels: tuple[int, int] | None


_is_integer = re.compile(rb" *[+-]?[0-9]{1,9} *").fullmatch
_is_decimals = re.compile(rb"[-+.0-9eE \\]+").fullmatch
_is_uid = re.compile(rb"[0-9.]+[\0 ]?").fullmatch
_is_code = re.compile(rb"[!-Z^-~]+ ?").fullmatch  # printable, no backslash
_is_codes = re.compile(rb"[!-~][ -~]*").fullmatch


def _integer(raw: bytes) -> int:
    if not _is_integer(raw):
        raise SurpriseError
    return int(raw)


def _decimals(raw: bytes) -> list[float]:
    if not _is_decimals(raw):
        raise SurpriseError
    try:
        return [float(part) for part in raw.split(b"\\")]
    except ValueError:
        raise SurpriseError from None


def _decimal(raw: bytes) -> float:
    values = _decimals(raw)
    if len(values) != 1:
        raise SurpriseError
    return values[0]


def _unsigned(raw: bytes) -> int:
    if len(raw) != 2:
        raise SurpriseError
    return int.from_bytes(raw, "little")


def _uid(raw: bytes) -> str:
    if not _is_uid(raw):
        raise SurpriseError
    return raw.rstrip(b"\0 ").decode("ascii")


def _code(raw: bytes) -> str:
    if not _is_code(raw):
        raise SurpriseError
    return raw.rstrip(b" ").decode("ascii")


def _codes(raw: bytes) -> str | list[str]:
    if not _is_codes(raw):
        raise SurpriseError
    parts = raw.rstrip(b" ").decode("ascii").split("\\")
    return parts if len(parts) > 1 else parts[0]


class _Wanted(NamedTuple):
    keyword: str
    vr: bytes
    convert: Callable[[bytes], Any]


_WANTED = {
    tag_key(group, element): _Wanted(keyword, vr, convert)
    for group, element, keyword, vr, convert in (
        (0x0008, 0x0008, "ImageType", b"CS", _codes),
        (0x0008, 0x0018, "SOPInstanceUID", b"UI", _uid),
        (0x0008, 0x0060, "Modality", b"CS", _code),
        (0x0018, 0x0086, "EchoNumbers", b"IS", _integer),
        (0x0020, 0x000E, "SeriesInstanceUID", b"UI", _uid),
        (0x0020, 0x0012, "AcquisitionNumber", b"IS", _integer),
        (0x0020, 0x0013, "InstanceNumber", b"IS", _integer),
        (0x0020, 0x0032, "ImagePositionPatient", b"DS", _decimals),
        (0x0020, 0x0037, "ImageOrientationPatient", b"DS", _decimals),
        (0x0020, 0x0100, "TemporalPositionIdentifier", b"IS", _integer),
        (0x0020, 0x1041, "SliceLocation", b"DS", _decimal),
        (0x0028, 0x0002, "SamplesPerPixel", b"US", _unsigned),
        (0x0028, 0x0006, "PlanarConfiguration", b"US", _unsigned),
        (0x0028, 0x0010, "Rows", b"US", _unsigned),
        (0x0028, 0x0011, "Columns", b"US", _unsigned),
        (0x0028, 0x0100, "BitsAllocated", b"US", _unsigned),
        (0x0028, 0x0103, "PixelRepresentation", b"US", _unsigned),
    )
}
# Pixel data of floating point, in any place, is for pydicom.
_PICKED = frozenset((*_WANTED, _PIXELS, tag_key(0x7FE0, 0x0008), tag_key(0x7FE0, 0x0009)))
_MAY_BE_EMPTY = frozenset((b"IS",))  # reads as None, which counts as absent


class PlainReader:
    """Read plain data sets; of many files, what they have in common is looked at once."""

    def __init__(self) -> None:
        self._known: dict[bool, Known] = {False: {}, True: {}}
        self._metas: list[_Meta] = []
        self._values: dict[tuple[int, bytes], Any] = {}

    def read(self, stream: BinaryIO, size: int, head: bytes) -> Plain | None:
        """Read a file's data set if every byte that matters is plain.

        Parameters
        ----------
        stream
            The file; its position is moved.
        size
            Its size in bytes.
        head
            Its first bytes, as many as have been read.

        Returns
        -------
        Plain or None
            None where pydicom must look.
        """

        def read(offset: int, length: int) -> bytes:
            stream.seek(offset)
            return stream.read(length)

        while True:
            try:
                return self._read(read, size, head)
            except SurpriseError:
                return None
            except MoreError:
                wanted = min(size, 4 * len(head) if len(head) >= HEAD_BYTES else HEAD_BYTES)
                if len(head) == size or wanted > _MOST_HEAD:
                    return None
                head = read(0, wanted)
                if len(head) < wanted:
                    return None

    def _read(self, read: Callable[[int, int], bytes], size: int, head: bytes) -> Plain:
        at, syntax = self._read_meta(head, size)
        walk, implicit = (walk_implicit, True) if syntax == _IMPLICIT else (walk_explicit, False)
        if len(head) < at + 6:
            raise SurpriseError
        # In the place of a VR: capital letters, or not, must be what the transfer syntax makes expect.
        if implicit == (0x40 < head[at + 4] < 0x5B and 0x40 < head[at + 5] < 0x5B):
            raise SurpriseError
        if head[at : at + 2] in (b"\0\0", b"\2\0"):
            raise SurpriseError
        picked: Picked = {}
        walk(head, at, size, _PICKED, _PIXELS, picked, self._known[implicit])
        pixels = picked.pop(_PIXELS, None)
        if pixels is not None:
            vr, at, length = pixels
            if length == UNDEFINED:
                if not _ENCAPSULATED.fullmatch(syntax) or vr not in (b"OB", b"OW"):
                    raise SurpriseError
                end = find_fragments_end(read, at, size)
            elif vr in (b"OB", b"OW", b""):
                end = at + length
            else:
                raise SurpriseError
            _walk_tail(read, end, size, implicit)
        return Plain(self._convert(head, picked, implicit), pixels and pixels[1:])

    def _read_meta(self, head: bytes, size: int) -> tuple[int, bytes]:
        """Do what the function of this name does; of files that differ in the instance's UID alone, once."""
        for known in self._metas:
            if known.end <= len(head) and head.startswith(known.start, 128) and head.startswith(known.rest, known.at):
                return known.end, known.syntax
        end, syntax, (_, at, length) = _read_meta(head, size)
        self._metas = [_Meta(head[128:at], at + length, head[at + length : end], end, syntax), *self._metas[:3]]
        return end, syntax

    def _convert(self, head: bytes, picked: Picked, implicit: bool) -> dict[str, Any]:
        """Convert what was picked; the same bytes once."""
        values: dict[str, Any] = {}
        known = self._values
        for key, (vr, at, length) in picked.items():
            wanted = _WANTED.get(key)
            if wanted is None or length > _MOST_VALUE or not (implicit or vr == wanted.vr):
                raise SurpriseError
            if at + length > len(head):
                raise MoreError
            if not length:
                if wanted.vr not in _MAY_BE_EMPTY:
                    raise SurpriseError
                continue
            raw = head[at : at + length]
            value = known.get((key, raw))
            if value is None:
                value = wanted.convert(raw)
                if len(known) < _MOST_VALUES:
                    known[key, raw] = value
            values[wanted.keyword] = value
        return values


class _Meta(NamedTuple):
    """Hold file meta information around the value of the instance's UID: what stands from byte 128, and from `at`."""

    start: bytes
    at: int
    rest: bytes
    end: int
    syntax: bytes


def _read_meta(head: bytes, size: int) -> tuple[int, bytes, tuple[bytes, int, int]]:
    """Return where the file meta information ends, the transfer syntax it names, and where the instance's UID lies.

    Source: DICOM PS3.10 7.1.
    """
    if head[128:132] != b"DICM" or head[132:140] != b"\x02\0\0\0UL\x04\0":
        raise SurpriseError
    end = 144 + int.from_bytes(head[140:144], "little")
    if end > len(head) or end > size:
        raise SurpriseError
    picked: Picked = {}
    if walk_explicit(head, 132, end, _Everything(), -1, picked, {}) != end or _SYNTAX not in picked:
        raise SurpriseError
    if any(key & 0xFFFF != 2 for key in picked):
        raise SurpriseError
    vr, at, length = picked[_SYNTAX]
    syntax = head[at : at + length].rstrip(b"\0 ")
    if vr != b"UI" or not (syntax in (_IMPLICIT, _EXPLICIT) or _ENCAPSULATED.fullmatch(syntax)):
        raise SurpriseError
    return end, syntax, picked.get(_INSTANCE, (b"", end, 0))


class _Everything:
    """Contain every key."""

    def __contains__(self, key: object) -> bool:
        return True


def _walk_tail(read: Callable[[int, int], bytes], at: int, size: int, implicit: bool) -> None:
    """Insist that what follows the pixel data is plain and holds nothing wanted."""
    if at + 8 > size:
        return
    if size - at > _MOST_TAIL:
        raise SurpriseError
    tail, picked = read(at, size - at), Picked()
    try:
        (walk_implicit if implicit else walk_explicit)(tail, 0, size - at, _PICKED, -1, picked, {})
    except MoreError:
        raise SurpriseError from None
    if picked:
        raise SurpriseError
