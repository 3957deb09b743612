"""Damaged volume slabs: they are refused or give samples, and nothing else happens."""

from __future__ import annotations

import numpy as np
import pytest

from gpushrink.codec.volume import decode_slab, encode_slab
from gpushrink.errors import ArchiveError

SHAPE = (4, 23, 31)


def stored_slab(level: str) -> bytes:
    """Return a slab of smooth noise, encoded."""
    z, y, x = np.indices(SHAPE)
    noise = np.random.default_rng(5).normal(0, 4, SHAPE)
    return encode_slab((300 + 90 * np.sin(x / 6 + z) + 50 * np.cos(y / 4) + noise).astype(np.uint16), level=level)


def try_decode(payload: bytes, engine: str) -> bool:
    """Return whether the payload decodes; any other failure than ArchiveError is a failure of the test."""
    try:
        decoded = decode_slab(payload, shape=SHAPE, dtype=np.uint16, engine=engine)
    except ArchiveError:
        return False
    assert decoded.shape == SHAPE
    return True


@pytest.mark.parametrize("engine", ["numpy", "auto"])
@pytest.mark.parametrize("level", ["fast", "default"])
def test_payload_with_flipped_bits_is_refused_or_decoded(level: str, engine: str) -> None:
    """Whatever bits are flipped, decoding ends in samples of the right shape or in ArchiveError."""
    good = stored_slab(level)
    draw = np.random.default_rng(6)
    refused = 0
    for _ in range(150 if engine == "numpy" else 600):
        bad = bytearray(good)
        # Half of the flips fall on the parameters, where the harm is greatest.
        reach = len(bad) if draw.integers(2) else min(len(bad), 400)
        for place in draw.integers(0, reach, draw.integers(1, 4)):
            bad[place] ^= 1 << draw.integers(8)
        refused += not try_decode(bytes(bad), engine)
    assert refused > 0
    assert try_decode(good, engine)


def test_payload_cut_short_is_refused() -> None:
    """No beginning of a slab is taken for the whole."""
    good = stored_slab("default")
    for length in [*range(40), *range(40, len(good), 37), len(good) - 1]:
        assert not try_decode(good[:length], "auto")


def test_payload_of_random_bytes_is_refused() -> None:
    """Bytes that no encoder wrote are refused."""
    draw = np.random.default_rng(7)
    for _ in range(200):
        noise = bytearray(draw.bytes(int(draw.integers(0, 300))))
        if noise:
            noise[0] = 1
        assert not try_decode(bytes(noise), "auto")


def test_payload_for_another_shape_is_refused() -> None:
    """The counts of a slab hold only for its own shape."""
    with pytest.raises(ArchiveError):
        decode_slab(stored_slab("fast"), shape=(4, 23, 30), dtype=np.uint16)
