"""From files to an archive and back on a device: speed end to end, and that each side reads what the other writes."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpushrink
from gpu_measure import row
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.synthetic import write_series
from gpushrink.dicom.walk import walk_sources


def measure_files(name: str, *, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Pack and unpack generated series with the device and with the CPU, each archive by both.

    Raises
    ------
    AssertionError
        If a file does not come back.
    """
    device = "cuda:all" if name == "cuda" else name
    series, slices, size = (2, 3, 40) if quick else (2, 192, 512)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        study = root / "study"
        for number in range(series):
            (study / str(number)).mkdir(parents=True)
            write_series(study / str(number), slices=slices, rows=size, columns=size, seed=number + 1)
        wanted, read = digests(study), sum(path.stat().st_size for path in study.rglob("*.dcm"))
        rows.append(row("scan of the files, one thread", read, timed_scan(study)))
        archives = {}
        for level in ("fast", "default"):
            for who in (device, "cpu"):
                if left() < 30 and not quick:
                    break
                archive = archives[level, who] = root / f"{level}-{who.replace(':', '')}.gsz"
                seconds = []
                for _ in range(1 if quick else 2):
                    began = time.perf_counter()
                    gpushrink.pack(study, archive, level=level, device=who, verify=False, force=True)
                    seconds.append(time.perf_counter() - began)
                ratio = read / archive.stat().st_size
                rows.append(row(f"pack {level} {who}, warm files, not verified", read, seconds[-1:], ratio=ratio))
        same = {}
        for (level, who), archive in archives.items():
            for reader in (device, "cpu"):
                if left() < 15 and not quick:
                    break
                target = root / f"{archive.stem}-{reader.replace(':', '')}"
                began = time.perf_counter()
                result = gpushrink.unpack(archive, target, device=reader)
                rows.append(row(f"unpack {level} of {who} by {reader}", read, [time.perf_counter() - began]))
                if (error := result.worst()) or digests(target) != wanted:
                    raise AssertionError(f"{level}, packed by {who}, unpacked by {reader}: {error or 'other bytes'}")
            if (level, "cpu") in archives and who != "cpu":
                # Equal but where a device's own zstd wrote frames.
                same[level] = archive.read_bytes() == archives[level, "cpu"].read_bytes()
    return {"rows": rows, "files": len(wanted), "bytes": read, "archives_equal_the_cpu_s": same}


def timed_scan(study: Path) -> list[float]:
    """Time what finds the series, in seconds of one core: it comes before any slab is coded."""
    found = walk_sources([study]).found
    scan_files(found)
    began = time.process_time()
    scan_files(found)
    return [time.process_time() - began]


def digests(folder: Path) -> dict[str, str]:
    """Hash every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
