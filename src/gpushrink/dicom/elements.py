"""Walk over the elements of a plainly written little-endian data set, picking few and skipping the rest.

This is a fast path: it skips work whose result is known, and gives up (`SurpriseError`) wherever pydicom, which is the
meaning, might read on in another way. Source: DICOM PS3.5 7.1, 7.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container

__all__ = [
    "LONG_VRS",
    "UNDEFINED",
    "Known",
    "MoreError",
    "Picked",
    "SurpriseError",
    "find_fragments_end",
    "tag_key",
    "walk_explicit",
    "walk_implicit",
]

UNDEFINED = 0xFFFFFFFF
Picked = dict[int, tuple[bytes, int, int]]
"""By key: VR (empty in implicit VR), offset of the value, length."""


Known = dict[int, bytes]
"""Stretches of elements, none of them wanted, that an earlier walk went over: by the key of the first."""


class SurpriseError(Exception):
    """Say that the data set holds something that only pydicom may judge."""


class MoreError(Exception):
    """Say that the walk needs bytes past those it was given."""


def tag_key(group: int, element: int) -> int:
    """Return a tag as one little-endian integer of its four bytes, which is cheaper to read than two."""
    return element << 16 | group


_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
# Explicit VRs whose length takes four bytes. Source: PS3.5 7.1.2.
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM = tag_key(0xFFFE, 0xE000)
_ITEM_END = tag_key(0xFFFE, 0xE00D)
_SEQUENCE_END = tag_key(0xFFFE, 0xE0DD)
_CHARSET = tag_key(0x0008, 0x0005)
# Character sets that pydicom knows and takes without a word; nested ones matter too, it looks at each.
_PLAIN_CHARSETS = frozenset(
    (b"", b"ISO_IR 100", b"ISO_IR 192", b"ISO_IR 6 ", b"ISO_IR 101", b"ISO_IR 144", b"ISO_IR 13 ", b"GB18030 ")
)
# In implicit VR only a dictionary tells a sequence of undefined length from other values: the usual ones.
_SEQUENCES = frozenset(
    tag_key(group, element)
    for group, elements in {
        0x0008: (0x1032, 0x1110, 0x1111, 0x1115, 0x1140, 0x1199, 0x1250, 0x2112, 0x2218, 0x9121, 0x9215),
        0x0010: (0x1002,),
        0x0018: (0x9006, 0x9125, 0x9301, 0x9304, 0x9312, 0x9314, 0x9321, 0x9326, 0x9329),
        0x0020: (0x9071, 0x9111, 0x9113, 0x9116, 0x9221, 0x9222),
        0x0028: (0x3010, 0x3110, 0x9110, 0x9132, 0x9145),
        0x0032: (0x1064,),
        0x0040: (0x0260, 0x0275, 0x0555, 0x9096, 0xA043, 0xA168, 0xA170, 0xA370, 0xA375, 0xA504, 0xA525, 0xA730),
        0x0062: (0x0002,),
        0x5200: (0x9229, 0x9230),
    }.items()
    for element in elements
)
_MOST_NESTED = 32
# Slices have most stretches in common, and comparing bytes is far cheaper than walking over them. Long stretches are
# compared fastest, short ones change less often.
_STRETCH = 200
_MOST_KNOWN = 1 << 14

_explicit_head = struct.Struct("<I2sH").unpack_from
_implicit_head = struct.Struct("<II").unpack_from
_long_length = struct.Struct("<I").unpack_from


def walk_explicit(
    data: bytes, at: int, end: int, wanted: Container[int], last: int, picked: Picked, known: Known
) -> int:
    """Walk over explicit VR elements.

    Parameters
    ----------
    at, end
        Where the first element begins; where the data set ends, which may lie past the end of `data`.
    wanted
        Keys to pick into `picked`; of a tag that comes twice the later counts, as in pydicom.
    last
        The wanted key after whose head to stop.
    known
        What earlier walks with the same `wanted` went over, and where this one adds to it.

    Returns
    -------
    int
        Where the walk stopped: at the value of `last`, or less than 8 bytes before `end`.

    Raises
    ------
    SurpriseError
        If anything is not plain.
    MoreError
        If the walk leaves `data` before `end`.
    """
    start, first, cut = at, -1, at
    try:
        while at + 8 <= end:
            key, vr, length = _explicit_head(data, at)
            if key in known and data.startswith(known[key], at):
                _learn(known, first, data, start, at)
                at += len(known[key])
                first, cut = -1, at
                continue
            if at >= cut:
                _learn(known, first, data, start, at)
                start, first, cut = at, key, at + _STRETCH
            value = at + 8
            if vr in LONG_VRS:
                (length,) = _long_length(data, value)
                value += 4
                if length == UNDEFINED and key != last:
                    if vr != b"SQ" or key in wanted:
                        raise SurpriseError
                    at = _skip_items(data, value, _skip_explicit, 0)
                    continue
            elif vr not in _SHORT_VR:
                raise SurpriseError
            if key in wanted:
                _learn(known, first, data, start, at)
                first, cut = -1, value + length
                picked[key] = vr, value, length
                if key == last:
                    return value
            elif key == _CHARSET:
                _check_charset(data, value, length)
            elif key == _ITEM_END:
                raise SurpriseError
            at = value + length
    except struct.error:
        raise MoreError from None
    if at > end:
        raise SurpriseError
    return at


def walk_implicit(
    data: bytes, at: int, end: int, wanted: Container[int], last: int, picked: Picked, known: Known
) -> int:
    """Walk over implicit VR elements; see `walk_explicit`."""
    start, first, cut = at, -1, at
    try:
        while at + 8 <= end:
            key, length = _implicit_head(data, at)
            if key in known and data.startswith(known[key], at):
                _learn(known, first, data, start, at)
                at += len(known[key])
                first, cut = -1, at
                continue
            if at >= cut:
                _learn(known, first, data, start, at)
                start, first, cut = at, key, at + _STRETCH
            value = at + 8
            if length == UNDEFINED:
                if key in wanted:
                    raise SurpriseError
                at = _skip_implicit_sequence(data, key, value, 0)
                continue
            if key in wanted:
                _learn(known, first, data, start, at)
                first, cut = -1, value + length
                picked[key] = b"", value, length
                if key == last:
                    return value
            elif key == _CHARSET:
                _check_charset(data, value, length)
            elif key == _ITEM_END:
                raise SurpriseError
            at = value + length
    except struct.error:
        raise MoreError from None
    if at > end:
        raise SurpriseError
    return at


def _learn(known: Known, first: int, data: bytes, start: int, end: int) -> None:
    """Remember a stretch that was walked over; -1 for `first` says that there is none."""
    if first >= 0 and start < end <= len(data) and (first in known or len(known) < _MOST_KNOWN):
        known[first] = data[start:end]


def find_fragments_end(read: Callable[[int, int], bytes], at: int, size: int) -> int:
    """Return where encapsulated pixel data ends that begins at `at`. Source: DICOM PS3.5 A.4.

    Parameters
    ----------
    read
        Reads (offset, length) of the file.
    size
        The file's size in bytes.

    Raises
    ------
    SurpriseError
        If it is no plain run of items with its end mark.
    """
    while True:
        head = read(at, 8)
        if len(head) < 8:
            raise SurpriseError
        key, length = _implicit_head(head)
        at += 8
        if key == _SEQUENCE_END and not length:
            return at
        if key != _ITEM or at + length > size:
            raise SurpriseError
        at += length


def _skip_items(data: bytes, at: int, skip: Callable[[bytes, int, int, int], int], depth: int) -> int:
    """Skip the items of a sequence of undefined length; `skip` skips the elements of one."""
    if depth > _MOST_NESTED:
        raise SurpriseError
    while True:
        key, length = _implicit_head(data, at)
        at += 8
        if key == _SEQUENCE_END:
            return at
        if key != _ITEM:
            raise SurpriseError
        if length == UNDEFINED:
            at = skip(data, at, -1, depth)
        elif length:
            stop = at + length
            if skip(data, at, stop, depth) != stop:
                raise SurpriseError
            at = stop


def _skip_explicit(data: bytes, at: int, stop: int, depth: int) -> int:
    """Skip the elements of an item up to `stop`, or to its end mark where that is -1."""
    while stop < 0 or at < stop:
        key, vr, length = _explicit_head(data, at)
        at += 8
        if key == _ITEM_END:
            if stop >= 0:
                raise SurpriseError
            return at
        if vr in LONG_VRS:
            (length,) = _long_length(data, at)
            at += 4
            if length == UNDEFINED:
                if vr != b"SQ":
                    raise SurpriseError
                at = _skip_items(data, at, _skip_explicit, depth + 1)
                continue
        elif vr not in _SHORT_VR:
            raise SurpriseError
        if key == _CHARSET:
            _check_charset(data, at, length)
        at += length
    return at


def _skip_implicit(data: bytes, at: int, stop: int, depth: int) -> int:
    """Skip the elements of an item; see `_skip_explicit`."""
    while stop < 0 or at < stop:
        key, length = _implicit_head(data, at)
        at += 8
        if key == _ITEM_END:
            if stop >= 0:
                raise SurpriseError
            return at
        if length == UNDEFINED:
            at = _skip_implicit_sequence(data, key, at, depth + 1)
            continue
        if key == _CHARSET:
            _check_charset(data, at, length)
        at += length
    return at


def _skip_implicit_sequence(data: bytes, key: int, at: int, depth: int) -> int:
    # A private value that begins with an item is a sequence to pydicom; of the others its dictionary decides.
    if key not in _SEQUENCES and not (key & 1 and _long_length(data, at)[0] == _ITEM):
        raise SurpriseError
    return _skip_items(data, at, _skip_implicit, depth)


def _check_charset(data: bytes, at: int, length: int) -> None:
    if at + length > len(data):
        raise MoreError
    if data[at : at + length] not in _PLAIN_CHARSETS:
        raise SurpriseError
