"""The simple volume stage: differences along axes, byte planes, the matched stage.

It takes samples of 8, 16 or 32 bits (floats as their bit patterns) and every bit pattern survives: all
arithmetic is modulo 2^bits. Source: docs/format.md#planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from gpushrink.codec import matched
from gpushrink.errors import CorruptError

__all__ = ["CHOICES", "choose", "decode", "encode", "shortlist"]

_LEVEL = 3

# Axes of [slice, component, row, column] by bit: column, row, slice, component.
_AXIS_OF_BIT = (3, 2, 0, 1)

# (axes, fold) worth trying: as it is, along the row, the gradient in the slice, the slice before, both.
CHOICES = ((0, 0), (8, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (7, 1), (9, 1), (11, 1), (15, 1))

_COMPONENT = 8
_PLAIN_WEIGHT = 1 / 1.12

Samples = NDArray[np.unsignedinteger[Any]]


def encode(samples: Samples, *, axes: int, fold: int) -> bytes:
    """Code an array of samples.

    Parameters
    ----------
    samples
        Shape [slice, component, row, column], dtype uint8, uint16 or uint32.
    axes, fold
        As docs/format.md#planes has them; `choose` finds good ones.
    """
    planes = _split(samples, axes, fold)
    return bytes([axes, fold]) + matched.encode(planes.tobytes(), row=samples.shape[3])


def _split(samples: Samples, axes: int, fold: int) -> NDArray[np.uint8]:
    """Take differences and give the byte planes, shape (bytes of a sample, samples)."""
    array = samples
    for bit, axis in enumerate(_AXIS_OF_BIT):
        if axes >> bit & 1 and array.shape[axis] > 1:
            array = _difference(array, axis)
    if fold:
        sign = np.negative(array >> (array.itemsize * 8 - 1))  # all ones where negative
        array = (array << 1) ^ sign
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little.reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T)


def decode(data: memoryview, shape: tuple[int, int, int, int], item: int) -> Samples:
    """Invert `encode`.

    Parameters
    ----------
    shape
        [slice, component, row, column].
    item
        Bytes per sample: 1, 2 or 4.

    Raises
    ------
    CorruptError
        If `data` does not hold exactly such an array.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) < 2 or data[0] > 15 or data[1] > 1:
        raise CorruptError("a plane-coded slab has an unknown head")
    axes, fold = data[0], data[1]
    planes = np.frombuffer(matched.decode(data[2:], item * count), np.uint8).reshape(item, count)
    little = np.ascontiguousarray(planes.T).view(f"<u{item}").reshape(shape)
    array: Samples = little.astype(little.dtype.newbyteorder("="), copy=False)
    if fold:
        array = (array >> 1) ^ np.negative(array & 1)
    for bit, axis in enumerate(_AXIS_OF_BIT):
        if axes >> bit & 1 and array.shape[axis] > 1:
            array = np.add.accumulate(array, axis=axis, dtype=array.dtype)
    return array


def choose(samples: Samples, among: Sequence[tuple[int, int]] = CHOICES) -> tuple[int, int, int]:
    """Find the cheapest (axes, fold) for an array or a sample of it, as Zstandard sees it.

    Returns
    -------
    tuple of int
        axes, fold and the size in bytes under Zstandard; the matched stage makes it smaller still, by 0 to 25 %.
    """
    return _try(samples, among)[0]


def shortlist(samples: Samples, most: int) -> list[tuple[int, int]]:
    """Give the cheapest (axes, fold) for a small sample, for `choose` to look at on a larger one."""
    return [(axes, fold) for axes, fold, _ in _try(samples, CHOICES)[:most]]


def _try(samples: Samples, among: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return axes, fold and size of choices, the best first."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for axes, fold in among:
        useful = sum(1 << bit for bit, axis in enumerate(_AXIS_OF_BIT) if axes >> bit & 1 and samples.shape[axis] > 1)
        if (useful, fold) in found or (useful == 0 and axes):
            continue
        size = sum(len(compressor.compress(plane.tobytes())) for plane in _split(samples, useful, fold))
        # Drawings have few values, their differences more, which Zstandard minds less than the matched stage.
        found[useful, fold] = size * (_PLAIN_WEIGHT if useful in (0, _COMPONENT) else 1.0), size
    return [(*choice, found[choice][1]) for choice in sorted(found, key=lambda choice: found[choice][0])]


def _difference(array: Samples, axis: int) -> Samples:
    out = array.copy()
    head = [slice(None)] * array.ndim
    tail = [slice(None)] * array.ndim
    head[axis], tail[axis] = slice(1, None), slice(None, -1)
    np.subtract(array[tuple(head)], array[tuple(tail)], out=out[tuple(head)])
    return out
