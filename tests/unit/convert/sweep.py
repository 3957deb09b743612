"""Transcode every file of the real data and of pydicom's tests to every syntax, before judges from outside.

    GPUSHRINK_DATA=FOLDER python tests/unit/convert/sweep.py [--to KEY ...] [-j PROCESSES] [-o FILE.json]

Losslessly compressed sources are converted as well. Prints one line for each syntax and one for each
complaint, and ends with 1 if there was any.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from made_dicom import pydicom_files
from outside import JUDGES, judge, missing

from gpushrink.convert import FileOutcome, TranscodeReport, transcode
from gpushrink.convert.syntaxes import TARGETS

Judged = tuple[FileOutcome, dict[str, str]]


def every_file(root: Path | None) -> list[Path]:
    """List pydicom's files and all of the real data."""
    found = sorted(p for p in root.rglob("*") if p.is_file()) if root else []
    return [*pydicom_files(), *found]


def linked(files: list[Path], folder: Path) -> Path:
    """Link files into one folder, numbered."""
    folder.mkdir()
    for index, path in enumerate(files):
        (folder / f"{index:05d}.dcm").symlink_to(path)
    return folder


def judged(report: TranscodeReport, at_most: int | None = None) -> list[Judged]:
    """Let the judges look at the files that were transcoded, or at so many of them from end to end."""
    done = [o for o in report.files if o.action == "transcoded"]
    step = 1 if at_most is None else -(-len(done) // at_most) or 1
    done = done[::step]
    places = [(Path(report.source) / o.path, Path(report.dest) / o.path, report.requested) for o in done]
    with ProcessPoolExecutor(report.threads) as pool:
        return list(zip(done, pool.map(_judge, places, chunksize=4), strict=True))


KNOWN = {
    ("gdcm", "rle", "SC_rgb_small_odd.dcm"),
    ("gdcm", "rle", "SC_rgb_small_odd_big_endian.dcm"),
}
"""GDCM 3.2.6 opens these, and turns no colour of an odd plane size into pixels where PlanarConfiguration is 1."""


def _judge(place: tuple[Path, Path, str]) -> dict[str, str]:
    return judge(*place)


def complaints(results: list[Judged], report: TranscodeReport) -> list[str]:
    """List what the judges found wrong, but for what is known of them."""
    found = [
        ((Path(report.source) / outcome.path).resolve(), name, said)
        for outcome, verdict in results
        for name, said in verdict.items()
        if said != "ok" and not said.startswith("skipped")
    ]
    return [f"{p}: {name}: {said}" for p, name, said in found if (name, report.requested, p.name) not in KNOWN]


def sweep(key: str, source: Path, scratch: Path, processes: int) -> dict[str, Any]:
    """Transcode a folder to one syntax and judge the result."""
    began = time.monotonic()
    report = transcode(source, scratch / key, to=key, threads=processes, recompress=True)
    unlike = [
        f"{(source / o.path).resolve()}: not byte for byte"
        for o in report.files
        if o.action != "transcoded" and (source / o.path).read_bytes() != (scratch / key / o.path).read_bytes()
    ]
    results = judged(report)
    row: dict[str, Any] = {"to": key, "files": len(report.files)}
    row |= {action: report.count(action) for action in ("transcoded", "passed", "unproven")}
    row["proven by a second implementation"] = sum(o.independent for o in report.files)
    row["judged"] = len(results)
    for name in JUDGES:
        row[name] = sum(verdict[name] == "ok" for _, verdict in results)
    row["skipped"] = dict(Counter(f"{n}: {v[n][9:]}" for _, v in results for n in JUDGES if v[n].startswith("skipped")))
    row["unproven because"] = dict(Counter(o.reason for o in report.files if o.action == "unproven"))
    row["complaints"] = unlike + complaints(results, report)
    row["seconds"] = round(time.monotonic() - began)
    return row


def main() -> int:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", nargs="+", choices=sorted(TARGETS), default=list(TARGETS))
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-o", type=Path)
    given = parser.parse_args()
    if lacking := missing():
        print(f"not installed: {', '.join(lacking)}", file=sys.stderr)
        return 2
    data = os.environ.get("GPUSHRINK_DATA")
    rows = []
    for key in given.to:
        with tempfile.TemporaryDirectory() as scratch:
            source = linked(every_file(Path(data) if data else None), Path(scratch) / "in")
            rows.append(sweep(key, source, Path(scratch), given.j))
        shown = {k: v for k, v in rows[-1].items() if k not in ("complaints", "skipped", "unproven because")}
        print(", ".join(f"{k} {v}" for k, v in shown.items()), flush=True)
        for line in rows[-1]["complaints"]:
            print(f"  {line}", flush=True)
        if given.o:
            given.o.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row["complaints"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
