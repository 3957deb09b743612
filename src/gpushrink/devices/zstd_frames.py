"""zstd frames of the entropy stage: by the device's own zstd where there are many, by libzstd on the host where few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer
from gpushrink.codec.entropy.layout import zstd_chunk_bounds
from gpushrink.codec.entropy.zstd_chunks import decode_frames, encode_frames
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.host_part import on_host
from gpushrink.devices.segments import bytes_of
from gpushrink.errors import CorruptError

__all__ = ["FEWEST_DEVICE_CHUNKS", "compress_stretches", "decompress_frames"]

# nvCOMP takes some 15 ms to write a batch and 7 to read one, however small (an H200); libzstd takes 0.2 ms a chunk.
FEWEST_DEVICE_CHUNKS: Final = 64


def compress_stretches(device: Device, symbols: DeviceArray, sizes: Sequence[int], own_zstd: bool) -> list[list[bytes]]:
    """Write zstd frames of consecutive stretches of so many symbols: of many on the device, of few on the host.

    Which, follows from a stretch alone: its frames must not depend on what shares a batch with it.
    """
    edges = np.cumsum([0, *sizes]).tolist()
    cuts = [zstd_chunk_bounds(size) for size in sizes]
    by_device = [own_zstd and len(cut) - 1 >= FEWEST_DEVICE_CHUNKS for cut in cuts]
    # At once, where the device writes none of them: each copy waits for it.
    held = None if any(by_device) else bytes_of(device, symbols)

    def compress(place: int) -> list[bytes]:
        begin, end = edges[place], edges[place + 1]
        if held is not None:
            return encode_frames(np.frombuffer(held[begin:end], np.uint8), threads=1)
        own = symbols[begin:end]
        if not by_device[place]:
            return encode_frames(np.frombuffer(bytes_of(device, own), np.uint8), threads=1)
        fresh = device.empty(len(own), np.uint8)  # whole words begin here; a stretch may begin anywhere
        device.copy(own, fresh)
        return device.compress_chunks(fresh, cuts[place])

    places = range(len(sizes))
    return [compress(place) for place in places] if held is None else on_host(compress, places)


def decompress_frames(
    device: Device, frames: Sequence[Buffer], sizes: NDArray[np.int64], own_zstd: bool
) -> DeviceArray:
    """Read zstd frames of so many bytes each: on the device, or few of them on the host.

    Raises
    ------
    CorruptError
        If a frame does not name its size, or is seen not to decode to it.
    """
    _check_named_sizes(frames, sizes)
    if own_zstd and len(frames) >= FEWEST_DEVICE_CHUNKS:
        return device.decompress_chunks(frames, sizes)
    parts = [decode_frames([frame], size, threads=1) for frame, size in zip(frames, sizes.tolist(), strict=True)]
    return device.put_all(parts)


def _check_named_sizes(frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> None:
    """Refuse frames that do not name the size their place demands, before a device allocates or trusts anything."""
    for chunk, (frame, size) in enumerate(zip(frames, sizes.tolist(), strict=True)):
        try:
            named = zstandard.get_frame_parameters(frame).content_size
        except zstandard.ZstdError as error:
            raise CorruptError(f"zstd chunk {chunk} does not decode: {error}") from error
        if named != size:
            raise CorruptError(f"zstd chunk {chunk} names {named} bytes where {size} belong")
