#!/usr/bin/env python3
"""Measure the peak memory of pack and unpack, by file and by pipe, on many small files and on one large one.

usage: memory.py many|large [--files N] [--gigabytes G] [--threads N] [--level L] [--folder DIR]

Prints one JSON line per step: what, seconds, peak resident MB of that process. Exits 1 if a step takes over 1 GB or a
byte differs. Everything is written below DIR (default: a temporary folder) and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT_MB = 1000

# Runs one verb in a process of its own and tells its peak on standard error.
_CHILD = """
import json, resource, sys, time
from gpushrink.pipeline import api
verb, one, two, threads, level = sys.argv[1:6]
began = time.perf_counter()
if verb == "pack":
    api.pack(one, two, threads=int(threads), level=level)
else:
    error = api.unpack(one, two, threads=int(threads)).worst()
    if error is not None:
        raise error
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(json.dumps({"seconds": round(time.perf_counter() - began, 1), "peak_mb": round(peak)}), file=sys.stderr)
"""


def main() -> int:
    """Parse, make the data, run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("many", "large"))
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--level", default="default")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpushrink-memory-", dir=options.folder) as temporary:
        base = Path(temporary)
        (base / "source").mkdir()
        make = make_many if options.what == "many" else make_large
        size = make(base / "source", options.files if options.what == "many" else options.gigabytes)
        print(json.dumps({"step": "source", "what": options.what, "mb": round(size / 1e6)}), flush=True)
        return max(by_file(base, options), by_pipe(base, options))


def make_many(folder: Path, files: int) -> int:
    """Write many single-frame files of 64 x 64 samples in series of 500."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    rng, size = np.random.default_rng(1), 0
    image = np.cumsum(rng.integers(-9, 10, (64, 64)), axis=1).astype("<i2")
    for k in range(files):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"2.25.1.{k}"
        data.SOPClassUID, data.Modality, data.SeriesInstanceUID = CTImageStorage, "CT", f"2.25.{k // 500}"
        data.InstanceNumber, data.PatientName = str(k % 500), "Phantom^Many"
        data.ImagePositionPatient = ["0", "0", str(k % 500)]
        data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        data.Rows = data.Columns = 64
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.PixelData = (image + rng.integers(-5, 6, image.shape)).astype("<i2").tobytes()
        path = folder / f"{k // 500:03d}" / f"IM{k % 500:04d}.dcm"
        path.parent.mkdir(exist_ok=True)
        data.save_as(path, enforce_file_format=True)
        size += path.stat().st_size
    return size


def make_large(folder: Path, gigabytes: float) -> int:
    """Write one multi-frame file of 512 x 512 frames of 16 bits, frame by frame."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

    from gpushrink.dicom.synthetic import make_volume

    volume = make_volume(12, 512, 512)
    frames = int(gigabytes * 1e9) // volume[0].nbytes
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "2.25.3"
    data.SeriesInstanceUID, data.Modality, data.NumberOfFrames = "2.25.4", "OT", frames
    data.Rows = data.Columns = 512
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = b""
    path = folder / "large.dcm"
    data.save_as(path, enforce_file_format=True)
    rng = np.random.default_rng(2)
    with path.open("r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write((frames * volume[0].nbytes).to_bytes(4, "little"))
        for k in range(frames):
            noise = rng.integers(-2, 3, volume[0].shape, dtype=np.int16)
            stream.write((volume[k % len(volume)] + noise).astype("<i2").tobytes())
    return path.stat().st_size


def by_file(base: Path, options: argparse.Namespace) -> int:
    """Pack to a file and unpack it, one process each."""
    archive, bad = base / "a.gsz", 0
    for verb, one, two in (("pack", base / "source", archive), ("unpack", archive, base / "by-file")):
        ran = subprocess.run(_line(verb, one, two, options), stderr=subprocess.PIPE, text=True, check=False)
        bad |= _tell(f"{verb} by file", ran.returncode, ran.stderr, archive)
    return bad | _compare(base / "source", base / "by-file") | _clear(archive, base / "by-file")


def by_pipe(base: Path, options: argparse.Namespace) -> int:
    """Pack into a pipe that unpack reads, at the same time."""
    with tempfile.TemporaryFile("w+") as pack_says:
        line = _line("pack", base / "source", "-", options)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=pack_says) as pack:
            line = _line("unpack", "-", base / "by-pipe", options)
            unpack = subprocess.run(line, stdin=pack.stdout, stderr=subprocess.PIPE, text=True, check=False)
            if pack.stdout is not None:
                pack.stdout.close()
        pack_says.seek(0)
        bad = _tell("pack by pipe", pack.returncode, pack_says.read(), None)
    bad |= _tell("unpack by pipe", unpack.returncode, unpack.stderr, None)
    return bad | _compare(base / "source", base / "by-pipe")


def _line(verb: str, one: object, two: object, options: argparse.Namespace) -> list[str]:
    return [sys.executable, "-c", _CHILD, verb, str(one), str(two), str(options.threads), options.level]


def _tell(step: str, code: int, said: str, archive: Path | None) -> int:
    if code:
        print(json.dumps({"step": step, "exit": code, "said": said[-2000:]}), flush=True)
        return 1
    figures = json.loads(said.strip().splitlines()[-1])
    row = {"step": step, **figures}
    if archive is not None:
        row["archive_mb"] = round(archive.stat().st_size / 1e6)
    print(json.dumps(row), flush=True)
    return int(figures["peak_mb"] > LIMIT_MB)


def _compare(left: Path, right: Path) -> int:
    began = time.perf_counter()
    same = subprocess.run(["diff", "-rq", left, right], check=False).returncode == 0
    print(json.dumps({"step": "compare", "same": same, "seconds": round(time.perf_counter() - began, 1)}), flush=True)
    return int(not same)


def _clear(archive: Path, restored: Path) -> int:
    archive.unlink(missing_ok=True)
    for path in restored.rglob("*"):
        if path.is_file():
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
