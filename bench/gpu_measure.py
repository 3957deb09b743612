"""What bench/gpu.py measures: the codec's kernels and ways, nvCOMP alone, and the CPU's coders, on one volume."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_model import COSTS
from gpushrink.codec.volume import fit
from gpushrink.codec.volume.levels import LEVELS as LEVELS_OF
from gpushrink.codec.volume.levels import TAP_SETS
from gpushrink.codec.volume.references import choose_references
from gpushrink.codec.volume.slab import CHAIN, decode_slab, encode_slab
from gpushrink.devices.device import Device, DeviceArray, Kernel
from gpushrink.devices.device_pool import DevicePool
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.pipeline.device import DeviceSlabCodec

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


def timed(
    work: Callable[[], Any],
    settle: Callable[[], None],
    *,
    n: int,
    left: Callable[[], float],
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Run once to warm up, then up to n times while there is time; give the seconds of each."""
    work()
    settle()
    seconds: list[float] = []
    while len(seconds) < n and (not seconds or left() > 5):
        began = clock()
        work()
        settle()
        seconds.append(clock() - began)
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
    """Measure encode and decode of slabs, whole and kernel by kernel; prove the bytes first."""
    device = open_device(name)
    samples = generated_volume(quick)
    copied = copy_rate(device, quick=quick, left=left)
    rows: list[dict[str, Any]] = []
    kernels: dict[str, Any] = {}
    for level in LEVELS:
        codec = DeviceVolumeCodec(device)
        payload = codec.encode_slab(samples, level=level)
        same = payload == encode_slab(samples, level=level)
        if not np.array_equal(decode_slab(payload, shape=samples.shape, dtype=np.int16), samples):
            raise AssertionError(f"level {level}: the CPU does not read what the device writes")
        if not np.array_equal(device.get(codec.decode_slab(payload, shape=samples.shape, dtype=np.int16)), samples):
            raise AssertionError(f"level {level}: the device does not give the samples back")
        rows += slab_rows(device, samples, payload, level, quick=quick, left=left)
        kernels[level] = kernel_rows(device, samples, payload, level, copied)
        ratio = samples.nbytes / len(payload)
        for way in ("encode", "decode"):
            total = sum(one["seconds"] for one in kernels[level].values() if one["way"] == way)
            rows.append(row(f"{way} {level}, kernels alone", samples.nbytes, [total], ratio=ratio))
        kernels[level + " stream equals the CPU's"] = same
    return {"device": device.name, "shape": samples.shape, "copy_gb_per_s": copied, "rows": rows, "kernels": kernels}


def copy_rate(device: Device, *, quick: bool, left: Callable[[], float]) -> float:
    """Measure what a copy within the device's memory moves, read and written: what kernels' shares are taken of."""
    size = 1 << (20 if quick else 28)
    source, target = device.zeros(size, np.uint8), device.zeros(size, np.uint8)
    seconds = timed(lambda: device.copy(source, target), device.synchronize, n=5, left=left)
    return 2 * size / statistics.median(seconds) / 1e9


def slab_rows(
    device: Device, samples: NDArray[np.int16], payload: bytes, level: str, *, quick: bool, left: Callable[[], float]
) -> list[dict[str, Any]]:
    """Measure whole slabs: one alone, several in flight as `pack` has them, several side by side."""
    size, ratio, n = samples.nbytes, samples.nbytes / len(payload), 1 if quick else 5
    codec, many = DeviceVolumeCodec(device), 2 if quick else 8
    depth, height, width = samples.shape
    in_flight = DeviceSlabCodec(DevicePool([device]))
    threads = ThreadPoolExecutor(many)

    def encode_many() -> None:
        list(threads.map(lambda _: in_flight.encode(samples, level=level, references=CHAIN), range(many)))

    def decode_many() -> None:
        list(threads.map(lambda _: in_flight.decode(payload, shape=samples.shape, dtype=samples.dtype), range(many)))

    def side_by_side(stepped: bool) -> Callable[[], Any]:
        coder = DeviceVolumeCodec(device, stepped=stepped)
        return lambda: coder.decode_slabs(
            [payload] * many, depths=[depth] * many, rows=height, columns=width, dtype=np.int16
        )

    works: list[tuple[str, int, Callable[[], Any]]] = [
        (f"encode {level}, one slab, from host memory", 1, lambda: codec.encode_slab(samples, level=level)),
        (f"encode {level}, {many} slabs in flight", many, encode_many),
        (f"decode {level}, one slab, to the device", 1,
         lambda: codec.decode_slab(payload, shape=samples.shape, dtype=np.int16)),
        (f"decode {level}, {many} slabs in flight, to the host", many, decode_many),
        (f"decode {level}, {many} slabs side by side", many, side_by_side(stepped=False)),
        (f"decode {level}, {many} slabs side by side, in steps", many, side_by_side(stepped=True)),
    ]  # fmt: skip
    rows = [
        row(what, count * size, timed(work, device.synchronize, n=n, left=left), ratio=ratio)
        for what, count, work in works
    ]
    threads.shutdown()
    return rows


def kernel_rows(
    device: Device, samples: NDArray[np.int16], payload: bytes, level: str, copied: float
) -> dict[str, dict[str, Any]]:
    """Time each kernel of one slab both ways, beside what the cost model says it moves."""
    watched = TimedDevice(device)
    slow = DeviceVolumeCodec(watched)
    slow.encode_slab(samples, level=level)
    encoding = set(watched.kernels)
    slow.decode_slab(payload, shape=samples.shape, dtype=np.int16)
    moved = {name: cost.memory_bytes for cost in COSTS for name in cost.kernels}
    found = {}
    for kernel, seconds in watched.kernels.items():
        bytes_moved = moved.get(kernel, 0.0) * samples.size
        rate = bytes_moved / sum(seconds) / 1e9
        found[kernel] = {
            "way": "encode" if kernel in encoding else "decode",
            "launches": len(seconds),
            "seconds": sum(seconds),
            "gb_per_s_of_pixels": samples.nbytes / sum(seconds) / 1e9,
            "median_launch_us": statistics.median(seconds) * 1e6,
            "gb_per_s_moved": rate,
            "share_of_copy": rate / copied,
        }
    return found


def measure_host_part(*, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Time what the host does for each slab while a device encodes: seconds of one core, whatever else runs."""
    samples = generated_volume(quick)
    rows = []
    for level in LEVELS:
        watched = HostSeconds(samples, level)
        for what, work in watched.parts().items():
            seconds = timed(work, lambda: None, n=1 if quick else 3, left=left, clock=time.thread_time)
            rows.append(row(f"host, {level}: {what}", samples.nbytes, seconds))
    return {"rows": rows}


class HostSeconds:
    """The host's part of encoding one slab, each piece to be run by itself."""

    def __init__(self, samples: NDArray[np.int16], level: str) -> None:
        self._samples, self._steer = samples, LEVELS_OF[level]

    def parts(self) -> dict[str, Callable[[], Any]]:
        """Name the pieces."""
        rng, steer = np.random.default_rng(1), self._steer
        count = fit.sample_count(self._samples.size, steer)
        taps = TAP_SETS[steer.tap_set]
        width = len(taps.plain[-1]) - 1 + len(taps.feedback[-1])
        classes = max(1, min(steer.spatial_classes * steer.temporal_classes * taps.directions, count // 500))
        activity = rng.integers(0, 4000, count).astype(np.int32)
        half = rng.integers(-500, 500, (classes, width, width + 40))
        squares = half @ half.transpose(0, 2, 1)
        sums = np.concatenate([squares, half.sum(axis=2, keepdims=True)], axis=2)
        rows = len(taps.energy) + len(taps.steps)
        magnitudes = rng.integers(0, 60, (rows, -(-count // fit.weights_step(count)))).astype(np.int32)
        return {
            "reference pattern": lambda: choose_references(self._samples),
            "thresholds": lambda: fit.choose_classes(steer, taps.directions, activity, activity, True),
            "coefficients": lambda: fit.solve_stage(sums, np.full(classes, count // classes), steer.grain),
            "context weights": lambda: fit.solve_weights(magnitudes, magnitudes[0]),
        }


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
