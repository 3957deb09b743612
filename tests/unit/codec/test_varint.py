"""Integers of no fixed size come back, and nothing untrusted costs more than its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushrink.codec.varint import Cursor, pack_column, pack_svarint, pack_varint, pack_varints
from gpushrink.errors import CorruptError


@given(st.lists(st.integers(0, (1 << 63) - 1)))
def test_varints_of_any_values_come_back(values: list[int]) -> None:
    """Every value below 2^63 comes back and nothing is left."""
    cursor = Cursor(pack_varints(values), "test")
    assert [cursor.varint() for _ in values] == values
    cursor.end()


@given(st.lists(st.integers(-(1 << 61), (1 << 61) - 1)))
def test_columns_of_any_values_come_back(values: list[int]) -> None:
    """Values of either sign come back from their differences."""
    cursor = Cursor(pack_column(values), "test")
    assert cursor.column(len(values)) == values
    cursor.end()


@pytest.mark.parametrize(
    ("value", "coded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), ((1 << 63) - 1, "ff" * 8 + "7f")],
)
def test_varint_of_known_values_has_the_bytes_of_the_specification(value: int, coded: str) -> None:
    """The layout is LEB128, seven bits a byte, least significant first."""
    assert pack_varint(value).hex() == coded


@pytest.mark.parametrize(("value", "coded"), [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4)])
def test_svarint_of_small_values_is_small(value: int, coded: int) -> None:
    """Small magnitudes of either sign take small codes."""
    assert pack_svarint(value) == bytes([coded])


@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_varint_out_of_range_is_refused(value: int) -> None:
    """What would not come back is never written."""
    with pytest.raises(ValueError, match="varint"):
        pack_varint(value)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 8, b"\xff" * 9, b"\x80" * 9 + b"\x01"])
def test_varint_cut_or_too_long_is_corrupt(data: bytes) -> None:
    """An integer that does not end is damage."""
    with pytest.raises(CorruptError):
        Cursor(data, "test").varint()


def test_varint_over_its_limit_is_corrupt() -> None:
    """A value over what the caller allows is damage, at the limit it is not."""
    assert Cursor(pack_varint(10), "test").varint(10) == 10
    with pytest.raises(CorruptError, match="11"):
        Cursor(pack_varint(11), "test").varint(10)


def test_cursor_asked_for_more_than_is_left_is_corrupt() -> None:
    """Counts are compared with what is left before anything is allocated."""
    cursor = Cursor(b"abc", "test")
    for ask in (lambda: cursor.take(4), lambda: cursor.column(1 << 60)):
        with pytest.raises(CorruptError):
            ask()
    assert bytes(cursor.rest()) == b"abc"
    with pytest.raises(CorruptError):
        cursor.byte()


def test_cursor_with_bytes_left_at_the_end_is_corrupt() -> None:
    """What nobody reads is not ignored."""
    with pytest.raises(CorruptError, match="1 bytes too many"):
        Cursor(b"a", "test").end()
