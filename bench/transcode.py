"""Sizes and times of lossless transcoding against gdcmconv and dcmcjpls, on the same files in one run.

    python bench/transcode.py FOLDER [FOLDER ...] [-n 3] [-o bench/results/transcode-MACHINE-DATE.json]

Every tool writes each file of a folder; one process each, since the peers have no more. A round times the
folder as a whole, start-up of each process included, as a user would see it. The median of n rounds after
one warm-up is given with its spread. A peer that fails on a file leaves it out, and the count says so.
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

from gpushrink.convert import transcode

Runner = Callable[[Path, Path], None]


def ours(key: str, threads: int) -> Runner:
    """Run gpushrink as its command would, proof of every frame included."""
    return lambda source, dest: void(transcode(source, dest, to=key, threads=threads))


def void(_: object) -> None:
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


def measure(runner: Runner, source: Path, rounds: int) -> dict[str, Any]:
    """Time `rounds` rounds after a warm-up and add up what was written."""
    seconds = []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as scratch:
            began = time.perf_counter()
            runner(source, Path(scratch) / "out")
            seconds.append(time.perf_counter() - began)
            written = [p for p in (Path(scratch) / "out").rglob("*") if p.is_file()]
            sizes = [p.stat().st_size for p in written]
    kept = seconds[1:]
    return {
        "seconds": round(statistics.median(kept), 3),
        "spread": round(max(kept) - min(kept), 3),
        "rounds": rounds,
        "files_out": len([s for s in sizes if s]),
        "bytes_out": sum(sizes),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("-o", type=Path)
    given = parser.parse_args()
    rows = []
    for folder in given.folders:
        files = [p for p in folder.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in files)
        for name, runner in tools().items():
            row = {"folder": folder.name, "tool": name, "files_in": len(files), "bytes_in": size}
            row |= measure(runner, folder, given.n)
            row["ratio"] = round(size / row["bytes_out"], 3) if row["bytes_out"] else None
            row["mb_per_second"] = round(size / 1e6 / row["seconds"], 1)
            rows.append(row)
            print(
                f"{folder.name:36} {name:36} {row['files_out']:4}/{len(files)} {row['bytes_out']:12,} "
                f"{row['ratio']:7} {row['seconds']:8.2f} s +-{row['spread']:.2f} {row['mb_per_second']:7} MB/s",
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
