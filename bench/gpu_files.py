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
from typing import Any, NamedTuple

import gpushrink
from gpu_measure import row
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.synthetic import write_series
from gpushrink.dicom.walk import walk_sources

LEVELS = ("fast", "default")
# Enough files that a second is short for them, few enough to be written beside everything else.
STUDY_BYTES = 1_600_000_000
# Enough that helping processes, which take seconds to be ready, are begun and pay; a part of the room there is.
LARGE_BYTES = 25_600_000_000
ROOM_PARTS = 3
# Another file system than that of the temporary files, where the machine has one: what it takes to store the archive.
DISK = Path("/var/tmp")
COMPARED_BYTES = 1 << 26


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
    every = os.cpu_count() or 1
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    firsts: dict[tuple[bool, str], Path] = {}
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryDirectory(dir=DISK) as elsewhere:
        root, disk = Path(temporary), Path(elsewhere)
        ways = [
            Way(device, "fast"), Way(device, "fast"), Way(device, "fast", folder=disk),
            Way(device, "fast", processes=every // 2, threads=2 * every), Way(device, "default"), Way("auto", "fast"),
            Way(device, "fast", processes=0), Way("cpu", "fast"),
        ]  # fmt: skip
        if quick:
            ways = [way._replace(processes=2 if way.processes is None else way.processes) for way in ways]
        began = time.perf_counter()
        size = min(LARGE_BYTES, shutil.disk_usage(root).free // ROOM_PARTS)
        write_study(root / "study", None if quick else study, quick=quick, size_bytes=size)
        written_s = time.perf_counter() - began
        files = [path.stat().st_size for path in (root / "study").rglob("*.dcm")]
        archive = root / "archive.gsz"
        for way in ways:
            if left() < 30 and not quick:
                skipped.append(str(way))
                continue
            archive = (way.folder or root) / "archive.gsz"
            began, used = time.perf_counter(), os.times()
            report = gpushrink.pack(
                root / "study",
                archive,
                level=way.level,
                device=way.device,
                verify=False,
                force=True,
                processes=way.processes,
                threads=way.threads,
            )
            seconds, now = [time.perf_counter() - began], os.times()
            rows.append(row(f"pack {way}, large, not verified", sum(files), seconds, ratio=report.as_json()["ratio"]))
            rows[-1]["processes"], rows[-1]["engine"] = report.processes, report.engine
            rows[-1]["cpu_user_s"] = now.user + now.children_user - used.user - used.children_user
            rows[-1]["cpu_system_s"] = now.system + now.children_system - used.system - used.children_system
            # The CPU writes what `auto` writes; a card asked for by name may write zstd frames of its own.
            kind = (way.device == device, way.level)
            first = firsts.setdefault(kind, root / f"first-{len(firsts)}.gsz")
            if first.exists() and not are_equal(first, archive):
                raise AssertionError(f"pack {way} wrote another archive")
            if not first.exists():
                archive = archive.rename(first)
        if left() > 40 or quick:
            began = time.perf_counter()
            result = gpushrink.unpack(archive, root / "back", device=device, processes=2 if quick else None)
            rows.append(row(f"unpack the last by {device}, large", sum(files), [time.perf_counter() - began]))
            if (error := result.worst()) or result.files != len(files):
                raise AssertionError(f"unpack: {error or 'files are missing'}")
    return {
        "rows": rows, "files": len(files), "bytes": sum(files), "written_s": written_s, "skipped_ways": skipped,
        "folder": tempfile.gettempdir(),
    }  # fmt: skip


class Way(NamedTuple):
    """Say how a large study is packed; None leaves it to the program."""

    device: str
    level: str
    processes: int | None = None
    threads: int | None = None
    folder: Path | None = None

    def __str__(self) -> str:
        """Say it in a line."""
        helpers = "helpers as they come" if self.processes is None else f"{self.processes} helpers"
        threads = "" if self.threads is None else f", {self.threads} threads"
        return f"{self.level} {self.device}{threads}, {helpers}{', archive on disk' if self.folder else ''}"


def are_equal(first: Path, second: Path) -> bool:
    """Compare two large files, a part on each processor."""
    import numpy as np

    if first.stat().st_size != second.stat().st_size:
        return False
    one, other = np.memmap(first, np.uint8, "r"), np.memmap(second, np.uint8, "r")
    with ThreadPoolExecutor() as threads:
        begins = range(0, len(one), COMPARED_BYTES)
        return all(
            threads.map(
                lambda at: np.array_equal(one[at : at + COMPARED_BYTES], other[at : at + COMPARED_BYTES]), begins
            )
        )


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
