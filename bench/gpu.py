"""Prove and measure gpushrink on a GPU, unattended: one JSON file and one table, in under eight minutes.

    python bench/gpu.py --wheels DIR          a bare machine: installs the package and carried wheels in a folder first
    python bench/gpu.py                       in an environment that has the package
    python bench/gpu.py --device host --quick the same steps on the emulation, to test this script

Every step has its share of the time left, and none that fails stops the next. The JSON is rewritten after each.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUDGET_S = 450.0


def main() -> int:
    """Run all steps; exit 1 if any proof failed."""
    options = parse()
    started = time.monotonic()
    if options.wheels is not None:
        return run_with_wheels(options)
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    report = Report(options, started)
    from gpu_files import measure_files, measure_large
    from gpu_measure import measure_codec, measure_host_part, measure_peers
    from gpu_vendor import measure_vendor

    common: dict[str, Any] = {"quick": options.quick, "left": report.left}
    steps: dict[str, Callable[[], Any]] = {
        "machine": describe_machine,
        "doctor": lambda: examine(options.device),
        "tests": lambda: run_tests(options, report.left() * 0.3),
        "codec": lambda: measure_codec(options.device, study=options.study, **common),
        "files": lambda: measure_files(options.device, study=options.study, **common),
        "large": lambda: measure_large(options.device, study=options.study, **common),
        "vendor": lambda: measure_vendor(options.device, **common),
        "memcheck": lambda: run_sanitizer(options, min(60.0, report.left() * 0.5)),
        "host part": lambda: measure_host_part(**common),
        "peers": lambda: measure_peers(**common),
        "other tests": lambda: run_other_tests(options, report.left()),
    }
    for name in options.steps.split(",") if options.steps else steps:
        report.step(name, steps[name])
    print(report.table())
    return 1 if report.failed else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "host"], default="cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels; nothing is downloaded")
    parser.add_argument("--study", type=Path, help="a folder of archives of real studies, measured too")
    parser.add_argument("--quick", action="store_true", help="small volumes and few tests")
    parser.add_argument("--steps", help="only these, with commas between, in this order")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything")
    return parser.parse_args()


def run_with_wheels(options: argparse.Namespace) -> int:
    """Install the package and all carried wheels into a folder that comes before what the machine has; run there.

    Nothing is resolved: what neither is carried nor on the machine shows as missing in the doctor's findings.
    """
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        site = str(Path(folder) / "site")
        environment = {**os.environ, "PYTHONPATH": site, "PYTHONUNBUFFERED": "1"}
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site]
        for what in (sorted(map(str, options.wheels.resolve().glob("*.whl"))), ["--no-build-isolation", str(ROOT)]):
            subprocess.run([*install, *what], check=True, env=environment)
        given = {"device": options.device, "out": options.out, "study": options.study, "steps": options.steps}
        given["budget"] = f"{options.budget - (time.monotonic() - began):.0f}"
        arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
        command = [sys.executable, __file__, *arguments, *(["--quick"] if options.quick else [])]
        return subprocess.run(command, check=False, env=environment).returncode


class Report:
    """Collect the steps' results and keep them on disk."""

    def __init__(self, options: argparse.Namespace, started: float) -> None:
        self._budget, self._started = options.budget, started
        self.failed = False
        self._steps: dict[str, Any] = {}
        what = card() if options.device == "cuda" else "emulation"
        name = f"{re.sub('[^a-z0-9]+', '-', what.lower())}-{dt.date.today():%Y-%m-%d}-{revision()}"
        options.out.mkdir(parents=True, exist_ok=True)
        self._path: Path = options.out / f"{name}.json"

    def left(self) -> float:
        """Give the seconds that are left."""
        return max(0.0, self._budget - (time.monotonic() - self._started))

    def step(self, name: str, work: Callable[[], Any]) -> None:
        """Run one step, whatever happens in it, and write the file again."""
        began = time.monotonic()
        print(f"== {name} ({self.left():.0f} s left)", flush=True)
        result: Any
        try:
            result = work() if self.left() > 0 else {"skipped": "no time left"}
        except Exception as error:  # the next step may still tell something
            result = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(limit=6)}
        if isinstance(result, dict) and ("error" in result or result.get("failed")):
            self.failed = True
        self._steps[name] = {"seconds": round(time.monotonic() - began, 2), "result": result}
        self._path.write_text(json.dumps(self._steps, indent=1, default=str) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Give all measured rows as one table, and each step's outcome."""
        lines = [f"{name:10} {step['seconds']:8.1f} s  {outcome(step['result'])}" for name, step in self._steps.items()]
        lines += ["", f"{'what':84} {'GB/s':>10} {'ratio':>8} {'n':>4} {'spread':>7}"]
        for step in self._steps.values():
            rows = step["result"].get("rows", []) if isinstance(step["result"], dict) else []
            for row in rows:
                ratio = f"{row['ratio']:8.3f}" if row.get("ratio") else " " * 8
                lines.append(f"{row['what'][:84]:84} {row['gb_per_s']:10.4f} {ratio} {row['n']:4} {row['spread']:7.1%}")
        return "\n".join([*lines, "", str(self._path)])


def outcome(result: Any) -> str:
    """Say in a line how a step ended."""
    if not isinstance(result, dict):
        return "ok"
    for key in ("error", "skipped", "summary"):
        if key in result:
            return f"{key}: {str(result[key])[:160]}" if key != "summary" else str(result[key])[:160]
    return "failed" if result.get("failed") else "ok"


def revision() -> str:
    """Give the commit's short name, or 'unknown' outside a checkout."""
    done = _command(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    return done.strip() or "unknown"


def card() -> str:
    """Give the name of the first card."""
    found = _command(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()
    return found[0].strip() if found else "no card"


def _command(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def describe_machine() -> dict[str, Any]:
    """Say what this runs on."""
    query = "name,driver_version,memory.total,pcie.link.gen.max,pcie.link.width.max,clocks.max.sm,clocks.max.memory"
    return {
        "cards": _command(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]).strip().splitlines(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "revision": revision(),
    }


def examine(device: str) -> dict[str, Any]:
    """Run doctor; on the host its trial runs on the emulation."""
    from gpushrink.devices.doctor import examine as look
    from gpushrink.devices.host import HostDevice

    findings = look(HostDevice if device == "host" else None)
    wanted = findings[-1:] if device == "host" else findings
    return {
        "findings": [vars(finding) for finding in findings],
        "failed": any(finding.status == "failed" or (finding.status == "missing") for finding in wanted),
    }


def run_tests(options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run the suite on the device: byte-identity with the reference, goldens, both ways; then all else that fits."""
    suite = [
        f"tests/devices/test_{name}.py" for name in ("device_contract", "pipeline_device", "vendor_names", "doctor")
    ]
    wanted = f"not {'host' if options.device == 'cuda' else 'cuda'}"
    if options.quick:
        suite, wanted = suite[:1], f"(golden or damaged or put) and {wanted}"
    result = _pytest([*suite, "-k", wanted], limit_s)
    if "passed" not in result["summary"]:
        result["failed"] = True  # all skipped: nothing was proven
    return result


def run_other_tests(options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run what else of the suite fits the time; what needs tools that a card's machine seldom has is left to CI."""
    if options.quick:
        return {"skipped": "quick"}
    return _pytest(["tests/contract", "tests/unit/codec", "tests/unit/pipeline", "tests/fuzz"], limit_s)


def _pytest(arguments: list[str], limit_s: float, prefix: list[str] | None = None) -> dict[str, Any]:
    # Side by side where that can be had, but under a tool that watches one process.
    many = ["-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") is not None and prefix is None else []
    command = [
        *(prefix or []),
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        *many,
        *arguments,
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(5.0, limit_s), check=False)
    except subprocess.TimeoutExpired:
        return {"failed": False, "summary": f"stopped after {limit_s:.0f} s", "stopped": True}
    lines = done.stdout.strip().splitlines()
    return {"failed": done.returncode not in (0, 5), "summary": lines[-1] if lines else "", "tail": lines[-40:]}


def run_sanitizer(options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """Run one slab under compute-sanitizer where it is present."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if options.device != "cuda" or not Path(tool).exists():
        return {"skipped": "no compute-sanitizer here" if options.device == "cuda" else "not a CUDA device"}
    arguments = ["tests/devices/test_device_contract.py", "-k", "cuda and fast and uint8"]
    return _pytest(arguments, limit_s, [tool, "--error-exitcode", "9", "--target-processes", "all"])


if __name__ == "__main__":
    sys.exit(main())
