"""Damaged and hostile payloads of headers: refused or decoded, and nothing else happens."""

from __future__ import annotations

import random
import time
import tracemalloc

import numpy as np
import pytest

import trees
from gpushrink.codec.headers import decode_headers, encode_headers, limits, sections
from gpushrink.codec.varint import pack_varint, pack_varints
from gpushrink.errors import ArchiveError, CorruptError


def stored_headers() -> tuple[bytes, int]:
    """Return a payload whose sections are stored, so that damage reaches every check, and its decoded size."""
    headers = []
    for k in range(24):
        whole = trees.dicom_bytes(np.zeros((4, 4), np.uint16), number=k, z=k * 1.5 if k % 5 else None)
        headers += [whole[:-32], b"tail%d" % (k % 3)]
    payload = encode_headers(headers, effort=0)
    assert payload is not None
    size = sum(map(len, headers))
    parts, literals = sections.parse_sections(payload, size)
    plan = b"".join(pack_varint(len(parts[name])) + parts[name] for name in limits.PARTS)
    return b"".join(pack_varint(len(one)) * 2 + b"\0" + one for one in (plan, literals, b"")), size


def try_decode(payload: bytes, size: int) -> bool:
    """Return whether the payload decodes; any other failure than ArchiveError is a failure of the test."""
    try:
        return len(decode_headers(payload, size)) == size
    except ArchiveError:
        return False


def test_payload_with_flipped_bits_is_refused_or_decoded() -> None:
    """Whatever bits are flipped, decoding ends in bytes of the right number or in ArchiveError."""
    good, size = stored_headers()
    assert try_decode(good, size)
    source, refused = random.Random(3), 0
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(source.randrange(1, 4)):
            # Half of the flips fall on the plan behind the keys, where the harm is greatest.
            plan = sections.parse_sections(good, size)[0]
            first, end = len(plan["keys"]), sum(map(len, plan.values()))
            place = source.randrange(first, end) if source.randrange(2) else source.randrange(len(bad))
            bad[place] ^= 1 << source.randrange(8)
        refused += not try_decode(bytes(bad), size)
    assert 500 < refused < 3000


def test_payload_cut_short_is_refused() -> None:
    """No beginning of a payload is taken for the whole."""
    good, size = stored_headers()
    for length in range(len(good)):
        assert not try_decode(good[:length], size)


def test_payload_of_random_bytes_is_refused() -> None:
    """Bytes that no encoder wrote are refused."""
    source = random.Random(4)
    for _ in range(500):
        assert not try_decode(source.randbytes(source.randrange(200)), source.choice((1, 100, 1 << 27)))


def hostile(literals: bytes = b"", **parts: bytes) -> bytes:
    """Return a payload of given parts."""
    every = {name: parts.get(name, b"") for name in limits.PARTS if name != "runs"}
    payload = sections.pack_sections(every, literals, limit=1 << 27, effort=0)
    assert payload is not None
    return payload


SIZE = 1 << 27
KEY = pack_varint(4000) + b"\0" + bytes(4000)
BOMBS = {
    # One key of 4000 bytes, a million tokens.
    "tokens": lambda: hostile(
        keys=KEY,
        layouts=pack_varints([0, 1 << 20]) + b"\1" + b"\3" * ((1 << 20) - 1),
        order=b"\0",
        flags=bytes(1 << 20),
    ),
    # One token, as many headers as may be.
    "headers": lambda: hostile(keys=KEY, layouts=b"\0\1\1", order=bytes(1 << 18), flags=bytes(1 << 15)),
    # A million empty tokens in each of sixteen headers.
    "nothing": lambda: hostile(
        keys=b"\0\0",
        layouts=pack_varints([0, 1 << 20]) + b"\1" + b"\3" * ((1 << 20) - 1),
        order=bytes(16),
        flags=bytes(2 << 20),
    ),
    # A value that doubles by nothing but its edits.
    "edits": lambda: hostile(
        b"x" * (1 << 20),
        keys=b"\0\0",
        layouts=b"\0\1\1",
        order=bytes(1 << 18),
        flags=b"\xff" * (1 << 15),
        forms=b"\0" + b"\1" * ((1 << 18) - 1),
        lengths=pack_varint((1 << 20) - (1 << 18) + 1),
        copied=bytes((1 << 18) - 1),
        dropped=b"\1" * ((1 << 18) - 1),
        put=b"\1" * ((1 << 18) - 1),
    ),
    # Shapes of the same parent over and over.
    "shapes": lambda: hostile(
        keys=KEY,
        layouts=b"\0\1\1" + b"\1\1\0" * (limits.MAX_SHAPES - 1),
        order=pack_varints(range(limits.MAX_SHAPES)),
        flags=bytes(limits.MAX_SHAPES),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_payload_that_claims_much_ends_in_bounded_time_and_memory(name: str) -> None:
    """A few megabytes that claim all that a block may hold, and more."""
    payload = BOMBS[name]()
    assert len(payload) < 2 << 20
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError):
            decode_headers(payload, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 600 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 60
