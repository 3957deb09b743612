"""Make the generators importable under importlib mode, and offer the external tools."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Debian tool, or skip where it is missing."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        if shutil.which(str(words[0])) is None:
            pytest.skip(f"{words[0]} is not installed (apt: dcmtk, libgdcm-tools, dicom3tools)")
        return subprocess.run([str(w) for w in words], capture_output=True, text=True, errors="replace", check=False)

    return run
