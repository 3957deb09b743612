"""Integers of no fixed size, and the cursor that takes untrusted bytes apart.

Source: docs/format.md#notation.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpushrink.errors import CorruptError

__all__ = ["VARINT_BYTES", "Cursor", "pack_column", "pack_svarint", "pack_varint", "pack_varints"]

VARINT_BYTES = 9


def pack_varint(value: int) -> bytes:
    """Code an integer from 0 to 2^63 - 1 as unsigned LEB128."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{value} is no varint")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_svarint(value: int) -> bytes:
    """Code a signed integer, small magnitudes short."""
    return pack_varint(value << 1 if value >= 0 else (-value << 1) - 1)


def pack_varints(values: Iterable[int]) -> bytes:
    """Code integers one after another."""
    return b"".join(map(pack_varint, values))


def pack_column(values: Iterable[int]) -> bytes:
    """Code each value as its difference from the one before it."""
    out, last = [], 0
    for value in values:
        out.append(pack_svarint(value - last))
        last = value
    return b"".join(out)


class Cursor:
    """Walk over untrusted bytes; every read is checked against what is left.

    Raises
    ------
    CorruptError
        From every method, when the bytes do not hold what the method reads.
    """

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._what = what

    def fail(self, why: str) -> CorruptError:
        """Make the error that says what is wrong with these bytes."""
        return CorruptError(f"{self._what}: {why}")

    @property
    def left(self) -> int:
        """Count the bytes not yet read."""
        return len(self._data) - self._at

    def take(self, count: int) -> memoryview:
        """Read `count` bytes."""
        if count > self.left:
            raise self.fail(f"{count} bytes wanted, {self.left} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> memoryview:
        """Read all that is left."""
        return self.take(self.left)

    def byte(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def varint(self, limit: int = (1 << 63) - 1) -> int:
        """Read an unsigned integer of at most `limit`."""
        value = shift = 0
        for _ in range(VARINT_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if value > limit:
                    raise self.fail(f"value {value} is over its limit {limit}")
                return value
        raise self.fail("an integer has too many bytes")

    def svarint(self) -> int:
        """Read a signed integer."""
        value = self.varint()
        return value >> 1 if not value & 1 else -((value + 1) >> 1)

    def column(self, count: int) -> list[int]:
        """Read `count` integers coded as differences."""
        if count > self.left:  # each takes a byte at least, so a huge count cannot cost memory
            raise self.fail(f"{count} values wanted, {self.left} bytes left")
        # Inline, not by way of svarint: columns of a hostile archive have a million values.
        data, at, last = bytes(self._data[self._at :][: count * VARINT_BYTES]), 0, 0
        out = []
        try:
            for _ in range(count):
                value = data[at]
                at += 1
                if value > 0x7F:
                    value &= 0x7F
                    for shift in range(7, 7 * VARINT_BYTES, 7):
                        byte = data[at]
                        at += 1
                        value |= (byte & 0x7F) << shift
                        if byte < 0x80:
                            break
                    else:
                        raise self.fail("an integer has too many bytes")
                last += -((value + 1) >> 1) if value & 1 else value >> 1
                out.append(last)
        except IndexError:
            raise self.fail("a column is cut off") from None
        self._at += at
        return out

    def end(self) -> None:
        """Insist that nothing is left."""
        if self.left:
            raise self.fail(f"{self.left} bytes too many")
