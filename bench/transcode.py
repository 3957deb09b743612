"""Sizes and times of lossless transcoding against gdcmconv, dcmcjpls and their kin, on the same files in one run.

    python bench/transcode.py FOLDER [FOLDER ...] [-n 3] [-o bench/results/transcode-MACHINE-DATE.json]

Every tool is run as a command and writes each file of a folder; a peer takes one file a call, since it knows no
folders. In a round each tool has its turn once, so that the machine's other load falls on
all of them alike. After one round to warm up, the medians of n rounds are given, of the clock and of processor
time, which counts the start of each process too. A peer that fails on a file leaves it out, and the count says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Runner = Callable[[Path, Path], None]


def ours(key: str, processes: int) -> Runner:
    """Run the command, proof of every frame included."""
    words = [sys.executable, "-m", "gpushrink", "transcode", "--to", key, "--threads", str(processes)]
    return lambda source, dest: done(subprocess.run([*words, str(source), str(dest)], capture_output=True, check=True))


def done(_: object) -> None:
    """Drop a result."""


def peer(*words: str) -> Runner:
    """Run a tool once for each file: WORDS SOURCE DEST."""

    def run(source: Path, dest: Path) -> None:
        dest.mkdir()
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            subprocess.run([*words, str(path), str(dest / path.name)], capture_output=True, check=False)

    return run


def tools() -> dict[str, Runner]:
    """List what is here to be measured."""
    found: dict[str, Runner] = {}
    for key in ("jpegls", "jpeg", "j2k", "htj2k", "jpegxl", "rle", "deflated"):
        found[f"gpushrink --to {key}, 1 process"] = ours(key, 1)
    found[f"gpushrink --to jpegls, {os.cpu_count()} processes"] = ours("jpegls", os.cpu_count() or 1)
    for name, words in (
        ("gdcmconv --jpegls", ("gdcmconv", "--jpegls")),
        ("gdcmconv --jpeg", ("gdcmconv", "--jpeg")),
        ("gdcmconv --j2k", ("gdcmconv", "--j2k")),
        ("gdcmconv --rle", ("gdcmconv", "--rle")),
        ("dcmcjpls", ("dcmcjpls",)),
        ("dcmcjpeg +e1", ("dcmcjpeg", "+e1")),
        ("dcmcrle", ("dcmcrle",)),
    ):
        if shutil.which(words[0]):
            found[name] = peer(*words)
    return found


def taken(runner: Runner, source: Path) -> tuple[float, float, list[int]]:
    """Run once: seconds by the clock, seconds of the processor, sizes written."""
    with tempfile.TemporaryDirectory() as scratch:
        before, began = os.times(), time.perf_counter()
        runner(source, Path(scratch) / "out")
        seconds, after = time.perf_counter() - began, os.times()
        written = [p.stat().st_size for p in (Path(scratch) / "out").rglob("*") if p.is_file()]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, written


def measure(source: Path, rounds: int) -> list[dict[str, Any]]:
    """Let every tool have its turn in each round, and take the medians."""
    size, count = sum(p.stat().st_size for p in source.iterdir()), len(list(source.iterdir()))
    found = tools()
    runs: dict[str, list[tuple[float, float, list[int]]]] = {name: [] for name in found}
    for _ in range(rounds + 1):
        for name, runner in found.items():
            runs[name].append(taken(runner, source))
    rows = []
    for name, took in runs.items():
        wall, cpu = ([run[k] for run in took[1:]] for k in (0, 1))
        sizes = took[-1][2]
        rows.append(
            {
                "tool": name,
                "files_in": count,
                "bytes_in": size,
                "rounds": rounds,
                "seconds": round(statistics.median(wall), 3),
                "spread": round(max(wall) - min(wall), 3),
                "cpu_seconds": round(statistics.median(cpu), 3),
                "cpu_spread": round(max(cpu) - min(cpu), 3),
                "files_out": len([s for s in sizes if s]),
                "bytes_out": sum(sizes),
                "ratio": round(size / sum(sizes), 3) if sum(sizes) else None,
                "mb_per_second": round(size / 1e6 / statistics.median(wall), 1),
                "mb_per_cpu_second": round(size / 1e6 / statistics.median(cpu), 1),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("-o", type=Path)
    given = parser.parse_args()
    rows = []
    for folder in given.folders:
        with tempfile.TemporaryDirectory() as scratch:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                shutil.copyfile(path, Path(scratch) / path.relative_to(folder).as_posix().replace("/", "_"))
            for row in measure(Path(scratch), given.n):
                rows.append({"folder": folder.name, **row})
                print(
                    f"{folder.name:33} {row['tool']:33} {row['files_out']:4}/{row['files_in']} {row['bytes_out']:11,} "
                    f"{row['ratio']:6} {row['seconds']:7.2f} s, processor {row['cpu_seconds']:6.2f} s "
                    f"+-{row['cpu_spread']:.2f}, {row['mb_per_cpu_second']:5} MB/s",
                    flush=True,
                )
    report = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "python": sys.version.split()[0],
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "rows": rows,
    }
    if given.o:
        given.o.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
