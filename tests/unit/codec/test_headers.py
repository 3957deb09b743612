"""Headers come back whatever they are, and those of a series come back from little."""

from __future__ import annotations

import base64
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trees
from gpushrink.codec import bytestream
from gpushrink.codec.headers import decode_headers, encode_headers, encoder, limits, numbers, sections
from gpushrink.codec.headers.edits import find_steps
from gpushrink.codec.headers.tokens import Keys, cut_header
from gpushrink.codec.varint import Cursor, pack_varint
from gpushrink.errors import CorruptError

EXAMPLE = bytes.fromhex(
    "373700 10 0602080018005549 0602200013004953 0400020101 03000000 02e0e0 06000101000101"
    "020802 0406060000 0400000001 0401020102 00 101000 312e322e332e3800 393130 3820393130 000000"
)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Make an element of explicit VR."""
    head = group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr
    long = vr in (b"OB", b"UN", b"SQ")
    return head + (b"\0\0" + len(value).to_bytes(4, "little") if long else len(value).to_bytes(2, "little")) + value


def example_headers() -> list[bytes]:
    """Make the headers of the specification's example."""
    return [
        element(8, 0x18, b"UI", b"1.2.3.%d" % k + b"\0" * (k < 10)) + element(0x20, 0x13, b"IS", b"%d " % k)
        for k in (8, 9, 10)
    ]


def series_headers(count: int = 40) -> list[bytes]:
    """Make what lies before the pixels of the slices of a series, with a private blob that changes a little."""
    blob = bytearray(random.Random(1).randbytes(3000))
    out = []
    for k in range(count):
        blob[100 + k % 7] = k
        whole = trees.dicom_bytes(np.zeros((4, 4), np.uint16), number=k + 1, z=k * 1.25)
        item = (
            b"\xfe\xff\0\xe0\xff\xff\xff\xff" + element(8, 0x1155, b"UI", b"1.2.%d" % k) + b"\xfe\xff\x0d\xe0\0\0\0\0"
        )
        nested = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + item * (1 + k % 2) + b"\xfe\xff\xdd\xe0\0\0\0\0"
        out.append(whole[:-44] + nested + element(0x29, 0x1010, b"OB", bytes(blob)) + whole[-44:-32])
    return out


def decoded(payload: bytes | None, headers: list[bytes]) -> bytes:
    """Decode a payload of headers."""
    assert payload is not None
    return bytes(decode_headers(payload, sum(map(len, headers))))


def test_example_of_the_specification_is_coded_as_it_says() -> None:
    """The bytes are those of docs/format-headers.md, both ways."""
    headers = example_headers()
    assert encode_headers(headers, effort=1) == EXAMPLE
    assert decoded(EXAMPLE, headers) == b"".join(headers)


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_headers_of_a_series_come_back_from_what_each_changes(effort: int) -> None:
    """A slice costs a few bytes, far fewer than LZMA needs."""
    headers = series_headers()
    payload = encode_headers(headers, effort=effort)
    assert decoded(payload, headers) == b"".join(headers)
    first = encode_headers(headers[:1], effort=effort)
    assert payload is not None
    assert first is not None
    assert len(payload) - len(first) < 20 * len(headers)
    assert len(payload) < len(bytestream.squeeze(b"".join(headers))[1])


def test_headers_of_other_shapes_in_turn_come_back() -> None:
    """Pieces before and after the pixels take turns, and so do slices of two series."""
    headers = []
    for k, header in enumerate(series_headers(30)):
        headers += [header, b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0abcd" if k % 3 else b"\0\0"]
    assert decoded(encode_headers(headers, effort=0), headers) == b"".join(headers)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), pieces=st.lists(st.binary(min_size=1, max_size=60), max_size=4))
def test_headers_changed_anyhow_come_back(seed: int, pieces: list[bytes]) -> None:
    """Bytes changed, cut out and put in, and bytes that are no headers at all."""
    source = random.Random(seed)
    headers = list(pieces)
    base = bytearray(source.choice(series_headers(3)))
    for _ in range(source.randrange(1, 12)):
        changed = bytearray(base)
        for _ in range(source.randrange(4)):
            at = source.randrange(len(changed))
            match source.randrange(4):
                case 0:
                    changed[at] = source.randrange(256)
                case 1:
                    del changed[at : at + source.randrange(20)]
                case 2:
                    changed[at:at] = source.randbytes(source.randrange(20))
                case 3:
                    del changed[at:]
            changed = changed or bytearray(b"x")
        headers.append(bytes(changed))
        if source.randrange(2):
            base = changed
    payload = encode_headers(headers, effort=0)
    if payload is not None:
        assert decoded(payload, headers) == b"".join(headers)
    keys = Keys()
    for header in headers:
        kinds, values = cut_header(header, keys)
        joined = [
            key.prefix + (len(value).to_bytes(key.width, "little") if key.width else b"") + value
            for key, value in zip((keys.all[kind] for kind in kinds), values, strict=True)
        ]
        assert b"".join(joined) == header


@settings(max_examples=300, deadline=None)
@given(old=st.binary(max_size=200), new=st.binary(max_size=200), share=st.booleans(), data=st.data())
def test_steps_lead_from_old_to_new(old: bytes, new: bytes, share: bool, data: st.DataObject) -> None:
    """Copying, passing over and putting gives the new value, and never reaches past the old."""
    if share and old:
        changed = bytearray(old)
        for at in data.draw(st.lists(st.integers(0, len(old) - 1), max_size=6)):
            changed[at] ^= 1
        new = bytes(changed)
    steps = find_steps(old, new)
    if steps:
        out, at = b"", 0
        for copied, dropped, put in steps:
            out += old[at : at + copied] + put
            at += copied + dropped
            assert at <= len(old)
        assert out + old[at:] == new


@given(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 300)))
def test_numbers_are_varints(values: list[int]) -> None:
    """Many at a time as one at a time; too many and those cut off are refused."""
    packed = numbers.pack_numbers(values)
    assert packed == b"".join(map(pack_varint, values))
    assert numbers.unpack_numbers(packed, len(values)) == values
    cursor = Cursor(packed, "numbers")
    assert [cursor.varint() for _ in values] == values
    with pytest.raises(CorruptError):
        numbers.unpack_numbers(packed + b"\x80", len(values) + 1)
    with pytest.raises(CorruptError):
        numbers.unpack_numbers(packed + b"\0", len(values))
    with pytest.raises(CorruptError):
        numbers.unpack_numbers(b"\x80" * 9 + b"\1", 9)


def test_base64_in_a_header_is_coded_as_what_it_stands_for() -> None:
    """Text inside base64 costs what the text costs."""
    text = b"".join(b"<parameter name='%d' value='%d'/>" % (k, k * k) for k in range(900))
    coded = base64.b64encode(text)
    header = element(9, 0x1001, b"OB", b"<x>" + coded + b"</x>" + b"12" * 2000)
    payload = encode_headers([header], effort=2)
    assert payload is not None
    assert decoded(payload, [header]) == header
    assert len(payload) < len(bytestream.lzma_compress(header)) * 0.8


@pytest.mark.parametrize(
    "name", ["MAX_HEADERS", "MAX_KEYS", "MAX_TOKENS", "MAX_SHAPES", "MAX_LAYOUT_TOKENS", "MAX_EDITS", "MAX_STEPS"]
)
def test_more_than_a_payload_may_hold_is_declined(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The writer keeps the limits that the reader insists on."""
    monkeypatch.setattr(encoder, name, 1)
    assert encode_headers([*series_headers(3), b"another shape"], effort=0) is None


def test_empty_headers_are_declined() -> None:
    """A header has a token at least."""
    assert encode_headers([b"ab", b""], effort=0) is None


def example_parts() -> tuple[dict[str, bytes], bytes]:
    """Take the example apart."""
    return sections.parse_sections(EXAMPLE, 79)


WRONG: dict[str, tuple[str, bytes]] = {
    "width that is none": ("keys", b"\6\3\x08\0\x18\0UI\6\2\x20\0\x13\0IS"),
    "key cut off": ("keys", b"\6\2\x08\0\x18\0UI\6\2\x20\0\x13\0I"),
    "key without token": ("keys", b"\6\2\x08\0\x18\0UI\6\2\x20\0\x13\0IS\0\0"),
    "token without key": ("keys", b"\6\2\x08\0\x18\0UI"),
    "parent that is none": ("layouts", b"\1\2\1\1"),
    "token of no parent": ("layouts", b"\0\2\1\0"),
    "layout cut off": ("layouts", b"\0\3\1\1"),
    "half a layout": ("layouts", b"\0\2\1\1\0"),
    "layout of no tokens": ("layouts", b"\0\2\1\1\0\0"),
    "layout without header": ("layouts", b"\0\2\1\1\1\1\0"),
    "key before the first": ("layouts", b"\0\2\1\3\1"),
    "header without layout": ("order", b"\0\0\1"),
    "one header more": ("order", b"\0\0\0\0"),
    "flag where none belongs": ("flags", b"\xe1\xe0"),
    "flags missing": ("flags", b"\xe0"),
    "flags left over": ("flags", b"\xe0\xe0\0"),
    "edit without flag": ("flags", b"\xe0\xc0"),
    "forms missing": ("forms", b"\0\1\1\0\1"),
    "length for a step": ("lengths", b"\x08\2\0"),
    "steps missing": ("forms", b"\0\1\1\0\1\0"),
    "copy past the reference": ("copied", b"\x06\x09\0\0"),
    "drop past the reference": ("dropped", b"\0\0\0\4"),
    "drop below nothing": ("dropped", b"\0\0\0\5"),
    "put past the literals": ("put", b"\1\2\1\3"),
    "literals left over": ("put", b"\1\2\1\1"),
}


@pytest.mark.parametrize("why", WRONG)
def test_payload_with_one_part_wrong_is_corrupt(why: str) -> None:
    """Each check of the reader has a payload that only it refuses."""
    parts, literals = example_parts()
    name, wrong = WRONG[why]
    del parts["runs"]
    right = sections.pack_sections(parts, literals, limit=200, effort=0)
    assert right is not None
    assert len(decode_headers(right, 79)) == 79
    parts[name] = wrong
    payload = sections.pack_sections(parts, literals, limit=200, effort=0)
    assert payload is not None
    with pytest.raises(CorruptError):
        decode_headers(payload, 79)


@pytest.mark.parametrize("size", [0, 60, 78, 80, 1 << 20])
def test_payload_for_another_size_is_corrupt(size: int) -> None:
    """The headers sum to the block's size."""
    with pytest.raises(CorruptError):
        decode_headers(EXAMPLE, size)


@pytest.mark.parametrize("runs", [b"\0", b"\0\0", b"\0\2", b"\x63\1", b"\0\1\0"])
def test_wrong_runs_of_base64_are_corrupt(runs: bytes) -> None:
    """Pairs that use up the binary and stay inside the text."""
    plan = b"\0" * (len(limits.PARTS) - 1) + bytes([len(runs)]) + runs
    payload = b"".join(pack_varint(len(part)) * 2 + b"\0" + part for part in (plan, b"text", b"abc"))
    with pytest.raises(CorruptError):
        sections.parse_sections(payload, 100)
    plan = b"\0" * (len(limits.PARTS) - 1) + b"\2\2\1"
    payload = b"".join(pack_varint(len(part)) * 2 + b"\0" + part for part in (plan, b"text", b"abc"))
    assert sections.parse_sections(payload, 100)[1] == b"te" + base64.b64encode(b"abc") + b"xt"
    with pytest.raises(CorruptError):
        sections.parse_sections(payload + b"\0", 100)
