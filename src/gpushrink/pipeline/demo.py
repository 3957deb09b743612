"""Show the whole round trip on a series made on the spot, beside what people use today."""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpushrink.dicom.synthetic import write_series
from gpushrink.errors import VerifyError
from gpushrink.pipeline import api

__all__ = ["DemoReport", "DemoRow", "run_demo"]


@dataclass(frozen=True, slots=True)
class DemoRow:
    """Say how one method did: bytes, seconds to compress and to restore."""

    method: str
    size: int
    compress_seconds: float
    restore_seconds: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Hold the sizes and times of a demo run; `files` were compared byte for byte."""

    files: int
    source_bytes: int
    rows: tuple[DemoRow, ...]

    def as_json(self) -> dict[str, object]:
        """Return the report as values that JSON can hold."""
        return {
            "files": self.files,
            "source_bytes": self.source_bytes,
            "restored_exactly": True,
            "methods": [
                {
                    "method": row.method,
                    "bytes": row.size,
                    "ratio": round(self.source_bytes / row.size, 3),
                    "compress_seconds": round(row.compress_seconds, 3),
                    "restore_seconds": round(row.restore_seconds, 3),
                }
                for row in self.rows
            ],
        }


def run_demo(
    *,
    slices: int = 24,
    threads: int | None = None,
    keep: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> DemoReport:
    """Write a synthetic CT series, pack it, verify it, unpack it, compare every byte, and time zip and xz on it.

    Parameters
    ----------
    keep
        A folder in which to leave the series and the archive; None for a temporary one.
    tell
        Called with a line before each step.

    Raises
    ------
    VerifyError
        If a byte differs, which would be a bug.
    """
    with tempfile.TemporaryDirectory(prefix="gpushrink-demo-") as temporary:
        base = keep if keep is not None else Path(temporary)
        source, archive, restored = base / "series", base / "series.gsz", Path(temporary) / "restored"
        source.mkdir(parents=True, exist_ok=True)
        tell(f"writing a synthetic CT series of {slices} slices")
        size = write_series(source, slices=slices)
        # Not timed: the first run ever compiles the CPU engine and keeps it; what follows is what later runs take.
        tell("preparing the CPU engine (compiled once, some seconds)")
        api.pack(source, archive, threads=threads, force=True)
        tell("packing and proving it")
        report = api.pack(source, archive, threads=threads, force=True)
        tell("verifying the archive")
        _insist(api.verify(archive, threads=threads).worst() is None, "verify")
        tell("unpacking and comparing every byte")
        began = time.perf_counter()
        _insist(api.unpack(archive, restored, threads=threads).worst() is None, "unpack")
        seconds = time.perf_counter() - began
        names = sorted(path.name for path in source.iterdir())
        _insist(names == sorted(path.name for path in restored.iterdir()), "names")
        _insist(all((source / n).read_bytes() == (restored / n).read_bytes() for n in names), "bytes")
        tell("zip and xz on the same files, for comparison")
        rows = [
            DemoRow("gpushrink", report.archive_bytes, report.seconds + report.verify_seconds, seconds),
            _time_zip(source),
            _time_xz(source),
        ]
    return DemoReport(len(names), size, tuple(rows))


def _insist(holds: bool, what: str) -> None:
    if not holds:
        raise VerifyError(f"the demo's {what} check failed; this is a bug, please report it")


def _time_zip(source: Path) -> DemoRow:
    out, began = io.BytesIO(), time.perf_counter()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(source.iterdir()):
            bundle.write(path, path.name)
    packed = time.perf_counter()
    with zipfile.ZipFile(out) as bundle:
        for name in bundle.namelist():
            bundle.read(name)
    return DemoRow("zip", out.tell(), packed - began, time.perf_counter() - packed)


def _time_xz(source: Path) -> DemoRow:
    plain, began = io.BytesIO(), time.perf_counter()
    with tarfile.open(fileobj=plain, mode="w") as bundle:
        bundle.add(source, source.name)
    out = lzma.compress(plain.getvalue(), preset=6)
    packed = time.perf_counter()
    lzma.decompress(out)
    return DemoRow("tar + xz -6", len(out), packed - began, time.perf_counter() - packed)
