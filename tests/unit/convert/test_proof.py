"""No code base vouches for itself, and a file whose frames do not come back equal stays what it was."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_dicom import base_image, save
from made_images import ENCAPSULATED, IMAGES, run, smooth

from gpushrink.convert import encoders, transcode
from gpushrink.convert.frames import PixelLayout
from gpushrink.convert.prove import compare_by_one_of
from gpushrink.convert.report import KeepSourceError

for _module in ("imagecodecs", "jpeg_ls", "openjpeg", "rle"):
    pytest.importorskip(_module, reason="the extra 'convert' is not installed")

PROOF = {"jpegls": "libjpeg", "j2k": "av", "jpegxl": "micro_reader_codecs"}


@pytest.mark.parametrize("name", ["u12", "rgb", "rgb16", "frames"])
@pytest.mark.parametrize("key", ENCAPSULATED)
def test_writer_and_prover_share_no_code(tmp_path: Path, key: str, name: str) -> None:
    """A second implementation of every syntax is installed with the extras, and it is the one that proves."""
    if key in PROOF:
        pytest.importorskip(PROOF[key], reason="the extra 'convert-proof' is not installed")
    pixels, bits, photometric = IMAGES[name]
    save(base_image(pixels, bits_stored=bits, photometric=photometric), tmp_path / "in" / "a.dcm")
    (outcome,) = run(tmp_path, key).files
    assert outcome.action == "transcoded", outcome.reason
    assert outcome.independent
    assert outcome.prover != outcome.writer


@pytest.mark.parametrize("bits", [2, 5, 8, 9, 11, 13, 15, 16])
@pytest.mark.parametrize(("key", "signed"), [("j2k", False), ("j2k", True), ("jpegxl", False)])
def test_second_decoder_knows_every_precision(tmp_path: Path, key: str, signed: bool, bits: int) -> None:
    """FFmpeg and jxl-oxide hand samples out shifted or stretched to whole words: each comes back as it was."""
    pytest.importorskip(PROOF[key], reason="the extra 'convert-proof' is not installed")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    pixels = smooth((65, 71), low, high, f"<{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    pixels[:8] = np.linspace(low, high, 8 * 71).reshape(8, 71)
    save(base_image(pixels, bits_stored=bits), tmp_path / "in" / "a.dcm")
    (outcome,) = run(tmp_path, key).files
    assert (outcome.action, outcome.independent) == ("transcoded", True), outcome.reason
    (back,) = transcode(tmp_path / key, tmp_path / "back", to="explicit", threads=1).files
    assert back.independent, "both decoders must agree on the way back too"


@pytest.mark.parametrize("failing", [("a",), ("a", "b")])
def test_prover_that_cannot_decode_gives_way_to_the_next_but_not_to_none(failing: tuple[str, ...]) -> None:
    """One decoder with a gap is not the end; where none reads the frames, nothing is proven."""
    frames = [np.zeros((2, 2)), np.ones((2, 2))]

    def start(name: str) -> Iterator[np.ndarray]:
        yield frames[0]
        if name in failing:
            raise ValueError("no")
        yield frames[1]

    provers = [(name, functools.partial(start, name)) for name in "ab"]
    if failing == ("a",):
        assert compare_by_one_of(lambda: iter(frames), provers, frames=2) == "b"
    else:
        with pytest.raises(KeepSourceError, match="frame 2 cannot be decoded through b"):
            compare_by_one_of(lambda: iter(frames), provers, frames=2)


def test_prover_that_decodes_to_other_samples_has_the_last_word() -> None:
    """A difference is never outvoted by a decoder further down the list."""
    frames = [np.zeros((2, 2))]
    provers = [("a", lambda: iter([np.ones((2, 2))])), ("b", lambda: iter(frames))]
    with pytest.raises(KeepSourceError, match="does not come back equal through a"):
        compare_by_one_of(lambda: iter(frames), provers, frames=1)


@pytest.mark.parametrize("key", ENCAPSULATED)
def test_a_writer_that_errs_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """One wrong sample in one frame, and the source is copied instead: nothing is taken on trust."""
    modules, real = encoders._WRITERS[key]

    def wrong(frame: np.ndarray, layout: PixelLayout) -> bytes:
        spoilt = frame.copy()
        spoilt[2, 3] ^= 1
        return real.encode(spoilt, layout)

    monkeypatch.setitem(encoders._WRITERS, key, (modules, dataclasses.replace(real, encode=wrong)))
    source = save(base_image(IMAGES["u12"][0], bits_stored=12), tmp_path / "in" / "a.dcm")
    (outcome,) = run(tmp_path, key).files
    assert (outcome.action, "come back equal" in outcome.reason) == ("unproven", True)
    assert (tmp_path / key / "a.dcm").read_bytes() == source.read_bytes()
