"""The device path of J2K and HTJ2K: what is asked of nvImageCodec, and what happens when it errs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import stand_in_nvimgcodec
from made_dicom import base_image, save

from gpushrink.convert import device, transcode
from gpushrink.convert.frames import read_layout
from gpushrink.convert.syntaxes import TARGETS
from gpushrink.errors import DeviceUnavailableError, UsageError

for _module in ("imagecodecs", "openjpeg"):
    pytest.importorskip(_module, reason="the extra 'convert' is not installed")

RNG = np.random.default_rng(5)
IMAGES = {
    "u12": (RNG.integers(0, 4096, (4, 40, 37)).astype("<u2"), 12, "MONOCHROME2"),
    "s16": (RNG.integers(-32768, 32768, (2, 40, 37)).astype("<i2"), 16, "MONOCHROME2"),
    "u8 in 16": (RNG.integers(0, 256, (2, 40, 37)).astype("<u2"), 8, "MONOCHROME2"),
    "rgb": (RNG.integers(0, 256, (40, 37, 3)).astype("u1"), 8, "RGB"),
    "ybr": (RNG.integers(0, 256, (40, 37, 3)).astype("u1"), 8, "YBR_FULL"),
    "narrow": (RNG.integers(0, 256, (2, 3, 50)).astype("u1"), 8, "MONOCHROME2"),
}


@pytest.fixture(autouse=True)
def no_library_left() -> Iterator[None]:
    """Forget the library that a test opened."""
    device._opened.cache_clear()
    yield
    device._opened.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, fault: str = "") -> None:
    """Put the stand-in in the library's place."""
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", stand_in_nvimgcodec.module(fault))


@pytest.mark.parametrize("name", sorted(IMAGES))
@pytest.mark.parametrize("key", ["j2k", "htj2k"])
def test_device_frames_are_compared_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, name: str
) -> None:
    """Each frame is decoded on the CPU by code that did not write it, and the way back gives every byte."""
    install(monkeypatch)
    pixels, bits, photometric = IMAGES[name]
    source = save(base_image(pixels, bits_stored=bits, photometric=photometric), tmp_path / "in" / "a.dcm")
    report = transcode(tmp_path / "in", tmp_path / "out", to=key, threads=1, device="cuda")
    (outcome,) = report.files
    assert (outcome.action, outcome.warnings) == ("transcoded", ()), outcome.reason
    assert (outcome.writer, outcome.independent, report.device) == ("nvImageCodec nvjpeg2k", True, "cuda")
    transcode(tmp_path / "out", tmp_path / "back", to="explicit", threads=1)
    assert pydicom.dcmread(tmp_path / "back" / "a.dcm").PixelData == pydicom.dcmread(source).PixelData


@pytest.mark.parametrize("fault", ["sample", "none", "raise"])
@pytest.mark.parametrize("key", ["j2k", "htj2k"])
def test_wrong_frame_of_the_device_sends_the_file_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, fault: str
) -> None:
    """One frame of four with one wrong sample, or none at all: the file is the CPU's, and the warning says so."""
    install(monkeypatch, fault)
    pixels, bits, _ = IMAGES["u12"]
    save(base_image(pixels, bits_stored=bits), tmp_path / "in" / "a.dcm")
    (outcome,) = transcode(tmp_path / "in", tmp_path / "out", to=key, threads=1, device="cuda").files
    assert (outcome.action, "nvImageCodec" in outcome.writer) == ("transcoded", False)
    assert "on the CPU" in outcome.warnings[0]
    assert ("does not come back equal" in outcome.warnings[0]) == (fault == "sample")
    transcode(tmp_path / "in", tmp_path / "cpu", to=key, threads=1)
    assert (tmp_path / "out" / "a.dcm").read_bytes() == (tmp_path / "cpu" / "a.dcm").read_bytes()


def test_file_that_neither_can_write_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal of the CPU's writer is the last word: bits that the syntax would drop stay where they are."""
    install(monkeypatch)
    pixels = IMAGES["u12"][0] | 0x8000
    source = save(base_image(pixels, bits_stored=12), tmp_path / "in" / "a.dcm")
    (outcome,) = transcode(tmp_path / "in", tmp_path / "out", to="j2k", threads=1, device="cuda").files
    assert (outcome.action, "bits above" in outcome.reason) == ("unproven", True)
    assert (tmp_path / "out" / "a.dcm").read_bytes() == source.read_bytes()


def test_device_without_library_or_card_or_encoder_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the three names what is missing, and no folder is made."""
    save(base_image(IMAGES["u12"][0], bits_stored=12), tmp_path / "in" / "a.dcm")
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(DeviceUnavailableError, match=r"pip install 'gpushrink\[convert-cuda12\]'"):
        transcode(tmp_path / "in", tmp_path / "out", to="j2k", device="cuda")
    without_card = stand_in_nvimgcodec.module("")

    def refuse(**_: object) -> None:
        raise RuntimeError("CUDA Runtime failure: '#35'")

    without_card.Encoder = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", without_card)
    with pytest.raises(DeviceUnavailableError, match="no device"):
        transcode(tmp_path / "in", tmp_path / "out", to="htj2k", device="cuda")
    with pytest.raises(UsageError, match="no CUDA encoder"):
        transcode(tmp_path / "in", tmp_path / "out", to="jpegls", device="cuda")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("high_throughput", [False, True])
@pytest.mark.parametrize("name", sorted(IMAGES))
def test_real_library_takes_these_parameters(name: str, high_throughput: bool) -> None:
    """The wheel builds without a card what the device path asks of it, and reads it back as meant."""
    library = pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed (the extra 'gate')")
    pixels, bits, photometric = IMAGES[name]
    layout = read_layout(base_image(pixels, bits_stored=bits, photometric=photometric))
    made = device.encode_parameters(library, layout, high_throughput=high_throughput)
    assert made.quality_type == library.QualityType.LOSSLESS
    assert made.jpeg2k_params.ht == high_throughput
    assert made.jpeg2k_params.mct_mode == int(photometric == "RGB")
    assert made.jpeg2k_params.bitstream_type == library.Jpeg2kBitstreamType.J2K
    assert 1 << (made.jpeg2k_params.num_resolutions - 1) <= min(layout.rows, layout.columns)
    words = np.zeros((layout.rows, layout.columns, layout.samples), layout.dtype)
    image = library.as_image(words, color_spec=device._colour(library, layout), precision=bits)
    assert (image.precision, image.num_channels, image.color_spec) == (bits, layout.samples, made.color_spec)
    assert "codec" in library.Encoder.encode.__doc__
    assert hasattr(image, "cuda")


def test_real_library_without_a_card_is_a_device_that_is_unavailable() -> None:
    """The constructor's arguments are right if what it complains of is the driver."""
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed (the extra 'gate')")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a card here")
    with pytest.raises(DeviceUnavailableError, match="no device: (CUDA|Internal)"):
        device.device_encoder(TARGETS["j2k"])
