"""Matrix products that stay on their own thread.

Slabs are coded by threads of their own. A BLAS that starts threads for each small product as well
makes them wait for each other: fits were seen to take ten times as long on two busy cores. Products
below OpenBLAS's threshold are never split, so long ones are made of many short ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT_LENGTH", "multiply_exactly"]

# OpenBLAS: rows x columns x depth of a product that one thread makes; half of it, for safety.
_LONE_PRODUCT: Final = 65536 * 2


# So many products are added in doubles; `fit.weight_bits` keeps their sum below 2^53, where every whole number has one.
EXACT_LENGTH: Final = 512


def multiply_exactly(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return left @ right.T as whole numbers, for whole numbers of which 512 products sum to less than 2^53.

    Within a block every partial sum is a whole number that a double holds, so the order of a BLAS does not show; the
    blocks are added as integers.
    """
    rows, long = left.shape
    block = min(EXACT_LENGTH, max(8, _LONE_PRODUCT // max(1, rows * len(right))))
    whole = long // block * block
    one = left[:, :whole].reshape(rows, -1, block).transpose(1, 0, 2)
    other = right[:, :whole].reshape(len(right), -1, block).transpose(1, 2, 0)
    total: NDArray[np.int64] = np.matmul(one, other).astype(np.int64).sum(axis=0)
    if whole < long:
        total += (left[:, whole:] @ right[:, whole:].T).astype(np.int64)
    return total
