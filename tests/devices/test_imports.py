"""Nothing of a device is loaded until one is asked for."""

from __future__ import annotations

import subprocess
import sys


def test_import_of_the_package_loads_no_device_library() -> None:
    """The CPU path, the command line included, knows neither CuPy nor nvCOMP nor the emulation."""
    code = (
        "import sys, gpushrink, gpushrink.cli.main, gpushrink.pipeline;"
        "bad = [n for n in sys.modules if n.split('.')[0] in ('cupy', 'nvidia') or 'devices' in n];"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_of_the_cuda_device_needs_no_library() -> None:
    """Modules of the CUDA device import anywhere; only opening one asks for CuPy."""
    code = "import sys, gpushrink.devices.cuda, gpushrink.devices.doctor; assert 'cupy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
