"""Resolve the devices that were asked for, once, to what runs the volume codec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts
from gpushrink.codec.parallel import Threads
from gpushrink.codec.table import CPU, SlabCodec
from gpushrink.codec.volume.geometry import References
from gpushrink.devices.combining import Combiner
from gpushrink.devices.device import Device
from gpushrink.devices.device_pool import DevicePool
from gpushrink.devices.volume_engine import DeviceVolumeCodec, decode_need, encode_need
from gpushrink.errors import DeviceUnavailableError, UsageError
from gpushrink.pipeline.auto_device import AutoSlabCodec, has_cuda_packages

__all__ = ["DeviceSlabCodec", "open_slab_codec"]

# While one batch's kernels run, the host solves for another, and a third is on its way to or from the card.
_BATCHES_A_DEVICE: Final = 3
# Where other processes do that, one of a process gathers more slabs, and a card turns from one to the other less often.
_BATCHES_A_PROCESS: Final = 1
_MOST_SLABS: Final = 8
_MOST_PLACES: Final = (1 << 32) - 1


class _Encoding(NamedTuple):
    """A slab to encode."""

    stack: NDArray[Any]
    level: str
    references: References

    @property
    def need(self) -> int:
        depth, rows, columns = self.stack.shape
        return encode_need((depth, rows, columns), self.level)

    @property
    def places(self) -> int:
        return _count_places(self.stack.shape)


class _Decoding(NamedTuple):
    """A slab to decode."""

    payload: Buffer
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def need(self) -> int:
        return decode_need(self.shape)

    @property
    def places(self) -> int:
        return _count_places(self.shape)


class _Decoded(NamedTuple):
    """A slab's samples, which may be a part of a batch's."""

    samples: NDArray[Any]
    is_part: bool


def _count_places(shape: tuple[int, ...]) -> int:
    """Count a slab's places in the layout with the wider edges, a decoder's."""
    depth, shorter, longer = shape[0], *sorted(shape[1:])
    return int(depth * (longer + 2 * shorter + 11) * (shorter + 4))


class DeviceSlabCodec:
    """Run the volume codec on devices: safe to call from many threads, whose slabs are coded in batches.

    Parameters
    ----------
    pool
        The devices.
    spare
        What takes a slab that no device has the memory for; None makes that an error. The bytes are the same.
    own_zstd
        Let the devices write zstd frames where there are many; without, all bytes are the CPU's.
    parts
        How many processes share the devices.
    """

    def __init__(
        self, pool: DevicePool, *, spare: SlabCodec | None = None, own_zstd: bool = True, parts: int = 1
    ) -> None:
        self._pool, self._spare, self._own_zstd = pool, spare, own_zstd
        self._batches = _BATCHES_A_DEVICE if parts == 1 else _BATCHES_A_PROCESS
        places = self._batches * pool.device_count
        self._encoder: Combiner[_Encoding, Parts] = Combiner(self._encode, places=places, limit=self._limit)
        self._decoder: Combiner[_Decoding, _Decoded] = Combiner(self._decode, places=places, limit=self._limit)

    @property
    def name(self) -> str:
        """Name the devices."""
        return self._pool.name if self._spare is None else f"{self._pool.name}, {self._spare.name} as a spare"

    def encode(
        self, stack: NDArray[Any], *, level: str, references: Sequence[tuple[int, int]], threads: Threads = 1
    ) -> Parts:
        """Encode; see `gpushrink.codec.table.SlabCodec`."""
        request = _Encoding(stack, level, tuple(references))
        try:
            return self._encoder.call((level, stack.shape[1:], stack.dtype), request)
        except MemoryError as error:
            spare = self._spare_for(stack.shape, error)
        return spare.encode(stack, level=level, references=references, threads=threads)

    def decode(
        self, payload: Buffer, *, shape: tuple[int, int, int], dtype: np.dtype[Any], threads: Threads = 1
    ) -> NDArray[Any]:
        """Decode; see `gpushrink.codec.table.SlabCodec`."""
        try:
            found = self._decoder.call((shape[1:], np.dtype(dtype)), _Decoding(payload, shape, np.dtype(dtype)))
            # A view of one slab would keep all of its batch, in page-locked memory, as long as it lives. Copied here:
            # each caller has a thread.
            return found.samples.copy() if found.is_part else found.samples
        except MemoryError as error:
            spare = self._spare_for(shape, error)
        return spare.decode(payload, shape=shape, dtype=dtype, threads=threads)

    def _limit(self, request: _Encoding | _Decoding) -> int:
        """Say how many slabs like this one may share a batch: each batch has its share of a device's memory.

        And fewer than 2^32 places in all, which kernels count with.
        """
        fit = self._pool.budget // self._batches // request.need
        return min(_MOST_SLABS, fit, _MOST_PLACES // request.places)

    def _encode(self, requests: Sequence[_Encoding]) -> Sequence[Parts]:
        def work(device: Device) -> Sequence[Parts]:
            return DeviceVolumeCodec(device, own_zstd=self._own_zstd).encode_slabs(
                [one.stack for one in requests],
                level=requests[0].level,
                references=[one.references for one in requests],
            )

        return self._pool.run(work, need=sum(one.need for one in requests))

    def _decode(self, requests: Sequence[_Decoding]) -> list[_Decoded]:
        depths = [one.shape[0] for one in requests]

        def work(device: Device) -> NDArray[Any]:
            _, rows, columns = requests[0].shape
            payloads = [one.payload for one in requests]
            codec = DeviceVolumeCodec(device)
            return device.get(
                codec.decode_slabs(payloads, depths=depths, rows=rows, columns=columns, dtype=requests[0].dtype)
            )

        whole = self._pool.run(work, need=sum(one.need for one in requests))
        parts = np.split(whole, np.cumsum(depths)[:-1])
        return [_Decoded(part, is_part=len(requests) > 1) for part in parts]

    def _spare_for(self, shape: tuple[int, ...], error: MemoryError) -> SlabCodec:
        if self._spare is None:
            raise DeviceUnavailableError(
                f"a slab of {' x '.join(map(str, shape))} samples is too large for {self._pool.name} ({error}); "
                "raise --device-memory, or name the CPU as a spare: --device cuda,cpu"
            ) from None
        return self._spare


def open_slab_codec(device: str, *, device_memory: int | None = None, parts: int = 1) -> SlabCodec:
    """Open what a device's name means.

    Parameters
    ----------
    device
        ``"cpu"``; ``"cuda"``, ``"cuda:N"``, ``"cuda:N,M"`` or ``"cuda:all"``, each of these also with ``",cpu"`` behind
        it, and the CPU takes the slabs that no card has the memory for; ``"auto"``, which begins on the CPU and goes on
        with all cards where there are any and the work is long enough; ``"host"``, the kernels emulated on the CPU,
        for tests of this project.
    device_memory
        The most bytes of each device's memory to use; None for what is free.
    parts
        How many processes share this memory; ``"auto"`` then begins with the cards, since there is work enough.

    Raises
    ------
    UsageError
        If the name is none of these.
    DeviceUnavailableError
        If a device or a library it needs is missing; ``gpushrink doctor`` says which.
    """
    if device == "cpu":
        return CPU
    if device_memory is not None:
        device_memory //= parts
    if device == "auto":
        if not has_cuda_packages():
            return CPU
        worthwhile = {} if parts == 1 else {"worthwhile_bytes": 0}
        return AutoSlabCodec(lambda: _open_cards(device_memory, parts), **worthwhile)
    cards, spare = device.removesuffix(",cpu"), CPU if device.endswith(",cpu") else None
    kind, _, numbers = cards.partition(":")
    ordinals = _ordinals(kind, numbers) if kind in ("cuda", "host") else None
    if ordinals is None or (":" in cards and not numbers):
        known = "auto, cpu, cuda, cuda:N, cuda:N,M, cuda:all, nor one of these with ,cpu behind it"
        raise UsageError(f"device {device!r} is none of {known}")
    devices = [_open(kind, ordinal, device_memory) for ordinal in ordinals]
    return DeviceSlabCodec(DevicePool(devices, memory_bytes=device_memory, parts=parts), spare=spare, parts=parts)


def _open_cards(device_memory: int | None, parts: int) -> SlabCodec | None:
    """Open all cards, the CPU as a spare; None if there is none that works."""
    from gpushrink.devices.cuda import CudaDevice

    try:
        devices = [CudaDevice(ordinal, memory_bytes=device_memory) for ordinal in range(CudaDevice.count())]
    except DeviceUnavailableError:
        return None
    if not devices:
        return None
    # Frames by libzstd: which slabs a card gets depends on time, and no byte may.
    return DeviceSlabCodec(
        DevicePool(devices, memory_bytes=device_memory, parts=parts), spare=CPU, own_zstd=False, parts=parts
    )


def _ordinals(kind: str, numbers: str) -> list[int] | None:
    """Give the devices that are meant, each once; None where the text means none."""
    if not numbers:
        return [0]
    if numbers == "all" and kind == "cuda":
        from gpushrink.devices.cuda import CudaDevice

        return list(range(max(1, CudaDevice.count())))  # with none, opening the first one says what is missing
    parts = numbers.split(",")
    return sorted({int(part) for part in parts}) if all(part.isdigit() for part in parts) else None


def _open(kind: str, ordinal: int, device_memory: int | None) -> Device:
    if kind == "host":
        from gpushrink.devices.host import HostDevice

        return HostDevice() if device_memory is None else HostDevice(memory_bytes=device_memory)
    try:
        from gpushrink.devices.cuda import CudaDevice

        return CudaDevice(ordinal, memory_bytes=device_memory)
    except ImportError as error:
        raise DeviceUnavailableError(f"cuda needs CuPy and nvCOMP ({error}); `gpushrink doctor` says how") from None
