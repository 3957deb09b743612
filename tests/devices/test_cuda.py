"""The CUDA device's own lines, over stand-ins for CuPy and nvCOMP: it passes on what the protocol says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gpushrink
from gpushrink.codec.volume.slab import encode_slab
from gpushrink.devices import cuda
from gpushrink.devices.device_check import check_device
from gpushrink.devices.emulation.build import find_compiler
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.dicom.synthetic import write_series
from gpushrink.errors import CorruptError, DeviceUnavailableError
from gpushrink.pipeline.device import open_slab_codec

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


def stand_in() -> Any:
    """Load the stand-ins, which lie beside this file and belong to no package."""
    spec = importlib.util.spec_from_file_location("stand_in_cuda", Path(__file__).with_name("stand_in_cuda.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins where the real packages would be."""
    module = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", module.make_cupy())
    monkeypatch.setitem(sys.modules, "nvidia", ModuleType("nvidia"))
    monkeypatch.setitem(sys.modules, "nvidia.nvcomp", module.make_nvcomp())


@pytest.mark.usefixtures("packages")
def test_cuda_device_does_what_the_reference_does() -> None:
    """Kernels, copies and zstd batches come out as on the CPU."""
    device = cuda.CudaDevice()
    assert device.name == "cuda:0 stand-in"
    check_device(device, np.random.default_rng(3))
    samples = np.random.default_rng(4).integers(-50, 900, (2, 12, 14)).astype(np.int16)
    codec = DeviceVolumeCodec(device)
    payload = codec.encode_slab(samples, level="fast")
    assert payload == encode_slab(samples, level="fast")
    assert (device.get(codec.decode_slab(payload, shape=(2, 12, 14), dtype=np.int16)) == samples).all()
    device.synchronize()
    other = device.sibling()
    assert other._stream is not device._stream
    assert other._pool is device._pool
    assert (other.get(other.put(samples)) == samples).all()


@pytest.mark.usefixtures("packages")
def test_cuda_writes_on_its_own_stream_only() -> None:
    """Slabs decoded side by side are joined on the stream that computes them; the stand-in refuses any other."""
    device = cuda.CudaDevice()
    samples = np.random.default_rng(6).integers(0, 700, (5, 9, 11)).astype(np.uint16)
    payloads = [encode_slab(part, level="fast") for part in (samples[:2], samples[2:])]
    codec = DeviceVolumeCodec(device)
    found = codec.decode_slabs(payloads, depths=[2, 3], rows=9, columns=11, dtype=np.uint16)
    assert (device.get(found) == samples).all()
    room = device.empty((5, 9, 11), np.uint16)
    device.copy(found[1:4, :, 2:], room[1:4, :, 2:])
    assert (device.get(room)[1:4, :, 2:] == samples[1:4, :, 2:]).all()
    words = device.put(np.array([0x0FFF, 0x7801, -2], np.int16))
    device.shift(words, 4, 4)
    assert device.get(words).tolist() == [-1, -2047, -2]


@pytest.mark.usefixtures("packages")
def test_volume_of_an_archive_is_decoded_by_the_cuda_device(tmp_path: Path) -> None:
    """`device="cuda"` gives the device's own array, with the CPU's samples, all done on its stream and in its pool."""
    (tmp_path / "in").mkdir()
    write_series(tmp_path / "in", slices=3, rows=40, columns=56)
    gpushrink.pack(tmp_path / "in", tmp_path / "a.gsz", level="default", device="cpu")
    with gpushrink.open(tmp_path / "a.gsz", cache_bytes=0) as archive:
        found = archive.volume(device="cuda")
        assert type(found).__name__ == "CardArray"
        assert (np.asarray(found) == archive.volume(device="cpu")).all()
        part = archive.volume(device="cuda", slices=slice(1, 3), rows=slice(5, 9))
        assert (np.asarray(part) == np.asarray(found)[1:3, 5:9]).all()


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("batch_bytes", [1, 5_000, 1 << 28])
def test_cuda_zstd_in_batches_of_any_size_keeps_order(batch_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks at any offset come back in order, however many fit a batch."""
    monkeypatch.setattr(cuda, "_BATCH_BYTES", batch_bytes)
    device = cuda.CudaDevice()
    data = np.random.default_rng(5).integers(0, 5, 20_001, dtype=np.uint8)
    bounds = np.array([0, 3_001, 6_000, 6_001, 20_001])
    frames = device.compress_chunks(device.put(data), bounds)
    assert len(frames) == 4
    assert (device.get(device.decompress_chunks(frames, np.diff(bounds))) == data).all()
    with pytest.raises(CorruptError):
        device.decompress_chunks([frames[1], *frames[1:]], np.diff(bounds))
    with pytest.raises(CorruptError):
        device.decompress_chunks([frames[0][:-4], *frames[1:]], np.diff(bounds))


@pytest.mark.usefixtures("packages")
def test_cuda_all_takes_every_card_and_one_number_that_card() -> None:
    """`cuda:all` counts the cards; a list names them, each once."""
    assert open_slab_codec("cuda:all").name == "cuda:0 stand-in, cuda:1 stand-in"
    assert open_slab_codec("cuda:1").name == "cuda:1 stand-in"
    assert open_slab_codec("cuda:1,0,1,cpu", device_memory=1 << 20).name.startswith(
        "cuda:0 stand-in, cuda:1 stand-in, "
    )
    samples = np.random.default_rng(6).integers(0, 90, (2, 8, 9)).astype(np.int16)
    payload = open_slab_codec("cuda:0,1").encode(samples, level="fast", references=((1, 2),))
    assert b"".join(payload) == encode_slab(samples, level="fast")


@pytest.mark.usefixtures("packages")
def test_cuda_memory_cap_is_kept() -> None:
    """An allocation beyond the cap is a MemoryError, which callers answer with smaller batches."""
    device = cuda.CudaDevice(memory_bytes=1_000)
    assert device.memory().free_bytes == 1_000
    with pytest.raises(MemoryError):
        device.empty(2_000, np.uint8)
    assert device.pinned((3, 4), np.int16).shape == (3, 4)
