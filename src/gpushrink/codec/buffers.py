"""Large runs of bytes put together without holding up other threads.

Slices of bytes, and `bytes.join` where a part is not bytes itself, copy with the interpreter locked: for a slab of some
megabytes that is a millisecond in which no other thread runs. numpy copies unlocked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffer", "join_large"]

# What holds bytes: a memoryview has items of one byte.
Buffer: TypeAlias = "bytes | memoryview"


def join_large(parts: Sequence[Buffer | NDArray[Any]]) -> memoryview:
    """Join parts in new memory; arrays are taken as the bytes they hold."""
    arrays = [
        part.reshape(-1).view(np.uint8) if isinstance(part, np.ndarray) else np.frombuffer(part, np.uint8)
        for part in parts
        if len(part)
    ]
    whole = np.concatenate(arrays) if arrays else np.zeros(0, np.uint8)
    return memoryview(whole).toreadonly()  # type: ignore[arg-type]  # numpy's stubs lack the protocol before 3.12
