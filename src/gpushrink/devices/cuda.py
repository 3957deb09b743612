"""The CUDA device: CuPy for arrays and kernels, nvCOMP for zstd. The only module that knows either; it holds no logic.

Source: CuPy 14 and nvCOMP 6 reference; docs/design.md on what nvCOMP may be fed.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpushrink.codec.buffers import Buffer
from gpushrink.devices.device import DeviceArray, DeviceMemory, Kernel
from gpushrink.devices.host_part import on_host
from gpushrink.devices.pieces import copy_pieces
from gpushrink.devices.program import compose
from gpushrink.errors import CorruptError, DeviceUnavailableError

__all__ = ["NVCOMP_ALGORITHM", "NVCOMP_BITSTREAM", "CudaDevice"]

# RAW: a frame that libzstd reads. The native bitstreams of nvCOMP change between its versions.
NVCOMP_ALGORITHM: Final = "Zstd"
NVCOMP_BITSTREAM: Final = "RAW"
_ALIGNMENT: Final = 16
# nvCOMP's zstd takes 3.1 times the decoded bytes as scratch: this many at once keep it under 1 GiB.
_BATCH_BYTES: Final = 256 << 20
# Of page-locked memory CuPy keeps each size by itself, and the driver takes a millisecond for a few MB of a new one: of
# sizes above this only so many in each octave are asked for.
_PINNED_AS_IS: Final = 1 << 16
_PINNED_STEPS: Final = 4
# What one processor copies on the way to page-locked memory: some 0.3 ms.
_COPIED_AT_ONCE: Final = 2 << 20


def _pinned_size(size_bytes: int) -> int:
    """Give a size that others share: at most a quarter more."""
    if size_bytes <= _PINNED_AS_IS:
        return size_bytes
    step = 1 << (size_bytes - 1).bit_length() - 1 - (_PINNED_STEPS - 1).bit_length()
    return -(-size_bytes // step) * step


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


class CudaDevice:
    """Implement `Device` on one GPU, on one stream of its own: use one sibling for each slab in flight.

    Parameters
    ----------
    ordinal
        Which GPU, as CUDA counts them.
    memory_bytes
        A cap on what CuPy's pool may hold; None leaves it to the card.

    Raises
    ------
    DeviceUnavailableError
        If CuPy, its NVRTC, nvCOMP, a driver or this GPU is missing.
    """

    def __init__(self, ordinal: int = 0, *, memory_bytes: int | None = None) -> None:
        try:
            self._cupy: Any = import_module("cupy")
            self._nvcomp: Any = import_module("nvidia.nvcomp")
        except ImportError as error:
            raise DeviceUnavailableError(f"cuda needs CuPy and nvCOMP ({error}); gpushrink doctor says how") from error
        self._ordinal = ordinal
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._functions: dict[Kernel, Any] = {}
        self._compiling = threading.Lock()
        self._pool = self._cupy.cuda.MemoryPool()
        self._begin_stream()
        if memory_bytes is not None:
            with self._device:  # a limit is the current device's
                self._pool.set_limit(size=memory_bytes)

    def _begin_stream(self) -> None:
        ordinal = self._ordinal
        # Page-locked memory on its way to the card, with the event that says when it has arrived.
        self._staged: deque[tuple[Any, NDArray[Any]]] = deque()
        try:
            self._device = self._cupy.cuda.Device(ordinal)
            with self._device:
                self._stream = self._cupy.cuda.Stream(non_blocking=True)
                self._codec = self._nvcomp.Codec(
                    algorithm=NVCOMP_ALGORITHM,
                    bitstream_kind=getattr(self._nvcomp.BitstreamKind, NVCOMP_BITSTREAM),
                    device_id=ordinal,
                    cuda_stream=self._stream.ptr,
                )
        except (RuntimeError, ImportError) as error:  # CUDARuntimeError and nvCOMP's errors are RuntimeErrors
            raise DeviceUnavailableError(f"cuda:{ordinal} cannot be used: {error}; see gpushrink doctor") from error

    def __del__(self) -> None:
        # A codec works on its stream to its end; attributes die in the order they were set, the stream first.
        self.__dict__.pop("_codec", None)

    def sibling(self) -> CudaDevice:
        """See `Device`: a stream of its own, the same pool, limit and compiled kernels."""
        other = copy.copy(self)
        other._begin_stream()
        return other

    def release(self) -> None:
        """See `Device`."""
        with self._device:
            self._pool.free_all_blocks()

    @property
    def name(self) -> str:
        """Give the card's name."""
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._ordinal)
        return f"cuda:{self._ordinal} {properties['name'].decode()}"

    @contextmanager
    def _current(self) -> Iterator[None]:
        with self._device, self._stream, self._cupy.cuda.using_allocator(self._pool.malloc):
            try:
                yield
            except self._cupy.cuda.memory.OutOfMemoryError as error:
                self._pool.free_all_blocks()
                raise MemoryError(str(error)) from error

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """See `Device`."""
        with self._current():
            return self._cupy.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """See `Device`."""
        with self._current():
            return self._cupy.zeros(shape, dtype)

    def pinned(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Allocate page-locked host memory: copies from it run beside kernels."""
        count = int(np.prod(shape, dtype=np.int64))
        block = self._cupy.cuda.alloc_pinned_memory(_pinned_size(max(1, count * np.dtype(dtype).itemsize)))
        return np.frombuffer(block, dtype, count).reshape(shape)

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """See `Device`; staged in page-locked memory, so that the copy runs beside other streams' kernels."""
        return self.put_all([array]).reshape(array.shape)

    def put_all(self, arrays: Sequence[NDArray[Any]]) -> DeviceArray:
        """See `Device`; one copy for all."""
        count = sum(array.size for array in arrays)
        with self._current():
            target = self._cupy.empty(count, arrays[0].dtype)
            if not count:
                return target
            while self._staged and self._staged[0][0].done:
                self._staged.popleft()
            staged = self.pinned(count, arrays[0].dtype)
            _copy_into(staged, arrays)
            target.set(staged, stream=self._stream)
            self._staged.append((self._stream.record(), staged))
            return target

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """See `Device`; what comes back lies in page-locked memory, which is reused when nothing holds it any more."""
        with self._current():
            if not array.size:
                return np.empty(array.shape, array.dtype)
            landing = self.pinned(array.shape, array.dtype)
            found: NDArray[Any] = self._cupy.asnumpy(array, stream=self._stream, out=landing, blocking=False)
            self._wait()
            self._staged.clear()  # the stream has been waited for
            return found

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """See `Device`."""
        with self._current():
            target[...] = source

    def fill(self, target: DeviceArray, value: int) -> None:
        """See `Device`."""
        with self._current():
            target.fill(value)

    def shift(self, target: DeviceArray, left: int, right: int) -> None:
        """See `Device`."""
        with self._current():
            target <<= left
            target >>= right

    def launch(
        self,
        kernel: Kernel,
        *,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
        shared_bytes: int = 0,
    ) -> None:
        """See `Device`; returns before the kernel has run."""
        with self._current():
            self._function(kernel)(grid, block, tuple(args), shared_mem=shared_bytes)

    def launch_turns(
        self,
        kernel: Kernel,
        *,
        turns: int,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
    ) -> None:
        """See `Device`; the context is entered once for all."""
        fixed = tuple(args)
        with self._current():
            function = self._function(kernel)
            for turn in range(turns):
                function(grid, block, (*fixed, np.int32(turn)))

    def _function(self, kernel: Kernel) -> Any:
        with self._compiling:
            if kernel not in self._functions:
                key = (kernel.file, kernel.options)
                if key not in self._modules:
                    options = ("--std=c++17", *kernel.options)
                    self._modules[key] = self._cupy.RawModule(code=compose(kernel.file), options=options)
                self._functions[kernel] = self._modules[key].get_function(kernel.name)
            return self._functions[kernel]

    def compress_chunks(self, data: DeviceArray, bounds: NDArray[np.int64]) -> list[bytes]:
        """See `Device`; chunks begin at multiples of 16 bytes, or are copied to where they do."""
        frames: list[bytes] = []
        sizes = np.diff(bounds)
        for first, last in _batches(sizes):
            frames += self._compress_batch(data, bounds[first:last], sizes[first:last])
        return frames

    def _compress_batch(self, data: DeviceArray, begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[bytes]:
        with self._current():
            if (begins % _ALIGNMENT).any():
                parts, begins = self._spread([data[b : b + s] for b, s in zip(begins, sizes, strict=True)])
                data = parts
            largest = data[: int(sizes.max())]
            stride = _aligned(self._codec.get_max_comp_buffer_size(self._nvcomp.as_array(largest, self._stream.ptr)))
            room = self._cupy.empty(stride * len(sizes), np.uint8)
            places = [stride * i for i in range(len(sizes))]
            batch = self._nvcomp.as_arrays(data, begins.tolist(), sizes.tolist(), self._stream.ptr)
            target = self._nvcomp.as_arrays(room, places, [stride] * len(sizes), self._stream.ptr)
            ends = np.cumsum(np.array(self._codec.encode(batch, out=target).buffer_sizes, np.int64))
        lengths = np.diff(ends, prepend=0)
        packed = copy_pieces(self, room, np.array(places, np.int64), lengths)
        joined = self.get(packed).tobytes()
        return [joined[begin:end] for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]

    def _spread(self, parts: Sequence[DeviceArray]) -> tuple[DeviceArray, NDArray[np.int64]]:
        steps = np.cumsum([_aligned(part.size) for part in parts])
        begins = np.concatenate([[0], steps[:-1]]).astype(np.int64)
        joined = self._cupy.zeros(int(steps[-1]), np.uint8)
        for part, begin in zip(parts, begins.tolist(), strict=True):
            joined[begin : begin + part.size] = part
        return joined, begins

    def decompress_chunks(self, frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> DeviceArray:
        """See `Device`."""
        result = self.empty(int(sizes.sum()), np.uint8)
        ends = np.cumsum(sizes)
        for first, last in _batches(sizes):
            begin = int(ends[first] - sizes[first])
            room, places = self._decompress_batch(frames[first:last], sizes[first:last])
            here = sizes[first:last].tolist()
            total = sum(here)
            with self._current():
                if places[-1] + here[-1] == total:  # nothing had to be aligned: the usual chunks of 64 KiB
                    result[begin : begin + total] = room[:total]
                    continue
                for place, size in zip(places, here, strict=True):
                    result[begin : begin + size] = room[place : place + size]
                    begin += size
        return result

    def _decompress_batch(self, frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> tuple[DeviceArray, list[int]]:
        stored = [len(frame) for frame in frames]
        from_steps = np.cumsum([0, *map(_aligned, stored)]).tolist()
        to_steps = np.cumsum([0, *map(_aligned, sizes.tolist())]).tolist()
        packed = np.zeros(from_steps[-1], np.uint8)
        for begin, frame in zip(from_steps, frames, strict=False):
            packed[begin : begin + len(frame)] = np.frombuffer(frame, np.uint8)
        source = self.put(packed)
        room = self.empty(to_steps[-1], np.uint8)
        with self._current():
            batch = self._nvcomp.as_arrays(source, from_steps[:-1], stored, self._stream.ptr)
            target = self._nvcomp.as_arrays(room, to_steps[:-1], sizes.tolist(), self._stream.ptr)
            try:
                decoded = self._codec.decode(batch, out=target)
            except RuntimeError as error:
                raise CorruptError(f"zstd chunks do not decode: {error}") from error
            if list(decoded.buffer_sizes) != sizes.tolist():
                raise CorruptError("a zstd chunk holds another number of bytes than belong")
        return room, to_steps[:-1]

    def synchronize(self) -> None:
        """See `Device`."""
        with self._device:
            self._wait()

    def _wait(self) -> None:
        """Wait for the stream asleep: by itself CUDA keeps a processor busy for each thread that waits."""
        event = self._cupy.cuda.Event(block=True, disable_timing=True)
        event.record(self._stream)
        event.synchronize()

    @staticmethod
    def count() -> int:
        """Count the GPUs of this machine; 0 without CuPy or a driver."""
        try:
            found: int = import_module("cupy").cuda.runtime.getDeviceCount()
        except (ImportError, RuntimeError):
            return 0
        return found

    def memory(self) -> DeviceMemory:
        """See `Device`; what the pool holds unused counts as free."""
        with self._device:
            free, total = self._cupy.cuda.runtime.memGetInfo()
            limit = self._pool.get_limit()
        free += self._pool.free_bytes()
        return DeviceMemory(min(free, limit - self._pool.used_bytes()) if limit else free, total)


def _batches(sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut chunks into batches of at most _BATCH_BYTES, at least one chunk each."""
    cuts = [0]
    held = 0
    for index, size in enumerate(sizes.tolist()):
        if held and held + size > _BATCH_BYTES:
            cuts.append(index)
            held = 0
        held += size
    if len(sizes):
        cuts.append(len(sizes))
    return list(pairwise(cuts))


def _copy_into(target: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> None:
    """Copy arrays one after another, large ones on several processors: one of them is slower than the card's bus."""
    pieces: list[tuple[NDArray[Any], NDArray[Any]]] = []
    begin = 0
    for array in arrays:
        step = max(1, _COPIED_AT_ONCE // array.itemsize)
        flat = array.reshape(-1)
        for at in range(0, array.size, step):
            part = flat[at : at + step]
            pieces.append((target[begin : begin + part.size], part))
            begin += part.size
    on_host(lambda piece: np.copyto(*piece), pieces)
