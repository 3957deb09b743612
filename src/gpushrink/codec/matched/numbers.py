"""Numbers of any size as tokens of a byte each and the bits below them.

Source: docs/format-matched.md#numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpushrink.errors import CorruptError

if TYPE_CHECKING:
    from gpushrink.codec.matched.engine import Engine

__all__ = ["LARGEST_TOKEN", "count_bits", "join_numbers", "split_numbers"]

_DIRECT = 16
_TOP_BITS = 2
_FIRST_EXPONENT = 4
LARGEST_TOKEN = _DIRECT + 4 * (28 - _FIRST_EXPONENT) - 1
"""The token of the largest numbers below 2^28."""


def count_bits(tokens: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the bits that follow each token."""
    wide = tokens.astype(np.int64)
    return np.where(wide < _DIRECT, 0, (wide - _DIRECT) // 4 + _FIRST_EXPONENT - _TOP_BITS)


def split_numbers(values: NDArray[np.int64], engine: Engine) -> tuple[NDArray[np.uint8], bytes]:
    """Split numbers from 0 to 2^28 - 1 in tokens and the bits below them."""
    # frexp only takes the exponent apart: exact.
    exponent = np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64) - 1
    large = values >= _DIRECT
    below = np.where(large, exponent - _TOP_BITS, 0)
    top = values >> below
    tokens = np.where(large, _DIRECT + 4 * (exponent - _FIRST_EXPONENT) + (top & 3), values)
    return tokens.astype(np.uint8), engine.put_bits(values, below)


def join_numbers(tokens: NDArray[np.uint8], coded: NDArray[np.uint8], engine: Engine) -> NDArray[np.int64]:
    """Invert `split_numbers`.

    Raises
    ------
    CorruptError
        If a token is too large, or the bits are more or fewer than the tokens want.
    """
    if len(tokens) and int(tokens.max()) > LARGEST_TOKEN:
        raise CorruptError("a matched block has a number out of range")
    below = count_bits(tokens)
    total = int(below.sum())
    if len(coded) != (total + 7) // 8:
        raise CorruptError("a matched block has bits too few or too many")
    if total & 7 and coded[-1] >> (total & 7):
        raise CorruptError("a matched block has bits set after its last number")
    wide = tokens.astype(np.int64)
    top = 4 + ((wide - _DIRECT) & 3)
    values: NDArray[np.int64] = np.where(wide < _DIRECT, wide, top << below)
    return values | engine.take_bits(coded, below)
