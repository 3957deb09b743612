"""Large runs of bytes that are handed on without being copied.

Slices of bytes are copies, and joining puts megabytes into memory that the system must first clear: where a slab goes
from its coder to a file, that takes longer than some of the coding. So what is coded stays in the parts it came in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffer", "Parts", "size_of", "view_bytes"]

# What holds bytes: a memoryview has items of one byte.
Buffer: TypeAlias = "bytes | memoryview"
Parts: TypeAlias = "tuple[Buffer, ...]"
"""Bytes in parts, one after another; ``b"".join`` makes one of them where that is needed."""


def size_of(parts: Iterable[Buffer]) -> int:
    """Return the bytes of all parts."""
    return sum(map(len, parts))


def view_bytes(array: NDArray[Any]) -> memoryview:
    """View a C-contiguous array as the bytes it holds, read-only."""
    view = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # numpy's stubs lack the protocol before 3.12
    return view.toreadonly()
