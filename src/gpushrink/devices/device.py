"""The seam between orchestration and whatever holds the arrays: CuPy with nvCOMP, or the host emulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpushrink.codec.buffers import Buffer

__all__ = ["Device", "DeviceArray", "DeviceMemory", "Kernel"]

# A numpy.ndarray or a cupy.ndarray. CuPy has no types to check against, and what is done with one here (slicing,
# reshape, view, shape, dtype, nbytes) is what both share.
DeviceArray: TypeAlias = Any


@dataclass(frozen=True)
class Kernel:
    """One kernel: the file that ships it, its name, and the numbers it is compiled with.

    Attributes
    ----------
    file
        A name out of `gpushrink.kernels.kernel_names`, ending in ``.cu``.
    name
        The ``extern "C"`` function.
    defines
        Pairs of a macro and its value: the numbers that live in Python once.
    """

    file: str
    name: str
    defines: tuple[tuple[str, int | str], ...] = ()

    @cached_property
    def options(self) -> tuple[str, ...]:
        """Give the defines as compiler options."""
        return tuple(f"-D{macro}={value}" for macro, value in self.defines)


@dataclass(frozen=True)
class DeviceMemory:
    """What a device has, in bytes."""

    free_bytes: int
    total_bytes: int


class Device(Protocol):
    """Hold arrays and run kernels. Calls are in order; `get`, `compress_chunks` and `synchronize` wait for them.

    Arrays may be sliced and viewed by anyone; what reads or writes their elements goes through these methods, which
    alone are in order with each other.
    """

    @property
    def name(self) -> str:
        """Say which device this is, for reports."""
        ...

    def sibling(self) -> Device:
        """Return another queue on the same memory: its calls run beside this one's, in no order with them."""
        ...

    def release(self) -> None:
        """Give back memory that is kept for later but holds no array, of this queue and its siblings."""
        ...

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Allocate without a value."""
        ...

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Allocate zeros."""
        ...

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """Copy a C-contiguous host array to the device. The host array may be reused on return."""
        ...

    def put_all(self, arrays: Sequence[NDArray[Any]]) -> DeviceArray:
        """Copy C-contiguous host arrays of one type to the device, one after another, as an array of one axis."""
        ...

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """Copy a device array to new host memory, and wait for it."""
        ...

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """Copy between arrays of one shape and type on the device, in order with the launches."""
        ...

    def fill(self, target: DeviceArray, value: int) -> None:
        """Set every element, in order with the launches."""
        ...

    def launch(
        self,
        kernel: Kernel,
        *,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
        shared_bytes: int = 0,
    ) -> None:
        """Start a kernel. Scalars are numpy scalars of the parameter's size: a Python int has none."""
        ...

    def launch_turns(
        self,
        kernel: Kernel,
        *,
        turns: int,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
    ) -> None:
        """Start a kernel `turns` times, one after the other; the turn's number follows `args` as an int32.

        The way to many short steps: what `launch` prepares each time is prepared once.
        """
        ...

    def compress_chunks(self, data: DeviceArray, bounds: NDArray[np.int64]) -> list[bytes]:
        """Compress each ``data[bounds[i]:bounds[i + 1]]`` (uint8) as one zstd frame."""
        ...

    def decompress_chunks(self, frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> DeviceArray:
        """Decompress zstd frames one after another into a uint8 array.

        The caller has checked each frame's checksum and its named size: a device's decoder takes valid input only.

        Raises
        ------
        CorruptError
            If a frame is seen not to decode to its size.
        """
        ...

    def synchronize(self) -> None:
        """Wait for everything started."""
        ...

    def shift(self, target: DeviceArray, left: int, right: int) -> None:
        """Shift every sample left, then right, as its type does it: in place, in order with the launches."""
        ...

    def memory(self) -> DeviceMemory:
        """Tell what can be allocated now."""
        ...
