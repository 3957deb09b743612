"""The whole pack and unpack pipeline on a device, here the emulated one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import gpushrink
from gpushrink.dicom.synthetic import write_series
from gpushrink.errors import DeviceUnavailableError, UsageError
from gpushrink.pipeline.device import open_slab_codec


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three small slices."""
    folder = tmp_path / "series"
    folder.mkdir()
    write_series(folder, slices=3, rows=40, columns=56)
    return folder


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed: the emulation cannot be built")
@pytest.mark.parametrize("level", ["fast", "default"])
def test_archive_of_a_device_equals_the_cpu_s(series: Path, tmp_path: Path, level: str) -> None:
    """What the kernels pack is byte for byte what the CPU packs, and each side unpacks the other's."""
    on_cpu = gpushrink.pack(series, tmp_path / "cpu.gsz", level=level, device="cpu")
    on_device = gpushrink.pack(series, tmp_path / "device.gsz", level=level, device="host")
    assert (tmp_path / "cpu.gsz").read_bytes() == (tmp_path / "device.gsz").read_bytes()
    assert "emulation" in on_device.engine
    assert on_cpu.engine in ("numba", "numpy")
    assert gpushrink.unpack(tmp_path / "cpu.gsz", tmp_path / "back", device="host").worst() is None
    for path in series.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


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
