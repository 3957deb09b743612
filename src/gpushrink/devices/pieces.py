"""Stretches of bytes on a device, copied or filled in one launch for all of them: kernels/pieces.cu."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.devices.device import Device, DeviceArray, Kernel

__all__ = ["PIECE_KERNELS", "copy_pieces", "fill_pieces", "put_pieces"]

_COPY: Final = Kernel("pieces.cu", "copy_pieces")
_FILL: Final = Kernel("pieces.cu", "fill_pieces")
PIECE_KERNELS: Final = (_COPY, _FILL)
# One block takes a piece: long stretches are cut, so that they fill a card too.
_MOST_BYTES: Final = 1 << 16


def copy_pieces(
    device: Device, source: DeviceArray, begins: NDArray[np.int64], sizes: NDArray[np.int64]
) -> DeviceArray:
    """Join stretches of a uint8 array in a new one."""
    target = device.empty(int(sizes.sum()), np.uint8)
    _copy(device, source, target, begins, np.cumsum(sizes) - sizes, sizes)
    return target


def put_pieces(
    device: Device, source: DeviceArray, target: DeviceArray, begins: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    """Copy a uint8 array, part after part, to stretches of another."""
    _copy(device, source, target, np.cumsum(sizes) - sizes, begins, sizes)


def fill_pieces(
    device: Device,
    target: DeviceArray,
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
    values: NDArray[np.int64],
) -> None:
    """Set stretches of a uint8 array, each to a value."""
    owners, within, cut = _cut(sizes)
    _launch(device, _FILL, [target], [begins[owners] + within, cut, values[owners]])


def _copy(
    device: Device, source: DeviceArray, target: DeviceArray, origins: NDArray[np.int64],
    begins: NDArray[np.int64], sizes: NDArray[np.int64],
) -> None:  # fmt: skip
    owners, within, cut = _cut(sizes)
    _launch(device, _COPY, [source], [origins[owners] + within, begins[owners] + within, cut], [target])


def _cut(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut stretches into pieces: whose each is, where it begins in it, and its size."""
    counts = -(-sizes // _MOST_BYTES)
    owners = np.repeat(np.arange(len(sizes)), counts)
    within = (np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)) * _MOST_BYTES
    return owners, within, np.minimum(sizes[owners] - within, _MOST_BYTES)


def _launch(
    device: Device,
    kernel: Kernel,
    before: list[DeviceArray],
    columns: list[NDArray[np.int64]],
    after: list[DeviceArray] | None = None,
) -> None:
    pieces = np.ascontiguousarray(np.stack(columns, axis=1).astype(np.int64))
    if len(pieces):
        args = [*before, device.put(pieces), *(after or [])]
        device.launch(kernel, grid=(len(pieces),), block=(256,), args=args)
