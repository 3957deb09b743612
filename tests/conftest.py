"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import trees

_ROOT = Path(__file__).resolve().parent.parent


def _real_data() -> Path | None:
    if os.environ.get("GPUSHRINK_DATA"):
        folder = Path(os.environ["GPUSHRINK_DATA"])
        return folder if folder.is_dir() else None
    folder = Path(tempfile.gettempdir()) / "gpushrink-data"
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    tool = _ROOT.parent / "shared" / "tools" / "data"
    if tool.is_file():
        made = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, check=False)
        if made.returncode == 0:
            return Path(made.stdout.strip())
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that wants `real_set` one run for each set of the real data."""
    if "real_set" in metafunc.fixturenames:
        data = _real_data()
        sets = sorted(path for path in data.iterdir() if path.is_dir()) if data else []
        parameters = [pytest.param(path, id=path.name) for path in sets] or [
            pytest.param(None, marks=pytest.mark.skip(reason="the real data is not here: set GPUSHRINK_DATA"))
        ]
        metafunc.parametrize("real_set", parameters)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Give the folder of the real data sets; skip where they are not."""
    folder = _real_data()
    if folder is None:
        pytest.skip("the real data is not here: set GPUSHRINK_DATA")
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Give a small tree with every kind of thing in it."""
    folder = tmp_path / "study"
    trees.small_study(folder)
    return folder
