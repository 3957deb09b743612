"""Where an array lives: the host's memory, or a device's, with what decodes into it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.table import CPU, CodedSlab
from gpushrink.devices.device import Device
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.errors import DeviceUnavailableError, UsageError
from gpushrink.model import BlockCodec

__all__ = ["Array", "ArraySpace", "DeviceSpace", "HostSpace", "fits_batch", "open_space", "stays_on_device"]

# A numpy.ndarray or what a device has in its place, a cupy.ndarray.
Array: TypeAlias = Any

# Device bytes that decoding takes for each sample of a batch: planes in the wavefront's layout, up to three times the
# samples, once as values and once for each of up to three stages of residuals, then tokens, values and the result.
_SAMPLE_COST = 40
# More planes at once than a card can hold blocks of gain nothing, and the kernels' cursors are of 32 bits.
_MOST_PLANES = 1024
_MOST_SAMPLES = 1 << 30


class ArraySpace(Protocol):
    """Hold arrays somewhere and fill them."""

    @property
    def name(self) -> str:
        """Name the engine or device, for reports."""

    @property
    def most_samples(self) -> int:
        """Say how many samples `decode` should be given at once."""

    @property
    def decodes(self) -> bool:
        """Tell whether slabs of the volume codec are decoded here, by `decode`, rather than on the host."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Allocate without a value."""

    def put(self, array: NDArray[Any]) -> Array:
        """Bring a host array here."""

    def get(self, array: Array) -> NDArray[Any]:
        """Bring an array to the host."""

    def copy(self, source: Array, target: Array) -> None:
        """Copy into an array or a view of one, in order with everything else."""

    def trim(self, target: Array, above: int, below: int) -> None:
        """Drop the bits above and below each sample, in place: the sign, if there is one, fills those above."""

    def decode(self, slabs: Sequence[CodedSlab]) -> list[Array]:
        """Decode slabs of the volume codec that share rows, columns and dtype, to [slice, component, row, column]."""

    def finish(self) -> None:
        """Wait until everything is in place."""


class HostSpace:
    """Hold numpy arrays; slabs are decoded by whoever reads them, in threads."""

    most_samples = 0
    decodes = False

    @property
    def name(self) -> str:
        """Name the engine."""
        return CPU.name

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `ArraySpace`."""
        return np.empty(shape, dtype)

    def put(self, array: NDArray[Any]) -> Array:
        """See `ArraySpace`."""
        return array

    def get(self, array: Array) -> NDArray[Any]:
        """See `ArraySpace`."""
        found: NDArray[Any] = array
        return found

    def copy(self, source: Array, target: Array) -> None:
        """See `ArraySpace`."""
        target[...] = source

    def trim(self, target: Array, above: int, below: int) -> None:
        """See `ArraySpace`. Nearly always nothing is there to drop, and looking costs less than shifting."""
        limits = np.iinfo(target.dtype)
        if below or int(target.max()) > limits.max >> above or int(target.min()) < limits.min >> above:
            np.left_shift(target, above, out=target)
            np.right_shift(target, above + below, out=target)

    def decode(self, slabs: Sequence[CodedSlab]) -> list[Array]:
        """See `ArraySpace`: nothing is left to decode here."""
        raise NotImplementedError("the host decodes slabs as it reads them")

    def finish(self) -> None:
        """See `ArraySpace`."""


class DeviceSpace:
    """Hold a device's arrays; slabs of the volume codec are decoded there and never come to the host."""

    decodes = True

    def __init__(self, device: Device) -> None:
        self._device = device
        self._codec = DeviceVolumeCodec(device)

    @property
    def name(self) -> str:
        """Name the device."""
        return self._device.name

    @property
    def most_samples(self) -> int:
        """Say what fits the memory that is free now."""
        return max(1, min(_MOST_SAMPLES, self._device.memory().free_bytes // _SAMPLE_COST))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `ArraySpace`."""
        return self._device.empty(shape, dtype)

    def put(self, array: NDArray[Any]) -> Array:
        """See `ArraySpace`."""
        return self._device.put(np.ascontiguousarray(array))

    def get(self, array: Array) -> NDArray[Any]:
        """See `ArraySpace`."""
        return self._device.get(array)

    def copy(self, source: Array, target: Array) -> None:
        """See `ArraySpace`."""
        self._device.copy(source, target)

    def trim(self, target: Array, above: int, below: int) -> None:
        """See `ArraySpace`."""
        self._device.shift(target, above, above + below)

    def decode(self, slabs: Sequence[CodedSlab]) -> list[Array]:
        """See `ArraySpace`. Out of memory, it goes on with half as many at a time."""
        depths = [slab.stack[0] for slab in slabs]
        try:
            planes = self._codec.decode_slabs(
                [slab.payload for slab in slabs],
                depths=depths,
                rows=slabs[0].shape.rows,
                columns=slabs[0].shape.columns,
                dtype=slabs[0].dtype,
            )
        except MemoryError:
            if len(slabs) == 1:
                raise
            half = len(slabs) // 2
            return self.decode(slabs[:half]) + self.decode(slabs[half:])
        ends = np.cumsum(depths).tolist()
        return [planes[end - slab.stack[0] : end].reshape(slab.axes) for slab, end in zip(slabs, ends, strict=True)]

    def finish(self) -> None:
        """See `ArraySpace`."""
        self._device.synchronize()


def fits_batch(slabs: Sequence[CodedSlab], slab: CodedSlab, most_samples: int) -> bool:
    """Tell whether a slab may be decoded together with others."""
    if not slabs:
        return True
    if (slab.stack[1:], slab.dtype) != (slabs[0].stack[1:], slabs[0].dtype):
        return False
    planes = slab.stack[0] + sum(one.stack[0] for one in slabs)
    return planes <= _MOST_PLANES and planes * slab.shape.rows * slab.shape.columns <= most_samples


def stays_on_device(slab: CodedSlab, space: ArraySpace) -> bool:
    """Tell whether a slab is decoded where the array lives."""
    return space.decodes and slab.codec == BlockCodec.VOLUME


def open_space(device: str, *, device_memory: int | None = None) -> ArraySpace:
    """Open where the arrays of a device live; an array lives on one.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; ``"auto"``, which is the CPU: an array stays where it
        began; ``"host"``, the kernels emulated on the CPU, for tests of this project.
    device_memory
        The most bytes of device memory to use; None for what is free.

    Raises
    ------
    UsageError
        If the name is none of these.
    DeviceUnavailableError
        If the device or a library it needs is missing; ``gpushrink doctor`` says which.
    """
    if device in ("auto", "cpu"):
        return HostSpace()
    kind, _, ordinal = device.partition(":")
    if kind == "host" and not ordinal:
        from gpushrink.devices.host import HostDevice

        return DeviceSpace(HostDevice() if device_memory is None else HostDevice(memory_bytes=device_memory))
    if kind != "cuda" or (":" in device and not ordinal.isdigit()):
        raise UsageError(f"device {device!r} is none of auto, cpu, cuda, cuda:N: an array lives on one device")
    try:
        from gpushrink.devices.cuda import CudaDevice

        return DeviceSpace(CudaDevice(int(ordinal or 0), memory_bytes=device_memory))
    except ImportError as error:
        raise DeviceUnavailableError(f"cuda needs CuPy and nvCOMP ({error}); `gpushrink doctor` says how") from None
