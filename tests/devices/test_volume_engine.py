"""Volume slabs on a device: the reference's bytes and samples, in any schedule, without an alarm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpushrink.codec.volume.slab import CHAIN, decode_slab, encode_slab
from gpushrink.devices import host, volume_program
from gpushrink.devices.device import Kernel
from gpushrink.devices.emulation.build import Sanitizer, find_compiler
from gpushrink.devices.emulation.module import KernelFaultError
from gpushrink.devices.emulation.schedule import EVERY_SCHEDULE, Order, Schedule
from gpushrink.devices.host import HostDevice
from gpushrink.devices.program import compose
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.errors import CorruptError, DeviceUnavailableError, GpushrinkError

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


def volume(shape: tuple[int, int, int], dtype: str, seed: int = 0, content: str = "smooth") -> NDArray[np.generic]:
    """Return generated samples of one kind of content."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    limits = np.iinfo(dtype)
    if content == "noise":
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    if content == "flat":
        return np.full(shape, limits.max, dtype)
    values = 60 * np.sin(x / 7 + z / 3) + 40 * np.cos(y / 5) + rng.normal(0, 6, shape)
    values[:, : shape[1] // 4] = -100
    if content == "wide":
        values *= 200
    return (values.clip(-110) + (limits.max + limits.min) / 2).clip(limits.min, limits.max).astype(dtype)


CASES = [
    ((4, 20, 24), "int16", "smooth", CHAIN),
    ((3, 30, 9), "uint16", "wide", CHAIN),
    ((6, 12, 13), "uint8", "smooth", ((3, 6), (1, 3), (1, 3))),
    ((5, 7, 40), "int8", "smooth", ((2, 4),)),
    ((2, 16, 17), "uint16", "noise", CHAIN),
    ((3, 5, 6), "int16", "flat", CHAIN),
    ((1, 1, 1), "uint8", "smooth", CHAIN),
    ((1, 1, 9), "int16", "noise", CHAIN),
    ((2, 6, 1), "uint16", "noise", CHAIN),
    ((3, 2, 2), "int16", "noise", CHAIN),
]


@pytest.mark.parametrize("level", ["fast", "default", "max"])
@pytest.mark.parametrize(("shape", "dtype", "content", "references"), CASES)
def test_slab_on_device_equals_the_reference(
    shape: tuple[int, int, int], dtype: str, content: str, references: tuple[tuple[int, int], ...], level: str
) -> None:
    """Both ways, the device's bytes and samples are the CPU's."""
    samples = volume(shape, dtype, content=content)
    codec = DeviceVolumeCodec(HostDevice())
    expected = encode_slab(samples, level=level, engine="numpy", references=references)
    assert codec.encode_slab(samples, level=level, references=references) == expected
    back = codec.decode_slab(expected, shape=shape, dtype=dtype)
    assert back.dtype == samples.dtype
    assert (back == samples).all()


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
@pytest.mark.parametrize("level", ["default", "max"])
def test_slab_in_any_schedule_gives_the_same(schedule: Schedule, level: str) -> None:
    """Neither the order of threads nor that of blocks shows in the bytes or the samples."""
    samples = volume((3, 11, 300), "int16", seed=3)
    codec = DeviceVolumeCodec(HostDevice(schedule=schedule))
    payload = codec.encode_slab(samples, level=level)
    assert payload == encode_slab(samples, level=level, engine="numpy")
    assert (codec.decode_slab(payload, shape=(3, 11, 300), dtype="int16") == samples).all()
    stepped = DeviceVolumeCodec(HostDevice(schedule=schedule), stepped=True)
    assert (stepped.decode_slab(payload, shape=(3, 11, 300), dtype="int16") == samples).all()


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE[1:3], ids=str)
def test_slab_with_many_classes_fits_the_same_model(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of more voxels than one block sums over, and 16-bit extremes, give the reference's coefficients.

    So do coefficients that find no room in shared memory.
    """
    samples = volume((5, 100, 240), "uint16", seed=11, content="wide")
    samples[2, 20:40, 30:60] = np.random.default_rng(12).choice([0, 65535], (20, 30))
    codec = DeviceVolumeCodec(HostDevice(schedule=schedule))
    expected = encode_slab(samples, level="default")
    assert codec.encode_slab(samples, level="default") == expected
    assert (codec.decode_slab(expected, shape=samples.shape, dtype="uint16") == samples).all()
    monkeypatch.setattr(volume_program, "_MOST_SHARED", 4_000)
    assert codec.encode_slab(samples, level="default") == expected
    assert (codec.decode_slab(expected, shape=samples.shape, dtype="uint16") == samples).all()


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE[:4], ids=str)
def test_slabs_side_by_side_give_the_whole_volume(schedule: Schedule) -> None:
    """Slabs of unlike depth, level and content decode in one batch, or in one for each set of neighbours."""
    whole = volume((12, 9, 14), "int16", seed=9)
    whole[5:8] = volume((3, 9, 14), "int16", seed=10, content="noise")
    cuts = [(0, 5, "default"), (5, 8, "default"), (8, 9, "fast"), (9, 12, "fast")]
    payloads = [encode_slab(whole[begin:end], level=level) for begin, end, level in cuts]
    depths = [end - begin for begin, end, _ in cuts]
    codec = DeviceVolumeCodec(HostDevice(schedule=schedule))
    assert (codec.decode_slabs(payloads, depths=depths, rows=9, columns=14, dtype="int16") == whole).all()
    stepped = DeviceVolumeCodec(HostDevice(schedule=schedule), stepped=True)
    assert (stepped.decode_slabs(payloads, depths=depths, rows=9, columns=14, dtype="int16") == whole).all()
    with pytest.raises(CorruptError):
        codec.decode_slabs(payloads, depths=[5, 2, 2, 3], rows=9, columns=14, dtype="int16")


def test_slab_with_lines_longer_than_a_block_gives_the_same() -> None:
    """A line of more samples than a block has threads is taken in turns, in order."""
    samples = volume((2, 280, 600), "int16", seed=4)
    codec = DeviceVolumeCodec(HostDevice(schedule=EVERY_SCHEDULE[1]))
    payload = codec.encode_slab(samples, level="fast")
    assert payload == encode_slab(samples, level="fast")
    assert (codec.decode_slab(payload, shape=samples.shape, dtype="int16") == samples).all()


@pytest.mark.parametrize("sanitizer", [Sanitizer.ADDRESS, Sanitizer.THREAD])
def test_slab_sanitized_raises_no_alarm(sanitizer: Sanitizer) -> None:
    """No access leaves a buffer, no operation is undefined, no two threads meet unordered."""
    samples = volume((3, 3, 4), "int16", seed=5, content="noise")
    codec = DeviceVolumeCodec(HostDevice(sanitizer=sanitizer))
    payload = codec.encode_slab(samples)
    assert (codec.decode_slab(payload, shape=(3, 3, 4), dtype="int16") == samples).all()


class LateStart(HostDevice):
    """Hand the second plane out first, so that it waits for one that has not begun."""

    def launch(self, kernel: Kernel, **rest: Any) -> None:
        """Launch; the counter of tickets begins at 1."""
        if kernel.name == "decode_planes" and rest["args"][-1] < 0:
            rest["args"][-5][:] = 1
        super().launch(kernel, **rest)


def test_decode_that_waits_in_vain_is_done_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait has an end: the launch is given up, its faults say so, and the planes are decoded a step a launch."""
    monkeypatch.setattr(volume_program, "_MOST_POLLS", 40)
    samples = volume((2, 9, 14), "int16", seed=13)
    device = LateStart()
    codec = DeviceVolumeCodec(device)
    payload = encode_slab(samples, level="fast")
    assert (codec.decode_slab(payload, shape=(2, 9, 14), dtype="int16") == samples).all()
    assert device.launches["decode_planes"] == 1 + 14 + 2 * 8 + 5 + volume_program.count_lag(0)


@pytest.mark.parametrize(
    "planted",
    [
        ("__threadfence();  // the block's writes", "// the block's writes"),
        ("__threadfence();  // what follows", "// what follows"),
        ("__syncthreads();\n        if (plane.stalled) break;", "if (plane.stalled) break;"),
    ],
    ids=["no fence before the count", "no fence after the wait", "no barrier after the wait"],
)
def test_decoder_without_one_of_its_fences_raises_an_alarm(
    planted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TSan sees the race between planes where a fence or barrier is taken out."""
    monkeypatch.setattr(host, "compose", lambda name: plant(compose(name), *planted))
    samples = volume((3, 5, 6), "int16", seed=5, content="noise")
    payload = encode_slab(samples, level="fast")
    with pytest.raises(KernelFaultError, match="data race"):
        DeviceVolumeCodec(HostDevice(sanitizer=Sanitizer.THREAD)).decode_slab(payload, shape=(3, 5, 6), dtype="int16")


@pytest.mark.parametrize(
    "planted",
    [
        ("needed = min(line + lag, plane.lines)", "needed = -6"),
        ("needed = min(line + lag, plane.lines)", "needed = min(line + lag - 1, plane.lines)"),
        ("__syncthreads();\n        if (threadIdx.x == 0u && step < 0)", "if (threadIdx.x == 0u && step < 0)"),
    ],
    ids=["no wait", "a line too early", "no barrier before the count"],
)
def test_decoder_that_waits_too_little_gives_other_samples(
    planted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where planes are under way at once, each wait and its length are needed; as they are, the samples are right."""
    samples = volume((6, 20, 30), "int16", seed=5)
    payload = encode_slab(samples)
    together = Schedule(Order.RANDOM, residents=3)

    def decode() -> NDArray[np.generic] | None:
        try:
            codec = DeviceVolumeCodec(HostDevice(schedule=together))
            found: NDArray[np.generic] = codec.decode_slab(payload, shape=samples.shape, dtype="int16")
        except CorruptError:
            return None
        return found

    right = decode()
    assert right is not None
    assert (right == samples).all()
    monkeypatch.setattr(host, "compose", lambda name: plant(compose(name), *planted))
    wrong = decode()
    assert wrong is None or (wrong != samples).any()


def plant(text: str, right: str, wrong: str) -> str:
    """Put a bug into a kernel that ships, if it is the one that has the place for it."""
    assert right in text or "decode_planes" not in text
    return text.replace(right, wrong)


def _outcome(decode: object) -> bytes | type[GpushrinkError]:
    try:
        return np.asarray(decode()).tobytes()  # type: ignore[operator]
    except GpushrinkError as error:
        return type(error)


def test_damaged_slab_is_refused_exactly_where_the_reference_refuses() -> None:
    """Whatever bytes come in, the device answers as the CPU does: the same error or the same samples."""
    shape = (3, 6, 8)
    samples = volume(shape, "int16", seed=6, content="wide")
    payload = encode_slab(samples, engine="numpy")
    rng = np.random.default_rng(7)
    codec = DeviceVolumeCodec(HostDevice())
    refused = 0
    for _ in range(150):
        damaged = bytearray(payload)
        at = int(rng.integers(len(damaged)))
        damaged[at] ^= 1 << int(rng.integers(8))
        cut = bytes(damaged[: int(rng.integers(len(damaged)))]) if rng.random() < 0.1 else bytes(damaged)
        expected = _outcome(lambda cut=cut: decode_slab(cut, shape=shape, dtype="int16", engine="numpy"))
        found = _outcome(lambda cut=cut: codec.decode_slab(cut, shape=shape, dtype="int16"))
        assert found == expected
        refused += isinstance(expected, type)
    assert refused > 50


def test_decode_of_streams_that_do_not_fit_stays_within_bounds() -> None:
    """Under ASan, counts that lead past their ends are refused without a stray access."""
    samples = volume((2, 4, 5), "uint8", seed=8)
    payload = bytearray(encode_slab(samples, level="fast", engine="numpy"))
    codec = DeviceVolumeCodec(HostDevice(sanitizer=Sanitizer.ADDRESS))
    for at in range(len(payload) - 6, len(payload)):
        payload[at] ^= 0x55
        try:
            codec.decode_slab(bytes(payload), shape=(2, 4, 5), dtype="uint8")
        except CorruptError:
            continue


@pytest.mark.parametrize(("shape", "dtype"), [((1, 2, 3), "int32"), ((0, 2, 3), "int16"), ((2, 3), "int16")])
def test_slab_of_another_kind_is_refused(shape: tuple[int, ...], dtype: str) -> None:
    """The caller's mistake is a ValueError, before anything is launched."""
    device = HostDevice()
    with pytest.raises(ValueError, match=r"slab|volume codec"):
        DeviceVolumeCodec(device).encode_slab(np.zeros(shape, dtype))
    assert not device.launches
