"""Coded slabs in parts: what they hold is what they are."""

from __future__ import annotations

import numpy as np
import pytest

from gpushrink.codec.buffers import Buffer, size_of
from gpushrink.codec.volume import encode_slab, encode_slab_parts


def held_bytes(part: Buffer) -> int:
    """Return the bytes of the memory that a part keeps alive."""
    owner = part.obj if isinstance(part, memoryview) else part
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return owner.nbytes if isinstance(owner, np.ndarray) else len(owner)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("content", ["flat", "noisy", "random"])
def test_parts_keep_nothing_else_alive(content: str, engine: str) -> None:
    """What waits to be written is counted by its size: an empty view of a slab's tokens would hold all of them."""
    rng = np.random.default_rng(5)
    spread = {"flat": 0, "noisy": 40, "random": 30_000}[content]
    samples = rng.integers(-spread, spread + 1, (3, 90, 110)).astype(np.int16)
    parts = encode_slab_parts(samples, level="fast", engine=engine)  # type: ignore[arg-type]
    assert all(len(part) for part in parts)
    assert b"".join(parts) == encode_slab(samples, level="fast", engine="numpy")
    # A chunk's words and a few bytes of rounding; the tokens alone would be 29,700.
    assert sum(map(held_bytes, parts)) <= size_of(parts) + 16
