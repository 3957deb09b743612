"""Volumes decoded straight into a device's memory, here the emulated one: the CPU's samples, and no way by the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpushrink
import trees
from gpushrink.archive import layout
from gpushrink.archive.reader import read_catalogue
from gpushrink.codec.table import encode_slab_as_planes, encode_slab_as_volume, pack_slab_head, parse_slab
from gpushrink.codec.volume.slab import encode_slab
from gpushrink.devices.emulation.build import find_compiler
from gpushrink.devices.host import HostDevice
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.errors import CorruptError, DeviceUnavailableError, UsageError
from gpushrink.model import BlockCodec, SampleFormat, SlabShape
from gpushrink.pipeline.space import DeviceSpace, fits_batch

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


class Watched(HostDevice):
    """Note the axes of what is copied to the host."""

    made: list[Watched] = []  # noqa: RUF012 - a fixture empties it

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.brought: list[int] = []
        Watched.made.append(self)

    def get(self, array: Any) -> Any:
        """Copy, and note the axes."""
        self.brought.append(array.ndim)
        return super().get(array)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    """Put the watched device where "host" is opened; make slabs short, and code them as volumes, small as they are."""

    def encode(
        data: bytes, shape: SlabShape, sample: SampleFormat, *, level: str, **_: object
    ) -> tuple[BlockCodec, bytes]:
        if sample.item_bytes > 2:
            return BlockCodec.PLANES, (encode_slab_as_planes(data, shape, sample, 1, 1),)
        return BlockCodec.VOLUME, encode_slab_as_volume(data, shape, sample, level, references=((1, 2),))

    Watched.made = []
    monkeypatch.setattr("gpushrink.devices.host.HostDevice", Watched)
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_FRAMES", 2)
    monkeypatch.setattr("gpushrink.pipeline.coding.encode_slab", encode)
    monkeypatch.setattr("gpushrink.pipeline.plan.SMALL_SLAB", 0)
    monkeypatch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
    return Watched


def images(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Return noise on a slope."""
    rng = np.random.default_rng(7)
    top = min(900, int(np.iinfo(dtype).max) - 40)
    slope = np.linspace(0, top, shape[-1] if shape[-1] > 4 else shape[-2])
    slope = slope if shape[-1] > 4 else slope[:, None]
    return (slope + rng.normal(0, 6, shape)).clip(0, top + 30).astype(dtype)


def pack(folder: Path, stack: np.ndarray[Any, Any], **options: Any) -> Path:
    """Pack a series of slices."""
    (folder / "in").mkdir(parents=True)
    for k, image in enumerate(stack):
        content = trees.dicom_bytes(image, number=k, z=float(k), **options)
        (folder / "in" / f"{k}.dcm").write_bytes(content)
    gpushrink.pack(folder / "in", folder / "a.gsz", level="fast", device="cpu")
    return folder / "a.gsz"


def volume_blocks(archive: Path) -> list[Any]:
    """List the blocks that the volume codec wrote."""
    with archive.open("rb") as stream:
        return [one for one in read_catalogue(stream).records if one.codec == BlockCodec.VOLUME]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("options", [{}, {"planar": 0}, {"planar": 1}], ids=["grey", "pixels", "planes"])
def test_device_array_equals_the_cpu_s(
    watched: type[Watched], dtype: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """Whole and in part, samples are the CPU's; no slab ever came to the host."""
    shape = (5, 24, 40) if not options else (5, 24, 40, 3) if not options["planar"] else (5, 3, 24, 40)
    archive = pack(tmp_path, images(shape, dtype), **options)
    assert len(volume_blocks(archive)) == 3
    with gpushrink.open(archive, cache_bytes=0) as opened:
        want = opened.volume(device="cpu")
        found = opened.volume(device="host")
        np.testing.assert_array_equal(found, want)
        assert found.dtype == want.dtype
        (device,) = watched.made
        assert max(device.brought) < 3  # models and tokens; samples would be planes of rows and columns
        part = opened.volume(device="host", slices=slice(1, 4), rows=slice(3, 20, 2), columns=slice(None, None, -1))
        np.testing.assert_array_equal(part, want[1:4, 3:20:2, ::-1])
        assert watched.made == [device]  # opened once, for all calls


def test_slabs_of_a_device_are_decoded_side_by_side(
    watched: type[Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slabs are decoded together, and a slab that is not needed is not decoded."""
    archive = pack(tmp_path, images((6, 24, 40), np.int16))
    decode, together = DeviceVolumeCodec.decode_slabs, []

    def counted(codec: DeviceVolumeCodec, payloads: Sequence[bytes], **options: Any) -> Any:
        together.append(len(payloads))
        return decode(codec, payloads, **options)

    monkeypatch.setattr(DeviceVolumeCodec, "decode_slabs", counted)
    with gpushrink.open(archive, cache_bytes=0) as opened:
        opened.volume(device="host")
        opened.volume(device="host", slices=slice(1, 3))
        opened.volume(device="host", slices=slice(5, 6))
    assert together == [3, 2, 1]
    (device,) = watched.made
    assert device.launches["unpad_planes"] == sum(together)


def test_other_stages_are_decoded_on_the_host_and_brought_over(watched: type[Watched], tmp_path: Path) -> None:
    """Samples of 32 bits and tiny volumes, which the volume codec does not take, come to the device all the same."""
    wide = images((3, 24, 40), np.int32) * 1000
    archive = pack(tmp_path / "wide", wide)
    assert not volume_blocks(archive)
    with gpushrink.open(archive, cache_bytes=0) as opened:
        np.testing.assert_array_equal(opened.volume(device="host"), wide)
    tiny = images((2, 6, 7), np.uint16)
    with gpushrink.open(pack(tmp_path / "tiny", tiny)) as opened:
        np.testing.assert_array_equal(opened.volume(device="host", verify=True), tiny)


def test_bits_outside_the_sample_are_dropped_on_the_device(watched: type[Watched], tmp_path: Path) -> None:
    """What lies above BitsStored goes, with the sign kept, as on the CPU."""
    stack = images((3, 24, 40), np.uint16)
    stack[:, ::3] |= 0xA000
    stack[:, 1::3] |= 0x0800
    for signed in (0, 1):
        tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": signed}
        archive = pack(tmp_path / str(signed), stack, tags=tags)
        assert volume_blocks(archive)
        with gpushrink.open(archive, cache_bytes=0) as opened:
            found = opened.volume(device="host", verify=True)
            np.testing.assert_array_equal(found, opened.volume(device="cpu"))
            assert (found < 0).any() == bool(signed)
            assert np.abs(found.astype(np.int32)).max() < 4096


def test_verify_proves_what_the_device_decoded(watched: type[Watched], tmp_path: Path) -> None:
    """With `verify` the samples that lie on the device are those that the hash is taken of."""
    archive = pack(tmp_path, images((4, 24, 40), np.int16))
    with gpushrink.open(archive, cache_bytes=0) as opened:
        want = opened.volume()
        np.testing.assert_array_equal(opened.volume(device="host", verify=True), want)
        (device,) = watched.made
        decode = device.launch

        def err(kernel: Any, **options: Any) -> None:
            decode(kernel, **options)
            if kernel.name == "unpad_planes":
                options["args"][-1][100] ^= 1  # a card that errs by one bit

        device.launch = err  # type: ignore[method-assign]
        assert (opened.volume(device="host") != want).any()
        with pytest.raises(CorruptError, match="cannot be proven"):
            opened.volume(device="host", verify=True)


def test_damaged_slab_of_a_batch_is_named(watched: type[Watched], tmp_path: Path) -> None:
    """Of slabs decoded together, the one at fault is found, by its place in the archive."""
    archive = pack(tmp_path, images((6, 24, 40), np.int16))
    data, block = bytearray(archive.read_bytes()), volume_blocks(archive)[1]
    payload = bytearray(data[block.offset + 24 : block.offset + 24 + block.length])
    payload[-40:-8] = bytes(32)
    head = layout.pack_block_head(block.type, bytes(payload), codec=block.codec, role=block.role)
    data[block.offset : block.offset + 24 + block.length] = head + payload
    archive.write_bytes(data)
    with gpushrink.open(archive, cache_bytes=0) as opened:
        for device in ("cpu", "host"):
            with pytest.raises(CorruptError, match=f"byte {block.offset}: slices 2 to 3"):
                opened.volume(device=device)
        opened.volume(device="host", slices=slice(4, 6))


@pytest.mark.parametrize("room", [4, 3, 2, 1, 0])
def test_device_out_of_memory_goes_on_with_fewer_slabs(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit at once is decoded in halves; one slab that does not fit is a MemoryError."""
    stack = images((8, 24, 40), np.uint16)
    payloads = [encode_slab(stack[k : k + 2], level="fast") for k in range(0, 8, 2)]
    shape, sample = SlabShape(2, 24, 40), SampleFormat(2)
    slabs = [
        parse_slab(BlockCodec.VOLUME, memoryview(pack_slab_head(shape, sample) + one), shape.byte_size(sample))
        for one in payloads
    ]
    decode, tried = DeviceVolumeCodec.decode_slabs, []

    def limited(codec: DeviceVolumeCodec, payloads: Sequence[bytes], **options: Any) -> Any:
        tried.append(len(payloads))
        if len(payloads) > room:
            raise MemoryError
        return decode(codec, payloads, **options)

    monkeypatch.setattr(DeviceVolumeCodec, "decode_slabs", limited)
    space = DeviceSpace(HostDevice())
    if not room:
        with pytest.raises(MemoryError):
            space.decode(slabs)
        return
    np.testing.assert_array_equal(np.concatenate([one[:, 0] for one in space.decode(slabs)]), stack)
    assert tried == {4: [4], 3: [4, 2, 2], 2: [4, 2, 2], 1: [4, 2, 1, 1, 2, 1, 1]}[room]


def test_batch_is_bounded_by_free_memory() -> None:
    """How much is decoded at once follows from what the device has free."""
    assert DeviceSpace(HostDevice(memory_bytes=1 << 20)).most_samples == (1 << 20) // 40
    shape, sample = SlabShape(2, 24, 40), SampleFormat(2)
    slab = parse_slab(BlockCodec.VOLUME, memoryview(pack_slab_head(shape, sample)), shape.byte_size(sample))
    assert fits_batch([], slab, 1)  # one slab is always tried
    assert fits_batch([slab], slab, 4 * 24 * 40)
    assert not fits_batch([slab], slab, 4 * 24 * 40 - 1)
    other = parse_slab(BlockCodec.VOLUME, memoryview(pack_slab_head(shape, SampleFormat(1))), 2 * 24 * 40)
    assert not fits_batch([slab], other, 1 << 30)


def test_cuda_is_never_replaced_by_something_else(tmp_path: Path) -> None:
    """Asked for cuda where there is none, or for what is no device, the answer is an error."""
    with gpushrink.open(pack(tmp_path, images((2, 24, 40), np.uint16))) as opened:
        for name in ("tpu", "cuda:x", "cuda:0,1", "cuda:", "cuda,cpu"):
            with pytest.raises(UsageError, match=f"'{name}'"):
                opened.volume(device=name)
        try:
            found = opened.volume(device="cuda")
        except DeviceUnavailableError as error:
            assert "doctor" in str(error)
        else:
            assert type(found).__module__.startswith("cupy")
