"""What bench/gpu.py measures: the codec's kernels and ways, nvCOMP alone, and the CPU's coders, on one volume."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpushrink
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

# Of smaller slabs a batch of eight fills no card anyway.
LARGE_SLAB = 8 << 20
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
    """Pass everything on to a device; time each kernel by itself, on a card by the card's clock."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.kernels: dict[str, list[float]] = {}

    def _time(self, work: Callable[[], None]) -> float:
        self._device.synchronize()
        stream = getattr(self._device, "_stream", None)
        if stream is None:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began
        from cupy import cuda

        first, last = cuda.Event(), cuda.Event()
        first.record(stream)
        work()
        last.record(stream)
        last.synchronize()
        return float(cuda.get_elapsed_time(first, last)) / 1e3

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
        """Launch, wait, note the time."""

        def work() -> None:
            self._device.launch(kernel, grid=grid, block=block, args=args, shared_bytes=shared_bytes)

        self.kernels.setdefault(kernel.name, []).append(self._time(work))

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

        def work() -> None:
            self._device.launch_turns(kernel, turns=turns, grid=grid, block=block, args=args)

        self.kernels.setdefault(kernel.name, []).extend([self._time(work) / turns] * turns)


def measure_codec(name: str, *, study: Path | None, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Measure encode and decode of slabs, alone, in batches and kernel by kernel; prove the bytes first.

    Parameters
    ----------
    study
        A folder of archives; the first 32 slices of each one's largest volume are measured beside a generated one.
    """
    device = open_device(name)
    volumes = {"generated CT": generated_volume(quick), **({} if study is None else study_slabs(study, quick))}
    copied = copy_rate(device, quick=quick, left=left)
    rows: list[dict[str, Any]] = []
    kernels: dict[str, Any] = {}
    same: dict[str, bool] = {}
    for level in LEVELS:
        for what, samples in volumes.items():
            if left() < 20 and not quick:
                continue
            batch = variants(samples, 2 if quick else 8)
            codec = DeviceVolumeCodec(device)
            coded = codec.encode_slabs(batch, level=level, references=[CHAIN] * len(batch))
            payloads = [b"".join(one) for one in coded]
            on_cpu = encode_slab(samples, level=level)
            same[f"{what}, {level}"] = payloads[0] == on_cpu  # unless nvCOMP wrote zstd frames of it
            if not np.array_equal(decode_slab(payloads[0], shape=samples.shape, dtype=samples.dtype), samples):
                raise AssertionError(f"{what}, level {level}: the CPU does not read what the device writes")
            back = device.get(decode_batch(codec, payloads, batch))
            if not np.array_equal(back, np.concatenate(batch)):
                raise AssertionError(f"{what}, level {level}: the device does not give the samples back")
            found_rows = slab_rows(device, batch, payloads, level, quick=quick, left=left)
            rows += [{**one, "what": f"{what}: {one['what']}"} for one in found_rows]
            kernels[f"{what}, {level}"] = found = kernel_rows(device, batch, payloads, level, copied)
            rows += alone_rows(found, what, level, batch, payloads)
            if quick or (samples.nbytes > LARGE_SLAB and left() > 60):
                many = variants(samples, 3 * len(batch))
                device.release()
                found_rows, found = many_rows(device, many, level, copied, left=left)
                rows += [{**one, "what": f"{what}: {one['what']}"} for one in found_rows]
                kernels[f"{what}, {level}, {len(many)} slabs"] = found
                rows += alone_rows(found, what, level, many, payloads * 3)
                device.release()
    return {
        "device": device.name,
        "shapes": {what: samples.shape for what, samples in volumes.items()},
        "copy_gb_per_s": copied,
        "stream_equals_the_cpu_s": same,
        "rows": rows,
        "kernels": kernels,
    }


def alone_rows(
    found: dict[str, dict[str, Any]], what: str, level: str, batch: Sequence[NDArray[Any]], payloads: Sequence[bytes]
) -> list[dict[str, Any]]:
    """Add up what the kernels of a batch took, each way."""
    size = sum(one.nbytes for one in batch)
    return [
        row(
            f"{what}: {way} {level}, {len(batch)} slabs, kernels alone",
            size,
            [sum(one["seconds"] for one in found.values() if one["way"] == way)],
            ratio=size / sum(map(len, payloads)),
        )
        for way in ("encode", "decode")
    ]


def many_rows(
    device: Device, batch: Sequence[NDArray[Any]], level: str, copied: float, *, left: Callable[[], float]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Measure a batch of many slabs on the device: kernels that wait are then paid for once for all."""
    codec, chains = DeviceVolumeCodec(device), [CHAIN] * len(batch)
    held = device.put_all(batch).reshape(-1, *batch[0].shape[1:])
    depths = [len(one) for one in batch]
    coded = codec.encode_planes(held, depths, level=level, references=chains)
    payloads = [b"".join(one) for one in coded]
    size = sum(one.nbytes for one in batch)
    works: list[tuple[str, Callable[[], Any]]] = [
        (f"encode {level}, {len(batch)} slabs on the device",
         lambda: codec.encode_planes(held, depths, level=level, references=chains)),
        (f"decode {level}, {len(batch)} slabs to the device", lambda: decode_batch(codec, payloads, batch)),
    ]  # fmt: skip
    ratio = size / sum(map(len, payloads))
    rows = [row(what, size, timed(work, device.synchronize, n=3, left=left), ratio=ratio) for what, work in works]
    return rows, kernel_rows(device, batch, payloads, level, copied)


def study_slabs(study: Path, quick: bool) -> dict[str, NDArray[Any]]:
    """Give up to 32 slices of the largest 16-bit volume of each archive in a folder."""
    found = {}
    for path in sorted(study.glob("*.gsz")):
        with gpushrink.open(path) as archive:
            volumes = [one for one in archive.series() if one.dtype.itemsize == 2 and len(one.shape) == 3]
            largest = max(volumes, key=lambda one: int(np.prod(one.shape)))
            part = archive.volume(largest, slices=slice(0, 3 if quick else 32))
            found[path.stem] = np.ascontiguousarray(part[:, 200:230, 100:140] if quick else part)
    return found


def variants(samples: NDArray[Any], count: int) -> list[NDArray[Any]]:
    """Give slabs of the same statistics and other samples: planes turned upside down, mirrored, rolled."""
    turned = [samples, samples[:, ::-1], samples[:, :, ::-1], samples[:, ::-1, ::-1]]
    return [np.ascontiguousarray(np.roll(turned[k % 4], 16 * (k // 4), axis=1)) for k in range(count)]


def decode_batch(codec: DeviceVolumeCodec, payloads: Sequence[bytes], batch: Sequence[NDArray[Any]]) -> DeviceArray:
    """Decode slabs side by side."""
    _, rows, columns = batch[0].shape
    depths = [len(one) for one in batch]
    return codec.decode_slabs(payloads, depths=depths, rows=rows, columns=columns, dtype=batch[0].dtype)


def copy_rate(device: Device, *, quick: bool, left: Callable[[], float]) -> float:
    """Measure what a copy within the device's memory moves, read and written: what kernels' shares are taken of."""
    size = 1 << (20 if quick else 28)
    source, target = device.zeros(size, np.uint8), device.zeros(size, np.uint8)
    seconds = timed(lambda: device.copy(source, target), device.synchronize, n=5, left=left)
    return 2 * size / statistics.median(seconds) / 1e9


def slab_rows(
    device: Device,
    batch: Sequence[NDArray[Any]],
    payloads: Sequence[bytes],
    level: str,
    *,
    quick: bool,
    left: Callable[[], float],
) -> list[dict[str, Any]]:
    """Measure slabs: one alone, a batch whose samples are and stay on the device, and many as `pack` hands them in."""
    size, n = batch[0].nbytes, 1 if quick else 5
    ratio = size * len(batch) / sum(map(len, payloads))
    codec, count = DeviceVolumeCodec(device), len(batch)
    depths, chains = [len(one) for one in batch], [CHAIN] * len(batch)
    held = device.put_all(batch).reshape(-1, *batch[0].shape[1:])
    crowd = 2 if quick else 3
    queues = [DeviceVolumeCodec(device.sibling()) for _ in range(crowd)]
    rounds, calls = (1, 4) if quick else (3, 64)
    combined = DeviceSlabCodec(DevicePool([device]))
    threads = ThreadPoolExecutor(2 if quick else 24)
    each = threads.map  # consumed by list() below

    def encode_resident(coder: DeviceVolumeCodec) -> None:
        for _ in range(rounds):
            coder.encode_planes(held, depths, level=level, references=chains)

    def decode_resident(coder: DeviceVolumeCodec) -> None:
        for _ in range(rounds):
            decode_batch(coder, payloads, batch)

    def encode_one(place: int) -> None:
        combined.encode(batch[place % count], level=level, references=CHAIN)

    def decode_one(place: int) -> None:
        combined.decode(payloads[place % count], shape=batch[0].shape, dtype=batch[0].dtype)

    alone = payloads[:1], batch[:1]
    works: list[tuple[str, int, Callable[[], Any]]] = [
        (f"encode {level}, one slab, from host memory", 1, lambda: codec.encode_slab(batch[0], level=level)),
        (f"encode {level}, {count} slabs on the device", count,
         lambda: codec.encode_planes(held, depths, level=level, references=chains)),
        (f"encode {level}, {crowd} times {count} slabs on the device at once", crowd * rounds * count,
         lambda: list(each(encode_resident, queues))),
        (f"encode {level}, {calls} slabs from host memory, by threads", calls,
         lambda: list(each(encode_one, range(calls)))),
        (f"decode {level}, one slab, to the device", 1, lambda: decode_batch(codec, *alone)),
        (f"decode {level}, {count} slabs to the device", count, lambda: decode_batch(codec, payloads, batch)),
        (f"decode {level}, {crowd} times {count} slabs to the device at once", crowd * rounds * count,
         lambda: list(each(decode_resident, queues))),
        (f"decode {level}, {calls} slabs to host memory, by threads", calls,
         lambda: list(each(decode_one, range(calls)))),
    ]  # fmt: skip
    rows = [
        row(what, many * size, timed(work, device.synchronize, n=n if many <= count else 2, left=left), ratio=ratio)
        for what, many, work in works
    ]
    threads.shutdown()
    return rows


def kernel_rows(
    device: Device, batch: Sequence[NDArray[Any]], payloads: Sequence[bytes], level: str, copied: float
) -> dict[str, dict[str, Any]]:
    """Time each kernel of a batch both ways, beside what the cost model says it moves."""
    watched = TimedDevice(device)
    slow = DeviceVolumeCodec(watched)
    slow.encode_slabs(batch, level=level, references=[CHAIN] * len(batch))
    encoding = set(watched.kernels)
    decode_batch(slow, payloads, batch)
    moved = {name: cost.memory_bytes for cost in COSTS for name in cost.kernels}
    samples, size = sum(one.size for one in batch), sum(one.nbytes for one in batch)
    found = {}
    for kernel, seconds in watched.kernels.items():
        bytes_moved = moved.get(kernel, 0.0) * samples
        rate = bytes_moved / sum(seconds) / 1e9
        found[kernel] = {
            "way": "encode" if kernel in encoding else "decode",
            "launches": len(seconds),
            "seconds": sum(seconds),
            "gb_per_s_of_pixels": size / sum(seconds) / 1e9,
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
        count = fit.sample_count(self._samples.size, steer, 1.0)
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
