"""Stand-ins for CuPy and nvCOMP over numpy, the emulation and libzstd, so that the CUDA device's own lines run in CI.

They know what `gpushrink.devices.cuda` calls and nothing else. That the real packages have these names and take
these arguments is tested against the wheels where they are installed.
"""

# ruff: noqa: D102 - the methods are CuPy's and nvCOMP's, described there

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import zstandard

from gpushrink.devices.emulation.module import EmulatedModule


class OutOfMemoryError(MemoryError):
    """Stand in for CuPy's."""


class Pool:
    """Count what is asked; refuse beyond the limit."""

    def __init__(self) -> None:
        self.limit = 0

    def set_limit(self, *, size: int) -> None:
        self.limit = size

    def get_limit(self) -> int:
        return self.limit

    def malloc(self, size: int) -> None:
        if self.limit and size > self.limit:
            raise OutOfMemoryError(size)

    def free_bytes(self) -> int:
        return 0

    def used_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        return None


class Context:
    """A device or a stream: entered and left."""

    ptr = 7

    def __init__(self, *_: Any, **__: Any) -> None:
        self.depth = 0

    def __enter__(self) -> Context:
        self.depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def synchronize(self) -> None:
        run_pending()

    def record(self) -> Event:
        event = Event()
        event.record(self)
        return event


# Copies that a stream has not got to: they happen with the next thing that looks at an array, and not before.
PENDING: list[tuple[Any, Any]] = []


def run_pending() -> None:
    """Let the streams get to their copies."""
    for target, array in PENDING:
        target.view(np.ndarray)[...] = array
    PENDING.clear()


class Event:
    """Say whether the streams have got this far."""

    def __init__(self, *, block: bool = False, disable_timing: bool = False) -> None:
        self.sleeps, self.recorded = block and disable_timing, False

    def record(self, stream: Context) -> None:
        assert isinstance(stream, Context)
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded, "an event that is nowhere on a stream"
        assert self.sleeps, "a wait that keeps a processor busy"
        run_pending()

    @property
    def done(self) -> bool:
        return not PENDING


class Allocation:
    """Hold the allocator in force."""

    current: Any = None

    @classmethod
    @contextmanager
    def using(cls, allocator: Any) -> Iterator[None]:
        kept, cls.current = cls.current, allocator
        try:
            yield
        finally:
            cls.current = kept


class CardArray(np.ndarray[Any, Any]):
    """Refuse writes where the device's own stream is not the current one: CuPy would take another."""

    def __setitem__(self, key: Any, value: Any) -> None:
        assert Allocation.current is not None, "a write outside the device's own stream"
        run_pending()
        super().__setitem__(key, value)

    def fill(self, value: Any) -> None:
        assert Allocation.current is not None, "a write outside the device's own stream"
        run_pending()
        super().fill(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **rest: Any) -> Any:
        assert Allocation.current is not None, "arithmetic outside the device's own stream"
        run_pending()
        plain = [one.view(np.ndarray) if isinstance(one, CardArray) else one for one in inputs]
        if out is None:
            return getattr(ufunc, method)(*plain, **rest)
        getattr(ufunc, method)(*plain, out=tuple(one.view(np.ndarray) for one in out), **rest)
        return out[0]

    def set(self, array: np.ndarray[Any, Any], stream: Context) -> None:
        """Copy when the stream gets to it: until then the host's array must stay as it is."""
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        assert isinstance(stream, Context)
        PENDING.append((self, array))


def allocate(shape: int | tuple[int, ...], dtype: Any) -> CardArray:
    """Ask the allocator in force, then give zeros."""
    assert Allocation.current is not None, "an allocation outside the device's own pool"
    array = np.zeros(shape, dtype).view(CardArray)
    Allocation.current(array.nbytes)
    return array


class RawModule:
    """Compile for the host what CuPy would compile for a card."""

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        assert options[0] == "--std=c++17"
        self.module = EmulatedModule(code, options[1:])

    def get_function(self, name: str) -> Any:
        function = self.module.get_function(name)

        def launch(grid: Any, block: Any, args: Any, **rest: Any) -> None:
            run_pending()
            function(grid, block, args, **rest)

        return launch


def make_cupy() -> ModuleType:
    """Return a module that stands in for cupy."""
    module: Any = ModuleType("cupy")
    module.empty = module.zeros = allocate

    def asnumpy(array: CardArray, *, stream: Context, out: np.ndarray[Any, Any], blocking: bool) -> Any:
        assert isinstance(stream, Context)
        assert not blocking, "a wait that keeps a processor busy"
        run_pending()
        PENDING.append((out, array.view(np.ndarray).copy()))
        return out

    module.asnumpy, module.RawModule = asnumpy, RawModule
    module.cuda = SimpleNamespace(
        Device=Context,
        Event=Event,
        Stream=Context,
        MemoryPool=Pool,
        using_allocator=Allocation.using,
        alloc_pinned_memory=bytearray,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=SimpleNamespace(
            getDeviceProperties=lambda ordinal: {"name": b"stand-in"},
            memGetInfo=lambda: (1 << 30, 1 << 31),
            getDeviceCount=lambda: 2,
        ),
    )
    return module


class Batch(list[Any]):
    """Arrays carved out of one buffer, each with the size that is used."""

    @property
    def buffer_sizes(self) -> list[int]:
        return [len(part) for part in self]


class Codec:
    """Code with libzstd, into buffers that must be large enough and aligned."""

    def __init__(self, *, algorithm: str, bitstream_kind: str, device_id: int, cuda_stream: int) -> None:
        assert (algorithm, bitstream_kind, cuda_stream) == ("Zstd", "raw", Context.ptr)
        assert device_id in (0, 1)

    def get_max_comp_buffer_size(self, array: Any) -> int:
        return len(array) + 777

    def encode(self, batch: Batch, *, out: Batch) -> Batch:
        run_pending()
        return self._fill(out, [zstandard.compress(part.tobytes(), 1) for part in batch])

    def decode(self, batch: Batch, *, out: Batch) -> Batch:
        run_pending()
        try:
            return self._fill(out, [zstandard.decompress(part.tobytes()) for part in batch])
        except zstandard.ZstdError as error:
            raise RuntimeError(str(error)) from error

    def _fill(self, out: Batch, blocks: list[bytes]) -> Batch:
        assert not PENDING
        filled = Batch()
        for room, block in zip(out, blocks, strict=True):
            if len(block) > len(room):
                raise ValueError("a buffer is too small")
            room[: len(block)] = np.frombuffer(block, np.uint8)
            filled.append(room[: len(block)])
        return filled


def make_nvcomp() -> ModuleType:
    """Return a module that stands in for nvidia.nvcomp."""

    def as_arrays(buffer: Any, offsets: Sequence[int], sizes: Sequence[int], cuda_stream: int = 0) -> Batch:
        assert cuda_stream == Context.ptr
        assert all(offset % 16 == 0 for offset in offsets), "chunks must be aligned"
        assert all(type(number) is int for number in (*offsets, *sizes))
        return Batch(buffer[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True))

    module: Any = ModuleType("nvidia.nvcomp")
    module.BitstreamKind = SimpleNamespace(RAW="raw")
    module.Codec, module.as_arrays = Codec, as_arrays
    module.as_array = lambda array, cuda_stream=0: array
    return module
