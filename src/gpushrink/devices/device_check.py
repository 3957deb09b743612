"""A small proof that a device does what the reference does: rANS, a zstd batch and a slab of planes, each both ways."""

from __future__ import annotations

import numpy as np

from gpushrink.codec.entropy.engine import RangeInput
from gpushrink.codec.entropy.layout import join_ranges, range_chunk_bounds
from gpushrink.codec.entropy.reference import NumpyEngine
from gpushrink.codec.entropy.tables import Tables, levels_from_counts
from gpushrink.codec.entropy.zstd_chunks import decode_frames, encode_frames
from gpushrink.codec.volume.slab import encode_slab
from gpushrink.devices.device import Device
from gpushrink.devices.entropy_engine import DeviceEngine
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.errors import VerifyError

__all__ = ["check_device"]

_SYMBOLS = 20_000
_ZSTD_BYTES = 3 * 65_536 + 1234


def check_device(device: Device, random: np.random.Generator) -> None:
    """Compare a device with the CPU on generated data.

    Raises
    ------
    VerifyError
        If any byte differs.
    """
    symbols = (random.geometric(0.2, _SYMBOLS).clip(1, 256) - 1).astype(np.uint8)
    bounds = np.array([0, 7_000, _SYMBOLS], np.int64)
    engine, reference = DeviceEngine(device), NumpyEngine()
    counts = engine.count(symbols, bounds, threads=1)
    if not np.array_equal(counts, reference.count(symbols, bounds, threads=1)):
        raise VerifyError(f"{device.name} counts symbols wrongly")
    where = RangeInput(
        bounds=range_chunk_bounds(_SYMBOLS, 12),
        run_ends=bounds[1:],
        run_tables=np.arange(2),
        tables=Tables.from_levels(levels_from_counts(counts)),
        lanes=32,
    )
    coded = engine.encode_ranges(symbols, where, threads=1)
    expected = reference.encode_ranges(symbols, where, threads=1)
    mine, theirs = (join_ranges(ranges) for _, ranges in (coded, expected))
    if not np.array_equal(mine, theirs):
        raise VerifyError(f"{device.name} encodes other bytes than the reference")
    if not np.array_equal(engine.decode_ranges(expected, where, threads=1), symbols):
        raise VerifyError(f"{device.name} does not decode what the reference wrote")

    data = (random.geometric(0.3, _ZSTD_BYTES).clip(1, 256) - 1).astype(np.uint8)
    cuts = np.append(np.arange(0, _ZSTD_BYTES, 65_536), _ZSTD_BYTES).astype(np.int64)
    frames = device.compress_chunks(device.put(data), cuts)
    if not np.array_equal(decode_frames(frames, _ZSTD_BYTES, threads=1), data):
        raise VerifyError(f"{device.name} writes zstd frames that libzstd does not read back")
    decoded = device.get(device.decompress_chunks(encode_frames(data, threads=1), np.diff(cuts)))
    if not np.array_equal(decoded, data):
        raise VerifyError(f"{device.name} does not read libzstd's frames back")

    samples = (random.normal(0, 9, (3, 40, 60)) + 20 * np.arange(60)).astype(np.int16)
    codec, on_cpu = DeviceVolumeCodec(device), encode_slab(samples)
    if codec.encode_slab(samples) != on_cpu:
        raise VerifyError(f"{device.name} encodes other planes than the reference")
    if not np.array_equal(device.get(codec.decode_slab(on_cpu, shape=samples.shape, dtype=np.int16)), samples):
        raise VerifyError(f"{device.name} does not decode what the reference wrote")
