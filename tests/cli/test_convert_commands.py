"""The commands transcode and crop: arguments in, report out, errors as classes with exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from typer.testing import CliRunner

from gpushrink.cli import crop, transcode
from gpushrink.errors import UsageError

for _module in ("imagecodecs", "rle"):
    pytest.importorskip(_module, reason="the extra 'convert' is not installed")


@pytest.fixture
def app() -> typer.Typer:
    """Make an app with the two commands and nothing else."""
    made = typer.Typer()
    transcode.register(made)
    crop.register(made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy one CT file that is installed with pydicom."""
    source = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ct.dcm").write_bytes(source.read_bytes())
    return tmp_path / "in"


def test_transcode_prints_its_report_as_json(app: typer.Typer, folder: Path) -> None:
    """--json gives totals and one entry for each file."""
    words = ["transcode", str(folder), str(folder.parent / "out"), "--to", "rle", "--json", "--threads", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["totals"]["files"] == 1
    assert report["files"][0]["path"] == "ct.dcm"


def test_crop_writes_the_box_and_says_so(app: typer.Typer, folder: Path) -> None:
    """The printed size is that of the file written."""
    words = ["crop", str(folder), str(folder.parent / "out"), "--box", "10:30,20:50", "--seed", "a"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "20 x 30 x 1" in result.stdout
    old, new = (pydicom.dcmread(p / "ct.dcm") for p in (folder, folder.parent / "out"))
    assert np.array_equal(new.pixel_array, old.pixel_array[20:50, 10:30])


@pytest.mark.parametrize(
    "words",
    [[], ["--box", "0:1,0:1", "--auto-body"], ["--around", "0,0,0"], ["--size", "5", "--box", "0:1,0:1"]],
)
def test_crop_wants_exactly_one_region(app: typer.Typer, folder: Path, words: list[str]) -> None:
    """No region, two regions or half of one is a usage error."""
    result = CliRunner().invoke(app, ["crop", str(folder), str(folder.parent / "out"), *words])
    assert isinstance(result.exception, UsageError)
