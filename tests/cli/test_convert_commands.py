"""The commands transcode and crop: arguments in, report out, errors as classes with exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from typer.testing import CliRunner

from gpushrink.cli import crop, transcode
from gpushrink.errors import InputError, UsageError

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


@pytest.mark.parametrize("installed", [True, False])
def test_transcode_says_where_no_second_code_base_proved_it(
    app: typer.Typer, folder: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Without the extra the proof is weaker, and the user hears of it."""
    pytest.importorskip("av", reason="the extra 'convert-proof' is not installed")
    if not installed:
        monkeypatch.setitem(sys.modules, "av", None)
    words = ["transcode", str(folder), str(folder.parent / "out"), "--to", "j2k", "--threads", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert ("convert-proof" in result.stderr) != installed


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


@pytest.mark.parametrize("words", [["crop", "--box", "0:1,0:1"], ["transcode", "--to", "rle"]])
def test_names_with_spaces_and_of_no_encoding_come_through(
    app: typer.Typer, folder: Path, tmp_path: Path, words: list[str]
) -> None:
    """A file is written under the name it had, whatever bytes that is."""
    name = os.fsdecode(b"caf\xe9 1 \xff.dcm")
    (folder / "ct.dcm").rename(folder / name)
    result = CliRunner().invoke(app, [words[0], str(folder), str(tmp_path / "a b"), *words[1:]])
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "a b").iterdir()] == [name]


def test_empty_folder_has_nothing_to_crop_and_transcodes_to_nothing(app: typer.Typer, tmp_path: Path) -> None:
    """A crop needs an image; a transcode passes whatever is there, which is nothing."""
    (tmp_path / "in").mkdir()
    result = CliRunner().invoke(app, ["crop", str(tmp_path / "in"), str(tmp_path / "out"), "--box", "0:1,0:1"])
    assert isinstance(result.exception, InputError)
    result = CliRunner().invoke(app, ["transcode", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "rle"])
    assert (result.exit_code, "0 files" in result.stdout) == (0, True)


def test_truncated_file_is_copied_by_transcode_and_stops_a_crop(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    """Nothing is invented for what is missing."""
    cut = (folder / "ct.dcm").read_bytes()[:-700]
    (folder / "ct.dcm").write_bytes(cut)
    result = CliRunner().invoke(app, ["transcode", str(folder), str(tmp_path / "t"), "--to", "jpeg"])
    assert (result.exit_code, "truncated" in result.stderr) == (0, True)
    assert (tmp_path / "t" / "ct.dcm").read_bytes() == cut
    result = CliRunner().invoke(app, ["crop", str(folder), str(tmp_path / "c"), "--box", "0:9,0:9"])
    assert isinstance(result.exception, InputError)
    assert not list((tmp_path / "c").rglob("*.dcm"))
