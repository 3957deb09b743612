#!/usr/bin/env python3
"""Measure what lies around the slab codec: pack and unpack with one that takes no time, the ceiling of any device.

usage: pipeline.py [--series N] [--slices N] [--threads N ...] [--wait MS] [--level LEVEL] [--runs N] [--data DIR]
                   [--stages] [--gil]

A study of CT series (512 x 512, every file and frame different) is made below DIR, once, or in a temporary folder, read
into the page cache, packed without the proof and unpacked, with a codec in the volume codec's place that answers at
once: `encode` with a quarter of the slab's bytes, `decode` with the samples that it was given. With --wait each call
sleeps so many milliseconds first, as one that waits for a device does, and shows how many are in flight at once.

Prints one JSON line per number of threads and direction, of N runs the one with the least processor time:

    mb_s                        pixel data over the clock
    cpu_ms_file, cpu_ms_slab    processor time of the process over files and over slabs
    most_calls                  most calls of the codec in flight at once
    gil_ms_file                 time in which some thread held the interpreter, over files: with cores enough the clock
                                can be no shorter; only with --gil, which samples with py-spy (pip install py-spy)

--stages prints, for the first number of threads, processor time of the threads by function, inclusive.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import gpushrink
from gpushrink.dicom.synthetic import write_series

_STAGES: tuple[tuple[str, str], ...] = (
    ("gpushrink.pipeline.packing", "walk_sources scan_files plan_jobs"),
    ("gpushrink.pipeline.coding", "encode_slab encode_headers read_and_hash read_ranges hash_file _finish"),
    ("gpushrink.codec.slab", "encode_slab_as_volume _measure"),
    ("gpushrink.codec.volume", "find_likely_references try_references"),
    ("gpushrink.archive.writer", "ArchiveWriter.data ArchiveWriter.hashes"),
    ("gpushrink.pipeline.files", "NewFile.commit"),
    ("gpushrink.pipeline.unpacking", "_decode"),
    ("gpushrink.archive.restorer", "Restorer.place Proof.run"),
    ("gpushrink.archive.restore", "FolderKeeper.commit"),
)
_KEY = 1024


class NullCodec:
    """Answer at once, or after a wait: `decode` gives the samples that `encode` was given under that payload."""

    name = "null"

    def __init__(self, wait: float) -> None:
        self._wait, self._lock = wait, threading.Lock()
        self._kept: dict[bytes, tuple[bytes, Any]] = {}
        self._now = self.most = self.calls = 0

    def encode(self, stack: Any, *, level: str, references: Any, threads: int = 1) -> tuple[bytes, ...]:
        """Encode; see `gpushrink.codec.table.SlabCodec`."""
        with self._counted():
            key = stack[0, ::64, ::32].tobytes()[:_KEY] + stack[-1, ::64, ::32].tobytes()[:_KEY]
            if key not in self._kept:
                self._kept[key] = key + bytes(max(0, stack.nbytes // 4 - len(key))), stack.copy()
            return (self._kept[key][0],)

    def decode(self, payload: bytes, *, shape: Any, dtype: Any, threads: Any = 1) -> Any:
        """Decode; see `gpushrink.codec.table.SlabCodec`."""
        with self._counted():
            part = min(_KEY, len(range(0, shape[1], 64)) * len(range(0, shape[2], 32)) * dtype.itemsize)
            return self._kept[bytes(payload[: 2 * part])][1]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self.calls += 1
            self._now += 1
            self.most = max(self.most, self._now)
        if self._wait:
            time.sleep(self._wait)
        yield
        with self._lock:
            self._now -= 1

    def restart(self) -> None:
        """Count anew."""
        self.most = self.calls = 0


def main() -> int:
    """Parse, make the study, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=4)
    parser.add_argument("--slices", type=int, default=192)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--wait", type=float, default=0.0, metavar="MS")
    parser.add_argument("--level", default="default")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--gil", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpushrink-pipeline-") as temporary:
        base = Path(temporary)
        study = options.data or base / "study"
        make_study(study, options.series, options.slices)
        codec = NullCodec(options.wait / 1e3)
        with mock.patch("gpushrink.pipeline.api.slab_codec_of", return_value=nullcontext(codec)):
            gpushrink.pack(study, base / "a.gsz", level=options.level, verify=False, threads=2)  # compiles, warms
            for threads in options.threads:
                measure(study, base, codec, threads, options)
    return 0


def make_study(folder: Path, series: int, slices: int) -> None:
    """Write a series, and others made of it by turning and shifting its slices under other UIDs."""
    if (folder / f"{series - 1:02d}").is_dir():
        return
    first = folder / "00"
    if not first.is_dir():
        first.mkdir(parents=True)
        write_series(first, slices=slices)
    for number in range(1, series):
        part = folder / f".{number:02d}"
        part.mkdir()
        for path in sorted(first.iterdir()):
            raw, size = path.read_bytes(), 512 * 512 * 2
            head = raw[:-size].replace(b"2.25.20240229.1", f"2.25.20240{229 + number}.1".encode())
            image = np.frombuffer(raw[-size:], "<i2").reshape(512, 512)
            turned = np.rot90(image, number % 4)[:: 1 if number & 4 else -1]
            (part / path.name).write_bytes(head + np.roll(turned, number // 8, axis=1).tobytes())
        part.rename(folder / f"{number:02d}")


def measure(study: Path, base: Path, codec: NullCodec, threads: int, options: argparse.Namespace) -> None:
    """Run both directions and print their rows."""
    files = [path for path in study.rglob("*") if path.is_file()]
    pixels = len(files) * 512 * 512 * 2
    for path in files:
        path.read_bytes()

    def pack() -> None:
        gpushrink.pack(study, base / "a.gsz", level=options.level, verify=False, threads=threads, force=True)

    def unpack() -> None:
        shutil.rmtree(base / "out", ignore_errors=True)
        error = gpushrink.unpack(base / "a.gsz", base / "out", threads=threads).worst()
        if error is not None:
            raise error

    for verb, run in (("pack", pack), ("unpack", unpack)):
        best: dict[str, Any] = {}
        for _ in range(options.runs):
            codec.restart()
            clock, cpu = time.perf_counter(), time.process_time()
            run()
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            row = {
                "verb": verb,
                "threads": threads,
                "mb_s": round(pixels / clock / 1e6),
                "cpu_ms_file": round(1e3 * cpu / len(files), 3),
                "cpu_ms_slab": round(1e3 * cpu / max(1, codec.calls), 2),
                "most_calls": codec.most,
            }
            best = row if not best or row["cpu_ms_file"] < best["cpu_ms_file"] else best
        if options.gil:
            best["gil_ms_file"] = round(1e3 * hold_time(run) / len(files), 3)
        print(json.dumps(best), flush=True)
        if options.stages and threads == options.threads[0]:
            show_stages(run, len(files))


def hold_time(run: Callable[[], None]) -> float:
    """Return for how long, while `run` runs, some thread held the interpreter's lock, by sampling."""
    rate = 500
    with tempfile.NamedTemporaryFile("r") as out:
        program = Path(sys.executable).with_name("py-spy")
        line = [program, "record", "--gil", "-f", "raw", "-r", str(rate), "-d", "600", "-o", out.name]
        with subprocess.Popen([*line, "-p", str(os.getpid())], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as spy:
            time.sleep(1.5)
            run()
            spy.send_signal(2)
            spy.wait()
        return sum(int(line.rsplit(" ", 1)[1]) for line in out) / rate


def show_stages(run: Callable[[], None], files: int) -> None:
    """Run once more with the functions of `_STAGES` timed."""
    spent: dict[str, float] = defaultdict(float)
    clock: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            began, wall = time.thread_time(), time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.thread_time() - began
                clock[name] += time.perf_counter() - wall
                calls[name] += 1

        return inner

    with ExitStack() as stack:
        for module, names in _STAGES:
            for name in names.split():
                owner: Any = importlib.import_module(module)
                *way, last = name.split(".")
                for part in way:
                    owner = getattr(owner, part)
                if hasattr(owner, last):
                    stack.enter_context(mock.patch.object(owner, last, timed(name, getattr(owner, last))))
        run()
    for name, seconds in sorted(spent.items(), key=lambda pair: -pair[1]):
        each, here, clocked = 1e3 * seconds / calls[name], 1e3 * seconds / files, 1e3 * clock[name] / files
        print(f"    {name:24s} {calls[name]:6d} x {each:9.3f} ms; {here:7.3f} ms a file, clock {clocked:7.3f}")


if __name__ == "__main__":
    sys.exit(main())
