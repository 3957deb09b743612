"""One suite for every device: what the host emulation must do, a card must do too. A missing card is a counted skip."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.volume.geometry import References
from gpushrink.codec.volume.slab import CHAIN, decode_slab, encode_slab
from gpushrink.devices import zstd_frames
from gpushrink.devices.cuda import CudaDevice
from gpushrink.devices.device import Device
from gpushrink.devices.device_check import check_device
from gpushrink.devices.entropy_stage import ResidentPayload, decode_resident, encode_resident
from gpushrink.devices.host import HostDevice
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.errors import CorruptError, DeviceUnavailableError


@functools.cache
def open_device(name: str) -> Device | str:
    """Open a device, or say why it cannot be had."""
    try:
        if name == "cuda":
            return CudaDevice()
        device = HostDevice()
        check_device(device, np.random.default_rng(0))
    except DeviceUnavailableError as error:
        return str(error)
    return device


@pytest.fixture(params=["host", "cuda"])
def device(request: pytest.FixtureRequest) -> Device:
    """Give each device that can be had here."""
    found = open_device(request.param)
    if isinstance(found, str):
        pytest.skip(f"no {request.param} device: {found}")
    return found


def payload_of(resident: ResidentPayload) -> bytes:
    """Join a payload's parts."""
    return b"".join(resident.parts)


def volume(shape: tuple[int, int, int], dtype: str, seed: int) -> NDArray[np.generic]:
    """Return a smooth generated volume with noise and padding."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    values = 900 * np.sin(x / 17 + z / 3) + 400 * np.cos(y / 11) + rng.normal(0, 12, shape)
    values[:, :, : shape[2] // 8] = -1024
    limits = np.iinfo(dtype)
    return values.clip(max(-1024, limits.min), limits.max).astype(dtype)


def test_arrays_put_and_get_keep_every_byte(device: Device) -> None:
    """Arrays come back as they went, whatever their type."""
    rng = np.random.default_rng(1)
    for dtype in (np.uint8, np.int16, np.uint32, np.int64):
        array = rng.integers(0, 100, (3, 5, 7)).astype(dtype)
        back = device.get(device.put(array))
        assert back.dtype == array.dtype
        assert (back == array).all()
    assert not device.get(device.zeros((4, 4), np.uint16)).any()
    assert device.get(device.put(np.zeros((0, 3), np.int16))).shape == (0, 3)
    changed = np.arange(100_000, dtype=np.uint32)
    held = device.put(changed)
    changed[:] = 0  # the host array may be reused on return
    assert (device.get(held) == np.arange(100_000)).all()
    part = device.zeros(9, np.uint8)
    device.fill(part[2:5], 7)
    device.copy(part[2:4], part[7:9])
    assert device.get(part).tolist() == [0, 0, 7, 7, 7, 0, 0, 7, 7]
    assert device.memory().total_bytes >= device.memory().free_bytes > 0


def test_entropy_and_zstd_agree_with_the_reference(device: Device) -> None:
    """Counts, rANS and zstd frames cross between the device and the CPU."""
    check_device(device, np.random.default_rng(2))


def test_siblings_share_memory_and_run_beside_each_other(device: Device) -> None:
    """Queues of one device, each in a thread of its own, give what one alone gives."""
    samples = volume((3, 20, 33), "int16", 8)
    expected = encode_slab(samples, level="fast")

    def both_ways(queue: Device) -> bool:
        codec = DeviceVolumeCodec(queue)
        back = codec.decode_slab(expected, shape=samples.shape, dtype="int16")
        return codec.encode_slab(samples, level="fast") == expected and bool((queue.get(back) == samples).all())

    queues = [device, device.sibling(), device.sibling()]
    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(both_ways, queues * 3))
    device.release()
    before = device.memory().free_bytes
    held = queues[1].zeros(1 << 20, np.uint8)
    assert device.memory().free_bytes <= before - held.nbytes


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize(("shape", "dtype"), [((3, 40, 33), "int16"), ((4, 16, 70), "uint8"), ((2, 9, 5), "uint16")])
def test_slab_crosses_between_device_and_cpu(
    device: Device, shape: tuple[int, int, int], dtype: str, level: str
) -> None:
    """What either side writes is the same, and either side reads it."""
    samples = volume(shape, dtype, 3)
    codec = DeviceVolumeCodec(device)
    on_cpu = encode_slab(samples, level=level)
    assert codec.encode_slab(samples, level=level) == on_cpu
    assert (device.get(codec.decode_slab(on_cpu, shape=shape, dtype=dtype)) == samples).all()
    assert (decode_slab(on_cpu, shape=shape, dtype=dtype) == samples).all()


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize(
    ("shape", "dtype", "references"),
    [
        ((1, 1, 1), "uint8", CHAIN),
        ((2, 6, 1), "int16", CHAIN),
        ((6, 12, 13), "int8", ((3, 6), (1, 3), (1, 3))),
        ((5, 64, 300), "int16", ((2, 4),)),
        ((9, 33, 31), "uint16", CHAIN),
    ],
)
def test_slabs_of_odd_shapes_and_references_agree(
    device: Device, shape: tuple[int, int, int], dtype: str, references: References, level: str
) -> None:
    """Generated content of every kind, planes turned and not, references of any pattern: one stream on all devices."""
    rng = np.random.default_rng(5)
    limits = np.iinfo(dtype)
    codec = DeviceVolumeCodec(device)
    for samples in (
        volume(shape, dtype, 6),
        rng.integers(limits.min, limits.max, shape, dtype, endpoint=True),
        np.full(shape, limits.max, dtype),
    ):
        expected = encode_slab(samples, level=level, references=references)
        assert codec.encode_slab(samples, level=level, references=references) == expected
        assert (device.get(codec.decode_slab(expected, shape=shape, dtype=dtype)) == samples).all()


def test_slabs_side_by_side_and_in_steps_agree(device: Device) -> None:
    """A batch decodes to its slabs one after another, in one launch as in one a step."""
    whole = np.concatenate([volume((3, 21, 40), "int16", seed) for seed in range(4)])
    payloads = [encode_slab(whole[at : at + 3], level="fast" if at < 6 else "default") for at in range(0, 12, 3)]
    for stepped in (False, True):
        codec = DeviceVolumeCodec(device, stepped=stepped)
        found = codec.decode_slabs(payloads, depths=[3] * 4, rows=21, columns=40, dtype="int16")
        assert (device.get(found) == whole).all()


@pytest.mark.parametrize("fewest", [1, 64], ids=["zstd on the device", "zstd on the host"])
def test_every_kind_of_segment_crosses_between_device_and_cpu(
    device: Device, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rANS, constant, raw and zstd segments: what a device codes the CPU reads, and the other way round."""
    monkeypatch.setattr(zstd_frames, "FEWEST_DEVICE_CHUNKS", fewest)
    rng = np.random.default_rng(7)
    repeats = np.tile(rng.integers(0, 250, 3000, dtype=np.uint8), 50)
    repeats[rng.integers(0, len(repeats), 2000)] = 251
    parts = [
        rng.geometric(0.1, 40_000).clip(1, 200).astype(np.uint8),
        np.full(9_000, 7, np.uint8),
        repeats,
        rng.integers(0, 256, 5_000, dtype=np.uint8),
    ]
    symbols, lengths = np.concatenate(parts), np.array([len(part) for part in parts])
    on_cpu = encode_segments(symbols, lengths)
    [coded] = encode_resident(device, device.put(symbols), [lengths], judge=True)
    assert coded.judged_bytes == len(on_cpu)
    assert (decode_segments(payload_of(coded), lengths) == symbols).all()
    for payload in (on_cpu, payload_of(coded)):
        assert (device.get(decode_resident(device, [payload], [lengths])) == symbols).all()


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize(("rows", "columns"), [(30, 41), (41, 30)])
def test_slabs_encoded_together_are_those_encoded_alone(device: Device, level: str, rows: int, columns: int) -> None:
    """Slabs of unlike depth, content and references in one batch give the bytes of each one by the CPU."""
    rng = np.random.default_rng(11)
    smooth = volume((12, rows, columns), "int16", 4)
    slabs = [
        smooth[:5],
        smooth[5:6],  # one plane: none has references
        np.full((3, rows, columns), -77, np.int16),
        rng.integers(-(1 << 15), 1 << 15, (2, rows, columns), np.int16),
        smooth[6:],
    ]
    references: list[References] = [CHAIN, CHAIN, CHAIN, ((0, 0),), ((2, 4), (1, 2))]
    expected = [
        encode_slab(one, level=level, references=pattern) for one, pattern in zip(slabs, references, strict=True)
    ]
    codec = DeviceVolumeCodec(device)
    assert [b"".join(one) for one in codec.encode_slabs(slabs, level=level, references=references)] == expected
    depths = [len(one) for one in slabs]
    back = codec.decode_slabs(expected, depths=depths, rows=rows, columns=columns, dtype=np.int16)
    assert (device.get(back) == np.concatenate(slabs)).all()
    held = device.put_all([np.ascontiguousarray(one) for one in slabs]).reshape(-1, rows, columns)
    again = codec.encode_planes(held, depths, level=level, references=references)
    assert [b"".join(one) for one in again] == expected


def test_slabs_of_unlike_planes_are_not_encoded_together(device: Device) -> None:
    """A batch has one shape of plane and one type."""
    one = np.zeros((2, 5, 7), np.int16)
    for other in (np.zeros((2, 7, 5), np.int16), np.zeros((2, 5, 7), np.uint16)):
        with pytest.raises(ValueError, match="one shape of plane"):
            DeviceVolumeCodec(device).encode_slabs([one, other], references=[CHAIN, CHAIN])


def test_golden_slab_is_read_by_every_device(device: Device) -> None:
    """The worked example of docs/format-volume.md, which no encoder makes again, gives its samples."""
    page = (Path(__file__).parents[2] / "docs" / "format-volume.md").read_text(encoding="utf-8")
    stored = bytes.fromhex(page.split("## Worked example")[1].split("```")[1])
    z, y, x = np.mgrid[:3, :2, :3]
    samples = (10 * z + 3 * y + x).astype(np.uint16)
    codec = DeviceVolumeCodec(device)
    assert (device.get(codec.decode_slab(stored, shape=(3, 2, 3), dtype="uint16")) == samples).all()


def test_slab_with_damaged_stream_is_refused(device: Device) -> None:
    """A device survives damage that reaches its kernels, and says so."""
    samples = volume((2, 20, 24), "int16", 4)
    payload = bytearray(encode_slab(samples))
    payload[-40] ^= 0xFF
    codec = DeviceVolumeCodec(device)
    with pytest.raises(CorruptError):
        codec.decode_slab(bytes(payload), shape=(2, 20, 24), dtype="int16")
    again = codec.decode_slab(encode_slab(samples), shape=(2, 20, 24), dtype="int16")
    assert (device.get(again) == samples).all()
