"""Cut headers into tokens: elements, marks of items and sequences, what lies between.

Any cut is right, for the tokens put together are the header; a good one puts what changes from slice to slice in
tokens of its own. Nothing here is stored but the result. Source: DICOM PS3.5 7.1, 7.5.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

__all__ = ["Key", "Keys", "Tokens", "cut_header"]

_REST = -1


@dataclass(frozen=True, slots=True)
class Key:
    """Say what tokens of one kind begin with.

    Parameters
    ----------
    prefix
        The bytes that all of them begin with.
    width
        Bytes of the little-endian length of the value that follows the prefix; 0 for none.
    size
        Where there is no length: the size of the value; `_REST` for all that is left.
    """

    prefix: bytes
    width: int
    size: int


class Keys:
    """Number the kinds of tokens. A kind is where an element stands (in which sequence) and what it begins with."""

    def __init__(self) -> None:
        self.all: list[Key] = []
        self.known: dict[tuple[int, bytes, int, int], int] = {}
        """The numbers, by what `number` takes."""

    def number(self, place: int, prefix: bytes, width: int, size: int = 0) -> int:
        """Return the number of a kind; `place` is that of the sequence it stands in, or -1."""
        known = self.known.get((place, prefix, width, size))
        if known is None:
            known = self.known[place, prefix, width, size] = len(self.all)
            self.all.append(Key(prefix, width, size))
        return known


Tokens = tuple[list[int], list[bytes]]
"""Kinds and values."""

_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM = b"\xfe\xff\x00\xe0"
_ENDS = (b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0")
_MARKS = frozenset((_ITEM, *_ENDS))
_UNDEFINED = b"\xff\xff\xff\xff"
_MOST_NESTED = 64
_short_length = struct.Struct("<H").unpack_from
_long_length = struct.Struct("<I").unpack_from


class _Cutter:
    """Cut one header; `place` is the sequence that the cut is in, `stop` where it ends, -1 for at its mark."""

    def __init__(self, header: bytes, keys: Keys) -> None:
        self._header = header
        self._keys = keys
        self.kinds: list[int] = []
        self.values: list[bytes] = []
        self.at = 0
        self._place = -1
        self._stop = -1
        self._outer: list[tuple[int, int]] = []

    def cut(self) -> None:
        header, end = self._header, len(self._header)
        kinds, values, known = self.kinds, self.values, self._keys.known
        if header[128:132] == b"DICM":
            self._put(b"", 0, 0, 132)
        implicit: bool | None = None
        while self.at + 8 <= end:
            while self._outer and 0 <= self._stop <= self.at:
                self._place, self._stop = self._outer.pop()
            tag = header[self.at : self.at + 4]
            if tag in _MARKS:
                self._cut_mark(tag)
                continue
            if implicit is None and tag[:2] != b"\2\0":
                implicit = header[self.at + 4 : self.at + 6] not in _SHORT_VR | _LONG_VR
            if not implicit and header[self.at + 4 : self.at + 6] in _SHORT_VR:  # most elements: without calls
                at, start = self.at, self.at + 8
                (length,) = _short_length(header, at + 6)
                if start + length > end:
                    return
                kind = known.get((self._place, header[at : at + 6], 2, 0))
                if kind is None:
                    kind = self._keys.number(self._place, header[at : at + 6], 2)
                kinds.append(kind)
                values.append(header[start : start + length])
                self.at = start + length
                continue
            if not (self._cut_implicit() if implicit else self._cut_explicit()):
                return

    def _cut_mark(self, tag: bytes) -> None:
        at = self.at
        if tag == _ITEM:
            raw = self._header[at + 4 : at + 8]
            self._put(tag, 4, 0, 4)
            self._enter(self._place, raw, at + 8)
            return
        self._put(self._header[at : at + 8], 8, 0, 0)
        if self._outer and self._stop < 0:
            self._place, self._stop = self._outer.pop()

    def _cut_explicit(self) -> bool:
        header, at = self._header, self.at
        vr = header[at + 4 : at + 6]
        if vr not in _LONG_VR:
            return False
        (length,) = _long_length(header, at + 8)
        value = at + 12
        nested = vr == b"SQ" or (vr == b"UN" and header[value : value + 4] == _ITEM)
        return self._cut_long(8, value, length, nested)

    def _cut_implicit(self) -> bool:
        header, value = self._header, self.at + 8
        (length,) = _long_length(header, self.at + 4)
        return self._cut_long(4, value, length, header[value : value + 4] == _ITEM)

    def _cut_long(self, prefix: int, value: int, length: int, nested: bool) -> bool:
        header, at = self._header, self.at
        inside = value + length <= len(header)
        if length == 0xFFFFFFFF or (nested and inside and length):
            raw = header[value - 4 : value]
            self._put(header[at : at + prefix], prefix, 0, 4)
            self._enter(self.kinds[-1], raw, value)
        elif inside:
            self._put(header[at : at + prefix], prefix, 4, length)
        elif value == len(header):  # the head of pixel data that lies elsewhere
            self._put(header[at : at + prefix], prefix, 0, 4)
        else:
            return False
        return True

    def _enter(self, place: int, raw_length: bytes, at: int) -> None:
        if len(self._outer) >= _MOST_NESTED:
            raise struct.error
        self._outer.append((self._place, self._stop))
        self._place = place
        self._stop = -1 if raw_length == _UNDEFINED else at + int.from_bytes(raw_length, "little")

    def _put(self, prefix: bytes, prefix_size: int, width: int, size: int) -> None:
        start = self.at + prefix_size + width
        self.kinds.append(self._keys.number(self._place, prefix, width, 0 if width else size))
        self.values.append(self._header[start : start + size])
        self.at = start + size

    def put_rest(self) -> None:
        self.kinds.append(self._keys.number(-2, b"", 0, _REST))
        self.values.append(self._header[self.at :])


def cut_header(header: bytes, keys: Keys) -> Tokens:
    """Cut a header; what is not understood is its last token."""
    cutter = _Cutter(header, keys)
    with contextlib.suppress(struct.error):  # what struct finds cut short is left for the last token
        cutter.cut()
    if cutter.at < len(header):
        cutter.put_rest()
    return cutter.kinds, cutter.values
