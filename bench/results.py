"""Keep what a run measured: the machine it ran on, one JSON file, a table, a plot."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from peers import versions

__all__ = [
    "Points",
    "describe_machine",
    "geometric_mean",
    "plot_speed",
    "print_table",
    "results_stem",
    "save_section",
]

# By panel of the plot: label, MB/s, ratio.
Points = dict[str, list[tuple[str, float, float]]]


def describe_machine(threads: int) -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "processors": os.cpu_count(),
        "threads": threads,
        "load_before": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpushrink": importlib.metadata.version("gpushrink"),
        "commit": _commit(),
        "versions": versions(),
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1).strip() if found else platform.machine()


def _commit() -> str:
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() or "unknown"


def results_stem(machine: dict[str, object]) -> str:
    """Return the name of the results: machine, date, commit."""
    slug = re.sub(r"[^a-z0-9]+", "-", str(machine["cpu"]).lower()).strip("-")
    today = dt.datetime.now(dt.timezone.utc).date().isoformat()
    return f"{slug}-{today}-{machine['commit']}"


def save_section(out: Path, name: str, machine: dict[str, object], section: dict[str, Any]) -> Path:
    """Put one part of the measurements into the JSON file of this machine, day and commit."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{results_stem(machine)}.json"
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    whole[name] = {"machine": machine, **section}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean; NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print columns, the first to the left, the others to the right; floats with three digits after the point."""
    text = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in [list(head), *text]) for k in range(len(head))]
    print(f"\n{title}")
    for row in [list(head), ["-" * width for width in widths], *text]:
        print("  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))


def plot_speed(path: Path, title: str, points: Points) -> bool:
    """Draw ratio against speed, a panel for each kind of input. False where matplotlib is missing."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(points), figsize=(6.5 * len(points), 5), layout="constrained", squeeze=False)
    for axes, (name, some) in zip(panels[0], points.items(), strict=True):
        for label, speed, ratio in some:
            own = label.startswith("gpushrink")
            axes.plot(speed, ratio, "o" if own else "s", color="tab:red" if own else "tab:gray")
            axes.annotate(label, (speed, ratio), textcoords="offset points", xytext=(6, 4), fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.1)
        axes.set_xlabel("encode speed, MB/s in (log)")
        axes.set_ylabel("ratio, bytes in : bytes out")
        axes.set_title(name, fontsize=10)
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
