"""Open what a device's name means, and nothing that takes long to import where the CPU is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpushrink.codec.table import CPU, SlabCodec
from gpushrink.pipeline.auto_device import AutoSlabCodec, has_cuda_packages

__all__ = ["slab_codec_of"]


@contextmanager
def slab_codec_of(device: str, *, device_memory: int | None = None, parts: int = 1) -> Iterator[SlabCodec]:
    """Open what a device's name means for a piece of work, and let go of it at the end.

    Parameters
    ----------
    device, device_memory, parts
        As `gpushrink.pipeline.device.open_slab_codec` takes them.
    """
    if device == "cpu" or (device == "auto" and not has_cuda_packages()):
        yield CPU
        return
    from gpushrink.pipeline.device import open_slab_codec  # here: the CPU's path need not wait for devices

    codec = open_slab_codec(device, device_memory=device_memory, parts=parts)
    try:
        yield codec
    finally:
        if isinstance(codec, AutoSlabCodec):
            codec.finish()
