"""Follow the elements of a DICOM file to its end: a parser that forgives a missing end would mend it in silence."""

from __future__ import annotations

import struct
import zlib

from gpushrink.convert.report import KeepSourceError

__all__ = ["check_whole"]

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_LENGTH = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DEEPEST = 64


def check_whole(data: bytes, uid: str) -> None:
    """Check that every element, item and sequence of a file ends where it says, and none beyond the file.

    Values of defined length are not looked into: what lies in them cannot be cut off by the file's end.

    Raises
    ------
    KeepSourceError
        The file ends within an element, or its structure cannot be followed.
    """
    explicit, order = uid != "1.2.840.10008.1.2", ">" if uid == "1.2.840.10008.1.2.2" else "<"
    try:
        # Group 2 is always explicit little endian; its first element holds its length. Source: PS3.10 7.1.
        (length,) = struct.unpack_from("<L", data, 140) if data[132:138] == b"\x02\0\0\0UL" else (None,)
        if length is None:
            raise KeepSourceError("the file meta information does not begin with its length")
        body = memoryview(data)[144 + length :]
        if uid == "1.2.840.10008.1.2.1.99":
            body = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(body))
        _Walk(body, order).elements(0, len(body), explicit, end_tag=None, depth=0)
    except (struct.error, zlib.error) as error:
        raise KeepSourceError(f"the file ends within an element: {error}") from error


class _Walk:
    """Hold the bytes and their order while the elements are followed."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order = data, order

    def elements(self, position: int, end: int, explicit: bool, *, end_tag: int | None, depth: int) -> int:
        if depth > _DEEPEST:
            raise KeepSourceError(f"sequences are nested deeper than {_DEEPEST}")
        while position < end:
            group, element = struct.unpack_from(self.order + "HH", self.data, position)
            tag = group << 16 | element
            if group == 0xFFFE:
                if tag == end_tag:
                    return position + 8
                raise KeepSourceError(f"an item delimiter stands where an element should, at byte {position}")
            position, vr, length = self._header(position + 4, explicit)
            if length == _UNDEFINED:
                # An UN of undefined length holds an implicit VR sequence. Source: PS3.5 6.2.2.
                position = self._items(position, end, explicit and vr != b"UN", depth + 1)
            else:
                position += length
            if position > end:
                raise KeepSourceError(f"the file ends within element {tag:08X}: it is truncated")
        if end_tag is not None:
            raise KeepSourceError("the file ends within a sequence: it is truncated")
        return position

    def _header(self, position: int, explicit: bool) -> tuple[int, bytes, int]:
        if not explicit:
            return position + 4, b"", int(struct.unpack_from(self.order + "L", self.data, position)[0])
        vr = bytes(self.data[position : position + 2])
        if not vr.isalpha() or not vr.isupper():
            raise KeepSourceError(f"no value representation stands at byte {position} of the data set")
        if vr in _LONG_LENGTH:
            return position + 8, vr, int(struct.unpack_from(self.order + "L", self.data, position + 4)[0])
        return position + 4, vr, int(struct.unpack_from(self.order + "H", self.data, position + 2)[0])

    def _items(self, position: int, end: int, explicit: bool, depth: int) -> int:
        while True:
            group, element, length = struct.unpack_from(self.order + "HHL", self.data, position)
            tag, position = group << 16 | element, position + 8
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise KeepSourceError(f"no item stands at byte {position - 8} of the data set")
            if length == _UNDEFINED:
                position = self.elements(position, end, explicit, end_tag=_ITEM_END, depth=depth)
            else:
                position += length
