"""Matrix products that stay on their own thread.

Slabs are coded by threads of their own. A BLAS that starts threads for each small product as well
makes them wait for each other: fits were seen to take ten times as long on two busy cores. Products
below OpenBLAS's threshold are never split, so long ones are made of many short ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["multiply_long"]

# OpenBLAS: rows x columns x depth of a product that one thread makes; half of it, for safety.
_LONE_PRODUCT: Final = 65536 * 2


def multiply_long(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return left @ right.T for arrays of few rows, shapes (m, long) and (n, long), of different memory."""
    rows, long = left.shape
    block = max(8, _LONE_PRODUCT // max(1, rows * len(right)))
    whole = long // block * block
    total = np.zeros((rows, len(right)))
    if whole:
        one = left[:, :whole].reshape(rows, -1, block).transpose(1, 0, 2)
        other = right[:, :whole].reshape(len(right), -1, block).transpose(1, 2, 0)
        total += np.matmul(one, other).sum(axis=0)
    if whole < long:
        total += left[:, whole:] @ right[:, whole:].T
    return total
