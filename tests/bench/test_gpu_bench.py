"""The unattended GPU bench runs to its end on the emulation, so that a card meets a script that works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpushrink.devices.emulation.build import find_compiler
from gpushrink.errors import DeviceUnavailableError

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"


def run(tmp_path: Path, *arguments: str) -> tuple[int, str, dict[str, dict[str, object]]]:
    """Run the bench and read what it wrote."""
    command = [sys.executable, SCRIPT, "--out", tmp_path, "--quick", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    (written,) = tmp_path.glob("*.json")
    return done.returncode, done.stdout, json.loads(written.read_text(encoding="utf-8"))


def test_bench_on_the_emulation_proves_and_measures(tmp_path: Path) -> None:
    """Every step leaves its result; the table has rows for each way; the exit status is good."""
    try:
        find_compiler()
    except DeviceUnavailableError as missing:
        pytest.skip(f"no host compiler: {missing}")
    status, table, steps = run(tmp_path, "--device", "host")
    assert status == 0, table
    assert list(steps) == [
        "machine", "doctor", "tests", "codec", "files", "large", "vendor", "memcheck", "host part", "peers",
        "other tests",
    ]  # fmt: skip
    for what in (
        "generated CT: encode default, 2 slabs on the device",
        "generated CT: decode fast, 2 slabs, kernels alone",
        "unpack default of host by cpu",
        "pack fast host, 2 helpers, large, not verified",
        "pack fast host, 2 helpers, archive on disk, large, not verified",
        "CPU zstd -3 encode",
    ):
        assert what in table
    kernels = steps["codec"]["result"]["kernels"]["generated CT, default"]  # type: ignore[index]
    assert kernels["decode_planes"]["launches"] == 1
    assert {"predict_stage", "sum_products", "rans_decode"} <= set(kernels)
    assert all(one["share_of_copy"] > 0 for one in kernels.values())
    files = steps["files"]["result"]
    assert files["archives_equal_the_cpu_s"] == {"fast": True, "default": True}  # type: ignore[index]


def test_bench_without_a_card_fails_and_still_writes(tmp_path: Path) -> None:
    """A step that cannot run is an error in the file, not the end of the script."""
    from gpushrink.devices.cuda import CudaDevice

    try:
        CudaDevice()
    except DeviceUnavailableError:
        pass
    else:
        pytest.skip("a CUDA device is here")
    status, table, steps = run(tmp_path, "--device", "cuda")
    assert status == 1
    assert "DeviceUnavailableError" in str(steps["codec"])
    assert "CPU zstd -3 encode" in table


def test_bench_out_of_time_skips_what_is_left(tmp_path: Path) -> None:
    """With no time at all every step is skipped and said to be."""
    _, _, steps = run(tmp_path, "--device", "host", "--budget", "0")
    assert all(step["result"] == {"skipped": "no time left"} for step in steps.values())
