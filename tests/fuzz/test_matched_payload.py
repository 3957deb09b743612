"""Damaged matched blocks: they are refused or give bytes, and nothing else happens."""

from __future__ import annotations

import numpy as np
import pytest

from gpushrink.codec import matched
from gpushrink.errors import ArchiveError

DRAW = np.random.default_rng(8)
DATA = (
    DRAW.integers(0, 30, 3000, dtype=np.uint8).tobytes()
    + b"tables of every frame, once more" * 9
    + np.cumsum(DRAW.normal(0, 30, 1500)).astype("<i2").tobytes()
) * 2


def try_decode(payload: bytes, engine: str, size: int = len(DATA)) -> bool:
    """Return whether the payload decodes; any other failure than ArchiveError is a failure of the test."""
    try:
        return len(matched.decode(payload, size, engine=engine)) == size
    except ArchiveError:
        return False


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_block_with_flipped_bits_is_refused_or_decoded(engine: str) -> None:
    """Whatever bits are flipped, decoding ends in bytes of the right size or in ArchiveError."""
    good = matched.encode(DATA)
    draw = np.random.default_rng(9)
    refused = 0
    for _ in range(200 if engine == "numpy" else 2000):
        bad = bytearray(good)
        # Half of the flips fall on the numbers and heads before the data, where the harm is greatest.
        reach = len(bad) if draw.integers(2) else min(len(bad), 600)
        for place in draw.integers(0, reach, draw.integers(1, 4)):
            bad[place] ^= 1 << draw.integers(8)
        refused += not try_decode(bytes(bad), engine)
    assert refused > 0
    assert try_decode(good, engine)


def test_block_cut_short_or_made_longer_is_refused() -> None:
    """No beginning of a block is taken for the whole, and nothing may follow."""
    good = matched.encode(DATA)
    for length in [*range(60), *range(60, len(good), 29), len(good) - 1]:
        assert not try_decode(good[:length], "auto")
    assert not try_decode(good + b"\0", "auto")


def test_random_bytes_are_refused_or_decoded() -> None:
    """Bytes that no encoder wrote never end in anything else."""
    draw = np.random.default_rng(10)
    for _ in range(2000):
        try_decode(draw.bytes(int(draw.integers(0, 120))), "auto", int(draw.integers(0, 5000)))
