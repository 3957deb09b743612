"""What bench/gpu.py measures: the codec's kernels and ways, nvCOMP alone, and the CPU's coders, on one volume."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.slab import decode_slab, encode_slab
from gpushrink.devices.device import Device, DeviceArray, Kernel
from gpushrink.devices.volume_engine import DeviceVolumeCodec

LEVELS = ("fast", "default")


def generated_volume(quick: bool) -> NDArray[np.int16]:
    """Return a volume like a CT slab: padding, smooth structure, noise whose strength varies. Fixed seed."""
    shape = (3, 24, 40) if quick else (32, 512, 512)
    rng = np.random.default_rng(1)
    z, y, x = (axis.astype(np.float32) for axis in np.ogrid[: shape[0], : shape[1], : shape[2]])
    middle_y, middle_x = shape[1] / 2, shape[2] / 2
    radius = np.hypot((y - middle_y) / middle_y, (x - middle_x) / middle_x)
    values = 300 * np.sin(x / 23 + z / 9) * np.cos(y / 31) + 200 * (radius < 0.5)
    values = values + rng.normal(0, 1, shape).astype(np.float32) * (6 + 10 * radius)
    return np.where(radius > 0.95, np.float32(-1024), values).round().astype(np.int16)


def timed(work: Callable[[], Any], settle: Callable[[], None], *, n: int, left: Callable[[], float]) -> list[float]:
    """Run once to warm up, then up to n times while there is time; give the seconds of each."""
    work()
    settle()
    seconds: list[float] = []
    while len(seconds) < n and (not seconds or left() > 5):
        began = time.perf_counter()
        work()
        settle()
        seconds.append(time.perf_counter() - began)
    return seconds


def row(what: str, size_bytes: int, seconds: Sequence[float], *, ratio: float | None = None) -> dict[str, Any]:
    """Give one row: the median with its spread (largest less smallest, of the median)."""
    middle = statistics.median(seconds)
    return {
        "what": what,
        "gb_per_s": size_bytes / middle / 1e9,
        "seconds": middle,
        "bytes_in": size_bytes,
        "ratio": ratio,
        "n": len(seconds),
        "spread": (max(seconds) - min(seconds)) / middle,
    }


def open_device(name: str) -> Device:
    """Open the device under test."""
    if name == "host":
        from gpushrink.devices.host import HostDevice

        return HostDevice()
    from gpushrink.devices.cuda import CudaDevice

    return CudaDevice()


class TimedDevice:
    """Pass everything on to a device; time each kernel by waiting for it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.kernels: dict[str, list[float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(
        self,
        kernel: Kernel,
        *,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
        shared_bytes: int = 0,
    ) -> None:
        """Launch, wait, note the time: a few microseconds too much for short kernels."""
        self._device.synchronize()
        began = time.perf_counter()
        self._device.launch(kernel, grid=grid, block=block, args=args, shared_bytes=shared_bytes)
        self._device.synchronize()
        self.kernels.setdefault(kernel.name, []).append(time.perf_counter() - began)

    def launch_turns(
        self,
        kernel: Kernel,
        *,
        turns: int,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[DeviceArray | np.generic],
    ) -> None:
        """Launch all turns, wait once: the mean of a turn is what counts."""
        self._device.synchronize()
        began = time.perf_counter()
        self._device.launch_turns(kernel, turns=turns, grid=grid, block=block, args=args)
        self._device.synchronize()
        self.kernels.setdefault(kernel.name, []).extend([(time.perf_counter() - began) / turns] * turns)


def measure_codec(name: str, *, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Measure encode and decode of a slab, whole and kernel by kernel; prove the bytes first."""
    device = open_device(name)
    samples = generated_volume(quick)
    size, n = samples.nbytes, 1 if quick else 5
    rows: list[dict[str, Any]] = []
    kernels: dict[str, Any] = {}
    for level in LEVELS:
        codec = DeviceVolumeCodec(device)
        payload = codec.encode_slab(samples, level=level)
        if payload != encode_slab(samples, level=level):
            raise AssertionError(f"level {level}: the device writes other bytes than the CPU")
        if not np.array_equal(device.get(codec.decode_slab(payload, shape=samples.shape, dtype=np.int16)), samples):
            raise AssertionError(f"level {level}: the device does not give the samples back")
        ratio = size / len(payload)

        def encode(codec: DeviceVolumeCodec = codec, level: str = level) -> bytes:
            return codec.encode_slab(samples, level=level)

        def decode(codec: DeviceVolumeCodec = codec, payload: bytes = payload) -> DeviceArray:
            return codec.decode_slab(payload, shape=samples.shape, dtype=np.int16)

        rows.append(
            row(
                f"encode {level}, with the host's fit",
                size,
                timed(encode, device.synchronize, n=n, left=left),
                ratio=ratio,
            )
        )
        rows.append(
            row(f"decode {level}, to the device", size, timed(decode, device.synchronize, n=n, left=left), ratio=ratio)
        )

        # A volume is several slabs: a step of the wavefront serves them all.
        slabs = 2 if quick else 8

        def decode_many(codec: DeviceVolumeCodec = codec, payload: bytes = payload, slabs: int = slabs) -> DeviceArray:
            depth, height, width = samples.shape
            return codec.decode_slabs(
                [payload] * slabs, depths=[depth] * slabs, rows=height, columns=width, dtype=np.int16
            )

        seconds = timed(decode_many, device.synchronize, n=n, left=left)
        rows.append(row(f"decode {level}, {slabs} slabs side by side", slabs * size, seconds, ratio=ratio))
        watched = TimedDevice(device)
        slow = DeviceVolumeCodec(watched)
        slow.encode_slab(samples, level=level)
        slow.decode_slab(payload, shape=samples.shape, dtype=np.int16)
        kernels[level] = {
            kernel: {
                "launches": len(seconds),
                "seconds": sum(seconds),
                "gb_per_s_of_pixels": size / sum(seconds) / 1e9,
                "median_launch_us": statistics.median(seconds) * 1e6,
            }
            for kernel, seconds in watched.kernels.items()
        }
        parts = {"encode": ("find_limits", "pad_planes", "predict_stage", "pad_residuals", "find_contexts",
                            "gather_values", "split_tokens", "write_raw_bits", "count_symbols",
                            "rans_encode", "rans_gather_words"),
                 "decode": ("rans_decode", "count_raw_bits", "join_tokens", "decode_planes",
                            "unpad_planes")}  # fmt: skip
        for way, names in parts.items():
            total = sum(kernels[level].get(kernel, {"seconds": 0.0})["seconds"] for kernel in names)
            rows.append(row(f"{way} {level}, kernels alone", size, [total], ratio=ratio))
    return {"device": device.name, "shape": samples.shape, "rows": rows, "kernels": kernels}


def measure_vendor(name: str, *, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Measure nvCOMP's own coders on the raw bytes and on a delta of them."""
    if name != "cuda":
        return {"skipped": "nvCOMP needs a CUDA device"}
    import cupy
    from nvidia import nvcomp

    samples = generated_volume(quick)
    delta = np.diff(samples.reshape(-1), prepend=samples.dtype.type(0)).astype(np.int16)
    rows = []
    problems = {}
    for content, array in (("raw", samples.reshape(-1)), ("delta", delta)):
        held = cupy.asarray(array.view(np.uint8))
        cuts = range(0, held.size, 1 << 16)
        sizes = [min(1 << 16, held.size - cut) for cut in cuts]
        for algorithm, extra in (("LZ4", {}), ("Zstd", {}), ("Bitcomp", {"data_type": "<i2"}), ("ANS", {})):
            if left() < 10:
                problems[f"{algorithm} {content}"] = "no time left"
                continue
            try:
                codec = nvcomp.Codec(algorithm=algorithm, bitstream_kind=nvcomp.BitstreamKind.RAW, **extra)
                batch = nvcomp.as_arrays(held, list(cuts), sizes)
                coded = codec.encode(batch)
                ratio = held.size / sum(coded.buffer_sizes)
                wait = cupy.cuda.runtime.deviceSynchronize
                for way, work in (
                    ("encode", lambda c=codec, b=batch: c.encode(b)),
                    ("decode", lambda c=codec, b=coded: c.decode(b)),
                ):
                    rows.append(
                        row(
                            f"nvCOMP {algorithm} {content} {way}",
                            held.size,
                            timed(work, wait, n=5, left=left),
                            ratio=ratio,
                        )
                    )
            except Exception as error:  # an algorithm may refuse a type; the others still count
                problems[f"{algorithm} {content}"] = f"{type(error).__name__}: {error}"
    return {"rows": rows, "problems": problems}


def measure_peers(*, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Measure CPU coders on the same volume and machine."""
    import zstandard

    samples = generated_volume(quick)
    raw, size, rows = samples.tobytes(), samples.nbytes, []

    def add(what: str, encode: Callable[[], bytes], decode: Callable[[bytes], Any]) -> None:
        if left() < 15 and not quick:
            return
        coded = encode()
        for way, work in (("encode", encode), ("decode", lambda: decode(coded))):
            seconds = timed(work, lambda: None, n=1 if quick else 3, left=left)
            rows.append(row(f"CPU {what} {way}", size, seconds, ratio=size / len(coded)))

    add("zstd -3", lambda: zstandard.compress(raw, 3), zstandard.decompress)
    add(
        "gpushrink default",
        lambda: encode_slab(samples),
        lambda coded: decode_slab(coded, shape=samples.shape, dtype=np.int16),
    )
    try:
        import imagecodecs

        # JPEG-LS takes unsigned samples; the padding's -1024 becomes 0.
        planes = (samples.astype(np.int32) + 1024).astype(np.uint16)
        coded = [imagecodecs.jpegls_encode(plane) for plane in planes]
        seconds = timed(lambda: [imagecodecs.jpegls_encode(p) for p in planes], lambda: None, n=1, left=left)
        rows.append(row("CPU JPEG-LS encode, one core", size, seconds, ratio=size / sum(map(len, coded))))
    except ImportError:
        pass
    return {"rows": rows}
