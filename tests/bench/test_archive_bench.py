"""The archive bench packs what it is given and says how that compares with xz."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import trees

_RUN = Path(__file__).resolve().parents[2] / "bench" / "run.py"


def test_archive_bench_measures_every_folder(tmp_path: Path) -> None:
    """Sizes and times of each level, with the proof and without, and of xz, are printed and kept."""
    for name in ("one", "two"):
        trees.small_study(tmp_path / "data" / name)
    command = [sys.executable, str(_RUN), "archive", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]

    done = subprocess.run([*command, "--runs", "1", "--level", "fast"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = (tmp_path / "out").iterdir()
    rows = json.loads(kept.read_text())["archive"]["sets"]
    assert [row["set"] for row in rows] == ["one", "two"]
    assert all(row[label]["bytes"] > 0 for row in rows for label in ("xz", "fast", "fast, no proof"))
    assert "size/xz fast" in done.stdout


def test_archive_bench_without_data_says_so(tmp_path: Path) -> None:
    """No folder is status 2."""
    (tmp_path / "data").mkdir()
    command = [sys.executable, str(_RUN), "archive", "--data", str(tmp_path / "data")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "no folder" in done.stderr
