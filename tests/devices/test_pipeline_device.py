"""The whole pack and unpack pipeline on a device, here the emulated one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import gpushrink
from gpushrink.dicom.synthetic import write_series
from gpushrink.errors import CorruptError, DeviceUnavailableError, UsageError
from gpushrink.pipeline.device import DeviceSlabCodec, open_slab_codec


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three small slices."""
    folder = tmp_path / "series"
    folder.mkdir()
    write_series(folder, slices=3, rows=40, columns=56)
    return folder


@pytest.fixture(params=["host", "cuda:all"])
def device(request: pytest.FixtureRequest) -> str:
    """Name each device that can be had here."""
    name: str = request.param
    if name == "host" and shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the emulation cannot be built")
    try:
        open_slab_codec(name)
    except DeviceUnavailableError as error:
        pytest.skip(f"no {name} device: {error}")
    return name


@pytest.mark.parametrize("level", ["fast", "default"])
def test_archive_of_a_device_equals_the_cpu_s(series: Path, tmp_path: Path, level: str, device: str) -> None:
    """What the kernels pack is byte for byte what the CPU packs, and each side unpacks the other's."""
    on_cpu = gpushrink.pack(series, tmp_path / "cpu.gsz", level=level, device="cpu")
    on_device = gpushrink.pack(series, tmp_path / "device.gsz", level=level, device=device)
    assert (tmp_path / "cpu.gsz").read_bytes() == (tmp_path / "device.gsz").read_bytes()
    assert ("emulation" if device == "host" else "cuda:0") in on_device.engine
    assert on_cpu.engine in ("numba", "numpy")
    assert gpushrink.unpack(tmp_path / "cpu.gsz", tmp_path / "back", device=device).worst() is None
    assert gpushrink.unpack(tmp_path / "device.gsz", tmp_path / "again", device="cpu").worst() is None
    for path in series.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_golden_archive_unpacks_on_every_device(device: str, tmp_path: Path) -> None:
    """The committed archive of version 1 gives every file its SHA-256 back."""
    golden = Path(__file__).parents[1] / "golden" / "v1.gsz"
    report = gpushrink.unpack(golden, tmp_path / "out", device=device)
    assert report.worst() is None
    assert report.files > 8


def test_damaged_block_never_reaches_a_device(
    series: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block's checksum is compared on the host first: a device's decoders are given what was written, or nothing."""
    archive = tmp_path / "a.gsz"
    gpushrink.pack(series, archive, level="fast", device="cpu")
    whole = archive.read_bytes()
    payloads: list[bytes] = []
    decode = DeviceSlabCodec.decode

    def watched(self: DeviceSlabCodec, payload: bytes, **rest: Any) -> Any:
        payloads.append(payload)
        return decode(self, payload, **rest)

    monkeypatch.setattr(DeviceSlabCodec, "decode", watched)
    assert gpushrink.unpack(archive, tmp_path / "whole", device=device).worst() is None
    (slab,) = payloads
    begin = whole.index(slab)
    for at in (begin, begin + len(slab) // 2, begin + len(slab) - 1):
        payloads.clear()
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert isinstance(gpushrink.unpack(archive, tmp_path / str(at), device=device).worst(), CorruptError)
        assert not payloads


def test_unknown_device_is_refused_by_name() -> None:
    """A device that is not in the list is a usage error."""
    with pytest.raises(UsageError, match="tpu"):
        open_slab_codec("tpu")
    with pytest.raises(UsageError, match="cuda:x"):
        open_slab_codec("cuda:x")


def test_cuda_never_falls_back() -> None:
    """Asked for cuda where there is none, the answer is an error that names the doctor."""
    try:
        found = open_slab_codec("cuda")
    except DeviceUnavailableError as error:
        assert "doctor" in str(error)
    else:
        assert found.name not in ("numba", "numpy")
