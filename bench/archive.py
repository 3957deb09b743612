"""Size and speed of whole archives beside `tar | xz -6`, set by set, in one run."""

from __future__ import annotations

import lzma
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gpushrink.pipeline.api import pack
from peers import find_tool, tar_bytes
from results import print_table

__all__ = ["measure_archives"]

_LONG_SECONDS = 6.0  # what takes longer than this is run once
_STEP = 1 << 20


@dataclass
class _Timed:
    """Hold one thing to time: seconds on the clock and of processor time, and the bytes that come out."""

    run: Callable[[], tuple[int, float]]
    size: int = 0
    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def time_once(self) -> None:
        began = time.perf_counter()
        self.size, processor = self.run()
        self.clock.append(time.perf_counter() - began)
        self.processor.append(processor)

    def row(self) -> dict[str, Any]:
        return {
            "bytes": self.size,
            "seconds_median": round(statistics.median(self.clock), 4),
            "seconds_least": round(min(self.clock), 4),
            "processor_seconds_least": round(min(self.processor), 4),
            "runs": len(self.clock),
        }


def measure_archives(folders: Sequence[Path], levels: Sequence[str], threads: int, runs: int) -> dict[str, Any]:
    """Pack each folder with and without the proof, and its tar with xz, `runs` times in turn; print the table.

    Returns
    -------
    dict
        Rows for the results file.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "archive"
        if folders:
            pack(folders[0], target, level=levels[0], threads=threads)  # compiles, once
        for folder in folders:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            methods = {"xz": _Timed(partial(_run_xz, folder, files))}
            for level in levels:
                for verify in (True, False):
                    label = level if verify else f"{level}, no proof"
                    methods[label] = _Timed(partial(_run_pack, folder, target, level, threads, verify))
            for turn in range(runs):
                for method in methods.values():
                    if not turn or method.clock[0] < _LONG_SECONDS:
                        method.time_once()
            row = {"set": folder.name, "files": len(files), **{key: one.row() for key, one in methods.items()}}
            row["source_bytes"] = sum(path.stat().st_size for path in files)
            rows.append(row)
            print(f"{folder.name} done", flush=True)
    _print(rows, levels, threads)
    return {"threads": threads, "sets": rows}


def _run_pack(folder: Path, target: Path, level: str, threads: int, verify: bool) -> tuple[int, float]:
    began = time.process_time()
    report = pack(folder, target, level=level, threads=threads, verify=verify, force=True)
    return report.archive_bytes, time.process_time() - began


def _run_xz(folder: Path, files: Sequence[Path]) -> tuple[int, float]:
    """Run `tar | xz -6` with one thread; without these programs, Python's own of both."""
    tar, xz = find_tool("tar"), find_tool("xz")
    if tar is None or xz is None:
        began = time.process_time()
        return len(lzma.compress(tar_bytes(files, folder), preset=6)), time.process_time() - began
    import resource  # where there is xz there is this

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (
        subprocess.Popen([tar, "-C", folder.parent, "-cf", "-", folder.name], stdout=subprocess.PIPE) as first,
        subprocess.Popen([xz, "-6", "-T1", "-c"], stdin=first.stdout, stdout=subprocess.PIPE) as second,
    ):
        assert first.stdout is not None
        assert second.stdout is not None
        first.stdout.close()
        size = sum(map(len, iter(partial(second.stdout.read, _STEP), b"")))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return size, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _print(rows: Sequence[dict[str, Any]], levels: Sequence[str], threads: int) -> None:
    packs = [label for level in levels for label in (level, f"{level}, no proof")]
    head = ["set", "files", "MB", "xz s", *(f"size/xz {level}" for level in levels), *(f"x {label}" for label in packs)]
    table = [
        [
            row["set"],
            row["files"],
            round(row["source_bytes"] / 1e6, 1),
            row["xz"]["seconds_median"],
            *(row[level]["bytes"] / row["xz"]["bytes"] for level in levels),
            *(f"{row['xz']['seconds_median'] / row[label]['seconds_median']:.1f}" for label in packs),
        ]
        for row in rows
    ]
    print_table(f"Archives beside tar | xz -6 (one thread); pack with {threads}; medians of the clock", head, table)
    head = ["set", *(f"x {label}" for label in packs)]
    table = [
        [
            row["set"],
            *(f"{row['xz']['processor_seconds_least'] / row[label]['processor_seconds_least']:.1f}" for label in packs),
        ]
        for row in rows
    ]
    print_table("The same in processor time of all threads, the least: what other load does not touch", head, table)
