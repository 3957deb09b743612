"""Call each of the volume codec's compiled functions once, as slabs do, so that numba keeps its machine code.

A part takes what is not its own from the reference engine, which needs no compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.volume import fit_sums, reference
from gpushrink.codec.volume.slab import Engines, decode_slab, encode_slab

__all__ = ["PARTS", "exercise"]

_LEVELS: Final = ("fast", "default")
_REFERENCE: Final = Engines(reference, fit_sums, "numpy")


def _samples() -> np.ndarray[tuple[int, int, int], np.dtype[np.int16]]:
    """Make a small slab that has something of everything: noise, large steps, a flat part."""
    draw = np.random.default_rng(1)
    z, y, x = np.indices((3, 20, 24))
    wave = 500 + 300 * np.sin(x / 5 + z / 3) * np.cos(y / 4) + draw.normal(0, 20, x.shape)
    samples: np.ndarray[tuple[int, int, int], np.dtype[np.int16]] = np.where(y < 4, 0, wave).astype(np.int16)
    return samples


def _predict() -> None:
    from gpushrink.codec.volume import numba_engine

    for level in _LEVELS:
        encode_slab(_samples(), level=level, engine=_REFERENCE._replace(kernels=numba_engine))


def _fit() -> None:
    from gpushrink.codec.volume import numba_fit

    for level in _LEVELS:
        encode_slab(_samples(), level=level, engine=_REFERENCE._replace(sums=numba_fit))


def _lines() -> None:
    from gpushrink.codec.volume import numba_engine

    samples = _samples()
    for level in _LEVELS:
        payload = encode_slab(samples, level=level, engine=_REFERENCE)
        engines = _REFERENCE._replace(kernels=numba_engine)
        decode_slab(payload, shape=samples.shape, dtype=samples.dtype, engine=engines)


def _segments() -> tuple[np.ndarray[tuple[int], np.dtype[np.uint8]], list[int]]:
    """Make segments that are coded in every way."""
    draw = np.random.default_rng(2)
    parts = [
        draw.geometric(0.2, 30_000).clip(0, 90),
        draw.geometric(0.3, 30_000).clip(0, 90),
        draw.integers(0, 256, 3000),
        np.full(900, 7),
        np.tile(draw.integers(0, 256, 500), 40),
    ]
    return np.concatenate(parts).astype(np.uint8), [len(part) for part in parts]


def _code() -> None:
    symbols, lengths = _segments()
    encode_segments(symbols, lengths, engine="numba")
    encode_segments(symbols[:40], [40], engine="numba")
    _read()


def _read() -> None:
    symbols, lengths = _segments()
    decode_segments(encode_segments(symbols, lengths, engine="numpy"), lengths, engine="numba")


PARTS: Final[dict[str, Callable[[], None]]] = {
    "predict": _predict,
    "fit": _fit,
    "lines": _lines,
    "code": _code,
    "read": _read,
}


def exercise(parts: Sequence[str]) -> None:
    """Exercise some of `PARTS`."""
    for part in parts:
        PARTS[part]()
