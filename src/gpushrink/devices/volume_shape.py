"""What both ways of the volume codec on a device share: a slab's shape, its runs, its launch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import References, resolve_references
from gpushrink.devices.device import Device, Kernel
from gpushrink.devices.volume_program import TOKEN_DEFINES, TOKEN_WARPS, VOLUME_WARPS

__all__ = [
    "BLOCK_THREADS",
    "CONTEXTS",
    "SAMPLE_TYPES",
    "TILE_VALUES",
    "SlabGeometry",
    "ValueTiles",
    "bound_runs",
    "resolve_distances",
    "token_kernel",
]

BLOCK_THREADS: Final = 32 * VOLUME_WARPS
TILE_VALUES: Final = 32 * TOKEN_WARPS
# The numbers that kernels know sample types by.
SAMPLE_TYPES: Final = {np.dtype(np.uint8): 0, np.dtype(np.int8): 1, np.dtype(np.uint16): 2, np.dtype(np.int16): 3}
CONTEXTS: Final = 256


@dataclass(frozen=True)
class SlabGeometry:
    """A slab's shape with rows the shorter axis, and where its samples lie in the caller's array."""

    depth: int
    rows: int
    columns: int
    row_stride: int
    column_stride: int

    @classmethod
    def of(cls, shape: tuple[int, int, int]) -> SlabGeometry:
        """Describe the slab of a C-contiguous array of shape (slice, row, column)."""
        depth, rows, columns = shape
        if rows > columns:
            return cls(depth, columns, rows, 1, columns)
        return cls(depth, rows, columns, columns, 1)

    @property
    def area(self) -> int:
        """Give the samples of a plane."""
        return self.rows * self.columns

    @property
    def strides(self) -> list[np.generic]:
        """Give what a plane, a row and a column add to an index of the caller's array, as kernels take it."""
        return [np.int64(self.area), np.int64(self.row_stride), np.int64(self.column_stride)]

    @property
    def sizes(self) -> list[np.generic]:
        """Give rows and columns as kernels take them."""
        return [np.uint32(self.rows), np.uint32(self.columns)]

    def grid(self, count: int) -> tuple[int, int]:
        """Give the grid with one thread for each of `count` places, in each plane."""
        return -(-count // BLOCK_THREADS), self.depth


def resolve_distances(depth: int, references: References) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Give how many planes back each plane's references lie, 0 for none."""
    pairs = [resolve_references(z, references) for z in range(depth)]
    first = [0 if pair is None else z - pair[0] for z, pair in enumerate(pairs)]
    second = [0 if pair is None else z - pair[1] for z, pair in enumerate(pairs)]
    return np.array(first, np.int32), np.array(second, np.int32)


def token_kernel(name: str) -> Kernel:
    """Return one of the kernels of tokens.cu."""
    return Kernel("tokens.cu", name, TOKEN_DEFINES)


class ValueTiles:
    """The values of slabs that lie one after another, in tiles as the kernels of tokens.cu take them."""

    def __init__(self, device: Device, counts: Sequence[int]) -> None:
        self._device = device
        self.total = sum(counts)
        self.begins = device.put(np.cumsum([0, *counts]).astype(np.uint64))
        self._slabs, self._tiles = len(counts), -(-max(counts) // TILE_VALUES)
        self.bits = device.empty(self._slabs * self._tiles, np.uint32)
        self.bit_begins = device.empty(self._slabs * self._tiles, np.uint64)

    def launch(self, name: str, args: list[Any]) -> None:
        """Launch a kernel over all tiles."""
        self._device.launch(token_kernel(name), grid=(self._tiles, self._slabs), block=(TILE_VALUES,), args=args)

    def sum_bits(self) -> list[int]:
        """Find where each tile's raw bits begin; give how many each slab has."""
        totals = self._device.empty(self._slabs, np.uint64)
        args = [self.bits, np.uint32(self._tiles), self.bit_begins, totals]
        self._device.launch(token_kernel("sum_tiles"), grid=(self._slabs,), block=(TILE_VALUES,), args=args)
        found: list[int] = self._device.get(totals).tolist()
        return found


def bound_runs(counts: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Give where each (plane, context) run begins and ends in the values: uint32, shape (planes, 256)."""
    lengths = counts.sum(axis=0)
    ends = np.zeros((len(counts), CONTEXTS), np.uint32)
    ends[:, : counts.shape[1]] = np.cumsum(counts, axis=0) + (np.cumsum(lengths) - lengths)
    begins = ends.copy()
    begins[:, : counts.shape[1]] -= counts.astype(np.uint32)
    return begins, ends
