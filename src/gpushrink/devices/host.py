"""A device that is the host: numpy arrays, emulated kernels, libzstd in nvCOMP's place. For tests, not for speed."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import DTypeLike, NDArray

from gpushrink.codec.buffers import Buffer
from gpushrink.devices.device import DeviceArray, DeviceMemory, Kernel
from gpushrink.devices.emulation.build import Sanitizer
from gpushrink.devices.emulation.module import EmulatedModule
from gpushrink.devices.emulation.schedule import IN_ORDER, Schedule
from gpushrink.devices.program import compose
from gpushrink.errors import CorruptError

__all__ = ["HostDevice"]

_FILL = 0xC3  # what empty() holds: a kernel that relies on zeros is found


class _Ledger:
    """Count the bytes that live, for a device and its siblings."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self._lock = limit, 0, threading.Lock()

    def take(self, array: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            if self.used + array.nbytes > self.limit:
                raise MemoryError(f"{array.nbytes} bytes asked, {self.used} of {self.limit} in use")
            self.used += array.nbytes
        weakref.finalize(array, self._give, array.nbytes)
        return array

    def _give(self, size_bytes: int) -> None:
        with self._lock:
            self.used -= size_bytes


class HostDevice:
    """Implement `Device` on the host.

    Parameters
    ----------
    schedule
        The order in which threads and blocks run.
    sanitizer
        Run each launch watched, in a process of its own: slow, for small inputs.
    memory_bytes
        What the device pretends to have; allocations beyond it raise MemoryError, as on a card.
    """

    def __init__(
        self,
        *,
        schedule: Schedule = IN_ORDER,
        sanitizer: Sanitizer = Sanitizer.NONE,
        memory_bytes: int = 1 << 33,
    ) -> None:
        self._schedule = schedule
        self._sanitizer = sanitizer
        self._ledger = _Ledger(memory_bytes)
        self._modules: dict[tuple[str, tuple[str, ...]], EmulatedModule] = {}
        self.launches: dict[str, int] = {}

    @property
    def name(self) -> str:
        """Say which schedule runs."""
        return f"host emulation ({self._schedule}, sanitizer {self._sanitizer.value})"

    def sibling(self) -> HostDevice:
        """Return a device that shares the memory."""
        other = copy.copy(self)
        other._modules = {}
        return other

    def release(self) -> None:
        """Return: nothing is kept."""

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Allocate, filled with a byte that nobody means."""
        array = self.zeros(shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = _FILL
        return array

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Allocate zeros."""
        return self._ledger.take(np.zeros(shape, dtype))

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """Copy."""
        target = self.zeros(array.shape, array.dtype)
        target[...] = array
        return target

    def put_all(self, arrays: Sequence[NDArray[Any]]) -> DeviceArray:
        """Copy."""
        return self.put(np.concatenate([array.reshape(-1) for array in arrays]))

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """Copy."""
        return np.array(array, order="C", copy=True)

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """Copy."""
        target[...] = source

    def fill(self, target: DeviceArray, value: int) -> None:
        """Fill."""
        target[...] = value

    def launch(
        self,
        kernel: Kernel,
        *,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
        shared_bytes: int = 0,
    ) -> None:
        """Run a kernel under the schedule and wait."""
        key = (kernel.file, kernel.options)
        if key not in self._modules:
            self._modules[key] = EmulatedModule(
                compose(kernel.file), kernel.options, schedule=self._schedule, sanitizer=self._sanitizer
            )
        self.launches[kernel.name] = self.launches.get(kernel.name, 0) + 1
        self._modules[key].get_function(kernel.name)(grid, block, args, shared_mem=shared_bytes)

    def launch_turns(
        self,
        kernel: Kernel,
        *,
        turns: int,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
    ) -> None:
        """Run a kernel turn by turn."""
        for turn in range(turns):
            self.launch(kernel, grid=grid, block=block, args=[*args, np.int32(turn)])

    def compress_chunks(self, data: DeviceArray, bounds: NDArray[np.int64]) -> list[bytes]:
        """Compress with libzstd, with the options of the CPU path."""
        compressor = zstandard.ZstdCompressor(level=1, write_content_size=True, write_checksum=False)
        return [
            compressor.compress(data[begin:end].tobytes())
            for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]

    def decompress_chunks(self, frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> DeviceArray:
        """Decompress with libzstd."""
        decompressor = zstandard.ZstdDecompressor()
        parts = []
        for index, (frame, size) in enumerate(zip(frames, sizes.tolist(), strict=True)):
            try:
                part = decompressor.decompress(frame, allow_extra_data=False)
            except zstandard.ZstdError as error:
                raise CorruptError(f"zstd chunk {index} does not decode: {error}") from error
            if len(part) != size:
                raise CorruptError(f"zstd chunk {index} holds {len(part)} bytes where {size} belong")
            parts.append(part)
        return self.put(np.frombuffer(b"".join(parts), np.uint8))

    def synchronize(self) -> None:
        """Return: every launch has waited."""

    def shift(self, target: DeviceArray, left: int, right: int) -> None:
        """Shift."""
        target <<= left
        target >>= right

    def memory(self) -> DeviceMemory:
        """Tell what is left of the limit."""
        return DeviceMemory(self._ledger.limit - self._ledger.used, self._ledger.limit)
