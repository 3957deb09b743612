"""The command line as a user meets it: output, exit codes, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trees
from gpushrink import errors

COMMAND = [sys.executable, "-m", "gpushrink"]


def run(*words: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command and return what it said."""
    return subprocess.run([*COMMAND, *map(str, words)], input=stdin, capture_output=True, timeout=300, check=False)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A small folder of text files and an empty folder."""
    folder = tmp_path / "a study"
    (folder / "empty").mkdir(parents=True)
    for k in range(3):
        (folder / f"note {k}.txt").write_text(f"note {k} " * 50)
    return folder


@pytest.fixture
def archive(study: Path, tmp_path: Path) -> Path:
    """The study, packed."""
    out = tmp_path / "study.gsz"
    assert run("pack", study, "-o", out).returncode == 0
    return out


def test_every_help_page_ends_with_exit_codes() -> None:
    """Each command's help says what its exit codes mean, in its last lines."""
    for command in ("pack", "unpack", "verify", "list", "info", "demo", "doctor", "transcode", "crop"):
        answer = run(command, "--help")
        text = answer.stdout.decode()
        assert answer.returncode == 0
        assert "Exit codes:" in text
        assert "130" in text.rstrip().splitlines()[-1]


def test_exit_codes_match_the_documented_table() -> None:
    """docs/errors.md lists each class with its code and meaning."""
    table = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind is not errors.ArchiveError:
            assert f"| {kind.exit_code} | {name} | {kind.meaning} |" in table


def test_pack_and_unpack_give_the_folder_back(study: Path, archive: Path, tmp_path: Path) -> None:
    """Unpacking gives the packed folder, empty folders included, and prose stays off standard output."""
    answer = run("unpack", archive, tmp_path / "back")
    assert (answer.returncode, answer.stdout) == (0, b"")
    names = sorted(p.relative_to(study) for p in study.rglob("*"))
    assert names == sorted(p.relative_to(tmp_path / "back") for p in (tmp_path / "back").rglob("*"))
    assert all((tmp_path / "back" / n).read_bytes() == (study / n).read_bytes() for n in names if (study / n).is_file())


def test_pipe_carries_an_archive(study: Path, archive: Path, tmp_path: Path) -> None:
    """`pack -o -` writes the same bytes that a file gets, and `unpack -` reads them."""
    packed = run("pack", study, "-o", "-")
    assert packed.returncode == 0
    assert packed.stdout == archive.read_bytes()
    assert run("unpack", "-", tmp_path / "back", stdin=packed.stdout).returncode == 0
    assert (tmp_path / "back" / "note 1.txt").read_bytes() == (study / "note 1.txt").read_bytes()
    assert run("verify", "-", stdin=packed.stdout).returncode == 0
    assert run("list", "-", stdin=packed.stdout).stdout == run("list", archive).stdout


def test_json_is_the_only_thing_on_standard_output(study: Path, archive: Path, tmp_path: Path) -> None:
    """With --json, standard output is one JSON value."""
    for words in (
        ("pack", study, "-o", tmp_path / "other.gsz", "--json"),
        ("unpack", archive, tmp_path / "back", "--json"),
        ("verify", archive, "--json"),
        ("info", archive, "--json"),
        ("list", archive, "--json"),
    ):
        answer = run(*words)
        assert answer.returncode == 0
        assert json.loads(answer.stdout)
    entries = json.loads(run("list", archive, "--json").stdout)
    assert {entry["path"] for entry in entries if entry["kind"] == "folder"} == {"empty"}
    assert all(len(entry["sha256"]) == 64 for entry in entries if entry["kind"] == "file")


def test_single_file_comes_from_an_archive(archive: Path, tmp_path: Path) -> None:
    """Naming a path restores it and nothing else."""
    assert run("unpack", archive, tmp_path / "one", "note 2.txt").returncode == 0
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["note 2.txt"]
    assert run("unpack", archive, tmp_path / "none", "missing").returncode == errors.UsageError.exit_code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("pack", "{study}"), 2),
        (("pack", "{study}/missing", "-o", "{tmp}/x.gsz"), 3),
        (("pack", "{study}", "-o", "{archive}"), 4),
        (("pack", "{study}", "-o", "{tmp}/no/such/folder.gsz"), 4),
        (("pack", "{study}", "-o", "{study}/inside.gsz"), 2),
        (("pack", "{study}", "-o", "{tmp}/x.gsz", "--level", "lossy"), 2),
        (("unpack", "{archive}", "{study}"), 4),
        (("verify", "{study}/note 0.txt"), 5),
        (("verify", "{tmp}/missing.gsz"), 3),
        (("list", "{study}"), 3),
    ],
)
def test_errors_have_their_codes_and_one_line(
    words: tuple[str, ...], code: int, study: Path, archive: Path, tmp_path: Path
) -> None:
    """An error is one line on standard error, no traceback, and the documented code."""
    answer = run(*(word.format(study=study, archive=archive, tmp=tmp_path) for word in words))
    assert answer.returncode == code
    assert b"Traceback" not in answer.stderr
    if code != 2:
        assert answer.stderr.startswith(b"gpushrink: ")
        assert len(answer.stderr.splitlines()) == 1


def test_damaged_archive_restores_the_rest_and_says_so(archive: Path, tmp_path: Path) -> None:
    """A cut archive exits with the code of truncation, a flipped byte with that of corruption."""
    data = bytearray(archive.read_bytes())
    (tmp_path / "cut.gsz").write_bytes(data[:-40])
    assert run("unpack", tmp_path / "cut.gsz", tmp_path / "c").returncode == errors.TruncatedError.exit_code
    assert (tmp_path / "c" / "note 0.txt").exists()
    data[len(data) // 2] ^= 1
    (tmp_path / "flip.gsz").write_bytes(data)
    assert run("verify", tmp_path / "flip.gsz").returncode == errors.CorruptError.exit_code


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """--debug, anywhere on the line, adds the traceback."""
    assert b"Traceback" in run("verify", tmp_path / "missing", "--debug").stderr


def test_help_and_version_start_fast_without_numba() -> None:
    """Help does not import what only coding needs."""
    heavy = "[m for m in ('numba', 'pydicom', 'numpy') if m in sys.modules]"
    code = f"import sys; from gpushrink.cli import main; print({heavy})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    assert run("--version").stdout.startswith(b"gpushrink ")


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_pack_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """A pack ended by a signal exits with 130, says so in one line, and leaves no archive and no temporary file."""
    source = tmp_path / "source"
    source.mkdir()
    for k in range(40):
        (source / f"{k}.bin").write_bytes(os.urandom(4 << 20))
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen([*COMMAND, "pack", str(source), "-o", str(out / "a.gsz")], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().splitlines() == ["gpushrink: interrupted; nothing half-written is left"]
    assert list(out.iterdir()) == []


def test_demo_restores_its_series_exactly(tmp_path: Path) -> None:
    """The demo packs, verifies, unpacks, compares, and beats zip."""
    answer = run("demo", "--slices", "2", "--json")
    assert answer.returncode == 0
    report = json.loads(answer.stdout)
    sizes = {row["method"]: row["bytes"] for row in report["methods"]}
    assert report["restored_exactly"]
    assert sizes["gpushrink"] < sizes["zip"]


def test_list_series_names_the_volumes(archive: Path, tmp_path: Path) -> None:
    """`list --series` prints a line for each volume; with --json it has what the API has. A pipe is refused."""
    empty = run("list", "--series", archive)
    assert (empty.returncode, empty.stdout) == (0, b"")  # text files only
    trees.small_study(tmp_path / "images")
    out = tmp_path / "images.gsz"
    assert run("pack", tmp_path / "images", "-o", out).returncode == 0
    (line,) = run("list", "--series", out).stdout.decode().splitlines()
    assert line.split() == ["0", "2.25.1", "CT", *["3", "x", "16", "x", "16", "int16,", "3", "files"]]
    (volume,) = json.loads(run("list", "--series", "--json", out).stdout)
    assert volume["shape"] == [3, 16, 16]
    assert volume["files"] == ["copy.dcm", "series/IM0001", "series/IM0002"]
    assert (volume["dtype"], volume["encoding"], volume["series"]) == ("int16", "native", "2.25.1")
    assert run("list", "--series", "-").returncode == 2
