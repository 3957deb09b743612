"""Several slabs on several devices within their memory: the same bytes whatever runs beside them or runs out."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

import gpushrink
from gpushrink.codec.table import CPU
from gpushrink.codec.volume.slab import CHAIN, encode_slab
from gpushrink.devices import volume_engine
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.device_pool import DevicePool
from gpushrink.devices.emulation.build import find_compiler
from gpushrink.devices.host import HostDevice
from gpushrink.devices.volume_engine import DeviceVolumeCodec, decode_need, encode_need
from gpushrink.dicom.synthetic import write_series
from gpushrink.errors import DeviceUnavailableError, UsageError
from gpushrink.pipeline.device import DeviceSlabCodec, open_slab_codec

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


class Failing(HostDevice):
    """Run out of memory at the allocation with one number, once."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.seen, self.released = [0], [0]  # shared with siblings

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Allocate, or not."""
        self.seen[0] += 1
        if self.seen[0] == self.at:
            raise MemoryError(f"allocation {self.at}")
        return super().zeros(shape, dtype)

    def release(self) -> None:
        """Note that it was asked."""
        self.released[0] += 1


def slab(seed: int = 1) -> NDArray[np.int16]:
    """Return a small slab."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:3, :11, :17]
    return (300 * np.sin(x / 5 + z) + 9 * y + rng.normal(0, 9, (3, 11, 17))).astype(np.int16)


def test_out_of_memory_at_any_allocation_changes_no_byte() -> None:
    """Wherever memory runs out, the slab is coded once more with the device to itself, to the same bytes, both ways."""
    samples = slab()
    expected = encode_slab(samples)
    device = Failing(0)
    codec = DeviceSlabCodec(DevicePool([device]))
    assert b"".join(codec.encode(samples, level="default", references=CHAIN)) == expected
    encoding = device.seen[0]
    codec.decode(expected, shape=samples.shape, dtype=samples.dtype)
    assert encoding > 30
    assert device.seen[0] - encoding > 15
    for at in range(1, device.seen[0] + 1):
        failing = Failing(at)
        codec = DeviceSlabCodec(DevicePool([failing]))
        assert b"".join(codec.encode(samples, level="default", references=CHAIN)) == expected
        assert (codec.decode(expected, shape=samples.shape, dtype=samples.dtype) == samples).all()
        assert failing.released == [1], at


def test_out_of_memory_of_a_batch_halves_it() -> None:
    """Slabs decoded side by side are decoded in smaller batches where memory ends, whichever allocation it is."""
    whole = np.concatenate([slab(seed) for seed in range(4)])
    payloads = [encode_slab(whole[at : at + 3], level="fast") for at in range(0, 12, 3)]
    arguments: dict[str, Any] = {"depths": [3] * 4, "rows": 11, "columns": 17, "dtype": "int16"}
    device = Failing(0)
    assert (DeviceVolumeCodec(device).decode_slabs(payloads, **arguments) == whole).all()
    assert device.launches["decode_planes"] == 1
    for back in range(12):  # the last allocations: those of the wavefront
        failing = Failing(device.seen[0] - back)
        assert (DeviceVolumeCodec(failing).decode_slabs(payloads, **arguments) == whole).all()
        assert failing.launches["decode_planes"] == 2
        assert failing.released == [1]


def test_slab_too_large_for_a_device_leaves_the_others_their_room() -> None:
    """Memory that runs out for a slab alone says nothing of how many smaller ones fit."""
    pool = DevicePool([HostDevice(memory_bytes=1 << 20)])
    before = pool.budget

    def too_large(device: Device) -> None:
        device.zeros(1 << 21, np.uint8)

    with pytest.raises(MemoryError):
        pool.run(too_large, need=1 << 21)
    assert pool.budget == before


def test_device_too_small_is_an_error_or_the_spare_s_work() -> None:
    """Without a spare the error says what to do; with one the bytes are the same."""
    samples = slab()
    tiny = DevicePool([HostDevice(memory_bytes=3_000)])
    with pytest.raises(DeviceUnavailableError, match="cuda,cpu"):
        DeviceSlabCodec(tiny).encode(samples, level="fast", references=CHAIN)
    spared = DeviceSlabCodec(tiny, spare=CPU)
    payload = b"".join(spared.encode(samples, level="fast", references=CHAIN))
    assert payload == encode_slab(samples, level="fast")
    with pytest.raises(DeviceUnavailableError, match="3 x 11 x 17"):
        DeviceSlabCodec(tiny).decode(payload, shape=samples.shape, dtype=samples.dtype)
    assert (spared.decode(payload, shape=samples.shape, dtype=samples.dtype) == samples).all()
    assert "spare" in spared.name


def test_pool_keeps_to_its_budget_and_uses_every_device() -> None:
    """At most what fits runs at once, on all devices; a slab larger than the budget runs alone."""
    devices = [HostDevice(memory_bytes=1_000), HostDevice(memory_bytes=1_000)]
    pool = DevicePool(devices, memory_bytes=800)
    lock, running, most, used = threading.Lock(), [0, 0], [0, 0], [0, 0]

    def work(device: Device) -> None:
        # A sibling shares the ledger of the device that it came from.
        mine = [one._ledger for one in devices].index(device._ledger)  # type: ignore[attr-defined]
        with lock:
            running[mine] += 1
            used[mine] += 1
            most[mine] = max(most[mine], running[mine])
        time.sleep(0.02)
        with lock:
            running[mine] -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda _: pool.run(work, need=390), range(24)))
        assert most == [2, 2]
        assert min(used) > 4
        most[:] = [0, 0]
        list(threads.map(lambda _: pool.run(work, need=5_000), range(8)))
    assert most == [1, 1]


def test_pool_out_of_memory_waits_for_the_others_and_lets_fewer_in() -> None:
    """Who runs out of memory goes on when the device is free; later fewer share it."""
    pool = DevicePool([HostDevice()], memory_bytes=100)
    lock, running, failures = threading.Lock(), [0], [0]

    def work(device: Device) -> int:
        with lock:
            running[0] += 1
            here = running[0]
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        if here > 2:
            failures[0] += 1
            raise MemoryError("three are too many")
        return here

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: pool.run(work, need=20), range(40)))
    assert len(found) == 40
    assert failures[0] >= 1
    assert pool._cards[0].budget < 100
    assert not pool._cards[0].queues
    assert not pool._cards[0].promised


@pytest.mark.parametrize("device", ["host:0,1", "host,cpu"])
def test_archive_of_many_slabs_in_flight_equals_the_cpu_s(device: str, tmp_path: Path) -> None:
    """Two devices, many threads, little memory: the archive is the CPU's, and comes back through them."""
    folder = tmp_path / "study"
    for number in range(4):
        (folder / str(number)).mkdir(parents=True)
        write_series(folder / str(number), slices=3, rows=24, columns=30 + 2 * number)
    gpushrink.pack(folder, tmp_path / "cpu.gsz", level="fast", device="cpu")
    report = gpushrink.pack(
        folder, tmp_path / "device.gsz", level="fast", device=device, device_memory=4 << 20, threads=6
    )
    assert (tmp_path / "cpu.gsz").read_bytes() == (tmp_path / "device.gsz").read_bytes()
    assert report.engine.count("emulation") == (2 if "1" in device else 1)
    back = gpushrink.unpack(tmp_path / "cpu.gsz", tmp_path / "back", device=device, device_memory=4 << 20, threads=6)
    assert back.worst() is None


@pytest.mark.parametrize("name", ["cuda:", "cuda:0,x", "cuda:-1", "cuda:0,cpu,1", "host:all", "cpu:0", "cpu,cuda", ""])
def test_device_names_that_mean_nothing_are_refused(name: str) -> None:
    """A name is understood whole or not at all."""
    with pytest.raises(UsageError, match="none of"):
        open_slab_codec(name)


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_needs_are_at_least_what_a_slab_takes(level: str) -> None:
    """A device with just the memory that is estimated has enough for a slab, both ways; one of a quarter has not."""
    shape = (6, 260, 330)
    z, y, x = np.indices(shape)
    samples = (300 * np.sin(x / 9 + z) + 5 * y + np.random.default_rng(3).normal(0, 9, shape)).astype(np.int16)
    expected = encode_slab(samples, level=level)
    fixed = volume_engine._FIXED_NEED
    encoding, decoding = encode_need(shape, level), decode_need(shape)
    assert DeviceVolumeCodec(HostDevice(memory_bytes=encoding)).encode_slab(samples, level=level) == expected
    decoder = DeviceVolumeCodec(HostDevice(memory_bytes=decoding))
    assert (decoder.decode_slab(expected, shape=shape, dtype="int16") == samples).all()
    with pytest.raises(MemoryError):
        DeviceVolumeCodec(HostDevice(memory_bytes=(encoding - fixed) // 4)).encode_slab(samples, level=level)
    with pytest.raises(MemoryError):
        DeviceVolumeCodec(HostDevice(memory_bytes=(decoding - fixed) // 4)).decode_slab(
            expected, shape=shape, dtype="int16"
        )
