"""From files to an archive and back on a device: speed end to end, and that each side reads what the other writes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpushrink
from gpu_measure import row
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.synthetic import write_series
from gpushrink.dicom.walk import walk_sources

LEVELS = ("fast", "default")
# Enough files that a second is short for them, few enough to be written beside everything else.
STUDY_BYTES = 1_600_000_000
# Enough that helping processes, which take seconds to be ready, are begun and pay.
LARGE_BYTES = 6_400_000_000


def measure_files(name: str, *, study: Path | None, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Pack and unpack series with the device and with the CPU, each archive by both.

    Parameters
    ----------
    study
        A folder of archives; the first one's files, varied, are the series. None generates them.

    Raises
    ------
    AssertionError
        If a file does not come back.
    """
    device = "cuda:all" if name == "cuda" else name
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        source = root / "study"
        began = time.perf_counter()
        write_study(source, None if quick else study, quick=quick)
        wanted, read = digests(source), sum(path.stat().st_size for path in source.rglob("*.dcm"))
        made_s = time.perf_counter() - began
        rows.append(row("scan of the files, one thread", read, timed_scan(source)))
        archives = {}
        for level in LEVELS:
            for who in (device, "cpu"):
                if left() < 30 and not quick:
                    break
                archive = archives[level, who] = root / f"{level}-{who.replace(':', '')}.gsz"
                seconds = []
                for _ in range(1 if quick else 3):
                    began, used = time.perf_counter(), os.times()
                    gpushrink.pack(source, archive, level=level, device=who, verify=False, force=True)
                    seconds.append(time.perf_counter() - began)
                # The first one opens the card and compiles, or finds compiled, the kernels.
                ratio = read / archive.stat().st_size
                rows.append(row(f"pack {level} {who}, warm files, not verified, first", read, seconds[:1], ratio=ratio))
                if seconds[1:]:
                    rows.append(row(f"pack {level} {who}, warm files, not verified", read, seconds[1:], ratio=ratio))
                # Of the last one, to tell what waits from what computes, and computing from the system's work.
                now = os.times()
                rows[-1]["cpu_user_s"], rows[-1]["cpu_system_s"] = now.user - used.user, now.system - used.system
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
                shutil.rmtree(target)
            if (level, "cpu") in archives and who != "cpu":
                # Equal but where a device's own zstd wrote frames.
                same[level] = archive.read_bytes() == archives[level, "cpu"].read_bytes()
    what = "generated" if study is None else "real, varied"
    return {
        "rows": rows, "content": what, "files": len(wanted), "bytes": read, "written_s": made_s,
        "archives_equal_the_cpu_s": same,
    }  # fmt: skip


def measure_large(name: str, *, study: Path | None, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Pack a large study by one process and by several, and back: what `measure_files` has too few files for.

    Raises
    ------
    AssertionError
        If processes change a byte of an archive, or a file does not come back.
    """
    device = "cuda:all" if name == "cuda" else name
    # The CPU writes what `auto` writes; a card asked for by name may write zstd frames of its own.
    every = os.cpu_count() or 1
    ways: list[tuple[str, str, int | None, int]] = [
        (device, "fast", 0, every), (device, "fast", 0, 2 * every), (device, "fast", None, every),
        (device, "default", None, every), ("auto", "fast", None, every), ("cpu", "fast", None, every),
        (device, "fast", 2, every), (device, "default", 0, 2 * every),
    ]  # fmt: skip
    if quick:
        ways = [(who, level, 2 if processes is None else processes, threads) for who, level, processes, threads in ways]
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    archives: dict[tuple[bool, str], str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_study(root / "study", None if quick else study, quick=quick, size_bytes=LARGE_BYTES)
        files = [path.stat().st_size for path in (root / "study").rglob("*.dcm")]
        archive = root / "archive.gsz"
        for who, level, processes, threads in ways:
            helped = "helpers as they come" if processes is None else f"{processes} helpers"
            what = f"{level} {who}, {threads} threads, {helped}"
            if left() < 30 and not quick:
                skipped.append(what)
                continue
            began = time.perf_counter()
            report = gpushrink.pack(
                root / "study",
                archive,
                level=level,
                device=who,
                verify=False,
                force=True,
                processes=processes,
                threads=threads,
            )
            seconds = [time.perf_counter() - began]
            rows.append(row(f"pack {what}, large, not verified", sum(files), seconds, ratio=report.as_json()["ratio"]))
            rows[-1]["processes"], rows[-1]["engine"] = report.processes, report.engine
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            if archives.setdefault((who == device, level), digest) != digest:
                raise AssertionError(f"pack {what} wrote another archive")
        if left() > 40 or quick:
            began = time.perf_counter()
            result = gpushrink.unpack(archive, root / "back", device=device, processes=2 if quick else None)
            rows.append(row(f"unpack fast by {device}, large", sum(files), [time.perf_counter() - began]))
            if (error := result.worst()) or result.files != len(files):
                raise AssertionError(f"unpack: {error or 'files are missing'}")
    return {"rows": rows, "files": len(files), "bytes": sum(files), "skipped_ways": skipped}


def write_study(target: Path, study: Path | None, *, quick: bool, size_bytes: int = STUDY_BYTES) -> None:
    """Write series until there are enough bytes, on all processors."""
    target.mkdir()
    # Spawned: a process that has opened a card must not be forked.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        if study is None:
            series, slices, size = (2, 3, 40) if quick else (16, 192, 512)
            folders = [target / str(number) for number in range(series)]
            for folder in folders:
                folder.mkdir()
            list(pool.map(_generate, folders, range(1, series + 1), [slices] * series, [size] * series))
            return
        with tempfile.TemporaryDirectory() as temporary:
            gpushrink.unpack(min(study.glob("*.gsz")), Path(temporary) / "files", device="cpu")
            files = sorted(path for path in Path(temporary).rglob("*.dcm") if path.is_file())
            held = sum(path.stat().st_size for path in files)
            copies = -(-size_bytes // held)
            list(pool.map(_vary, [files] * copies, [target / str(number) for number in range(copies)], range(copies)))


def _generate(folder: Path, seed: int, slices: int, size: int) -> None:
    write_series(folder, slices=slices, rows=size, columns=size, seed=seed)


def _vary(files: list[Path], folder: Path, number: int) -> None:
    """Write a series anew under other UIDs, its slices mirrored and shifted, so that no frame is another's copy."""
    import numpy as np
    import pydicom

    folder.mkdir()
    for path in files:
        image = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(image, keyword, f"{image[keyword].value[:50]}.{number + 1}")
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        pixels = np.frombuffer(image.PixelData, "<i2")[: image.Rows * image.Columns].reshape(image.Rows, image.Columns)
        turned = (pixels, pixels[::-1], pixels[:, ::-1], pixels[::-1, ::-1])[number % 4]
        image.PixelData = np.roll(turned, 3 * (number // 4), axis=0).tobytes()
        image.save_as(folder / path.name)


def timed_scan(study: Path) -> list[float]:
    """Time what finds the series, in seconds of one core: it comes before any slab is coded."""
    found = walk_sources([study]).found
    scan_files(found)
    began = time.process_time()
    scan_files(found)
    return [time.process_time() - began]


def digests(folder: Path) -> dict[str, str]:
    """Hash every file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as threads:
        found = threads.map(lambda path: hashlib.sha256(path.read_bytes()).hexdigest(), paths)
        return {path.relative_to(folder).as_posix(): one for path, one in zip(paths, found, strict=True)}
