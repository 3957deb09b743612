"""Resolve the device that was asked for, once, to what runs the volume codec."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.table import CPU, SlabCodec
from gpushrink.devices.device import Device
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.errors import DeviceUnavailableError, UsageError

__all__ = ["DeviceSlabCodec", "open_slab_codec"]


class DeviceSlabCodec:
    """Run the volume codec on a device, one slab at a time: its memory is bounded by one slab's needs."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._codec = DeviceVolumeCodec(device)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name the device."""
        return self._device.name

    @property
    def device(self) -> Device:
        """Give the device, for what keeps its arrays there."""
        return self._device

    def encode(
        self, stack: NDArray[Any], *, level: str, references: Sequence[tuple[int, int]], threads: int = 1
    ) -> bytes:
        """Encode; see `gpushrink.codec.table.SlabCodec`."""
        with self._lock:
            return self._codec.encode_slab(stack, level=level, references=references)

    def decode(self, payload: bytes, *, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Decode; see `gpushrink.codec.table.SlabCodec`."""
        with self._lock:
            return self._device.get(self._codec.decode_slab(payload, shape=shape, dtype=dtype))


def open_slab_codec(device: str, *, device_memory: int | None = None) -> SlabCodec:
    """Open what a device's name means.

    Parameters
    ----------
    device
        ``"cpu"``; ``"cuda"`` or ``"cuda:N"``; ``"auto"``, which is the CPU until the CUDA path has been measured on a
        card; ``"host"``, the kernels emulated on the CPU, for tests of this project.
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
        return CPU
    kind, _, ordinal = device.partition(":")
    if kind == "host" and not ordinal:
        from gpushrink.devices.host import HostDevice

        return DeviceSlabCodec(HostDevice())
    if kind != "cuda" or (":" in device and not ordinal.isdigit()):
        raise UsageError(f"device {device!r} is none of auto, cpu, cuda, cuda:N")
    try:
        from gpushrink.devices.cuda import CudaDevice

        return DeviceSlabCodec(CudaDevice(int(ordinal or 0), memory_bytes=device_memory))
    except ImportError as error:
        raise DeviceUnavailableError(f"cuda needs CuPy and nvCOMP ({error}); `gpushrink doctor` says how") from None
