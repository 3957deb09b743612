"""Exact sizes, committed: a change of one byte shows in the diff of sizes.csv."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus import StudySet
from gpushrink.codec.buffers import size_of
from gpushrink.codec.slab import encode_slab
from gpushrink.model import SampleFormat, SlabShape
from gpushrink.pipeline.api import pack

__all__ = ["GENERATED", "LEVELS", "SIZES", "check_sizes", "generated_volume", "measure_sizes", "write_sizes"]

SIZES = Path(__file__).with_name("sizes.csv")
LEVELS = ("fast", "default")
GENERATED = "generated"
_HEAD = ("set", "level", "bytes")
Sizes = dict[tuple[str, str], int]


def generated_volume(slices: int = 24, rows: int = 192, columns: int = 160) -> NDArray[np.int16]:
    """Return a volume [slice, row, column] that is the same on every machine: integers only, no generator of numpy's.

    Smooth ellipsoids with steps between them, noise from a 32-bit mixing function averaged over neighbours in the
    plane (as a reconstruction kernel correlates it), and padding in the corners.
    """
    z, y, x = (axis.astype(np.int64) for axis in np.indices((slices, rows, columns)))
    v, u = 2 * y - rows + 1, 2 * x - columns + 1
    body = (u * u * 1000) // (columns * columns) + (v * v * 1300) // (rows * rows)
    core = ((u - 3 * z) ** 2 * 9000) // (columns * columns) + ((v + 2 * z) ** 2 * 6000) // (rows * rows)
    signal = np.where(body < 800, 1060 - body // 8, 40) + np.where(core < 900, 180 - core // 6, 0)
    word = ((z * rows + y) * columns + x + 1) * 0x9E3779B1 & 0xFFFFFFFF
    for shift, factor in ((15, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = ((word ^ (word >> shift)) * factor) & 0xFFFFFFFF
    word ^= word >> 16
    noise = (word & 63) + (word >> 8 & 63) - 63
    noise = (2 * noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 1)) >> 2
    signal = signal + noise
    signal[body > 1250] = -2000
    return signal.astype(np.int16)


def measure_sizes(sets: Sequence[StudySet], threads: int) -> Sizes:
    """Return the bytes of the generated volume's slab and of each set's data blocks, by level.

    Index and tree are left out: they hold modification times and modes, which the machine makes.
    """
    out: Sizes = {}
    volume = generated_volume()
    data = volume.astype("<i2").tobytes()
    with ThreadPoolExecutor(threads) as pool, tempfile.TemporaryDirectory() as folder:
        shape, sample = SlabShape(*volume.shape), SampleFormat(2, signed=True)
        coded = pool.map(lambda level: size_of(encode_slab(data, shape, sample, level=level)[1]), LEVELS)
        out |= {(GENERATED, level): size for level, size in zip(LEVELS, coded, strict=True)}
        for study in sets:
            for level in LEVELS:
                archive = Path(folder) / "archive"
                report = pack(study.sources(), archive, level=level, threads=threads, verify=False, force=True)
                out[study.name, level] = sum(sizes.stored for sizes in report.roles.values())
    return out


def write_sizes(sizes: Sizes, path: Path = SIZES) -> None:
    """Write the table, keeping the rows of sets that were not measured now."""
    rows = (_read(path) if path.exists() else {}) | sizes
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_HEAD)
        writer.writerows((*key, size) for key, size in sorted(rows.items()))


def check_sizes(sizes: Sizes, *, tolerance: float = 0.0, path: Path = SIZES) -> list[str]:
    """Compare with the committed table.

    Parameters
    ----------
    tolerance
        Relative difference that is let pass. The fit of the parameters is floating point: another processor or
        build of LAPACK may round a coefficient the other way and move a size by some bytes.

    Returns
    -------
    list of str
        What differs, one line each; empty when all agree.
    """
    known = _read(path)
    out = []
    for (name, level), size in sorted(sizes.items()):
        was = known.get((name, level))
        if was is None:
            out.append(f"{name}, {level}: {size} bytes, not in {path.name}")
        elif abs(size - was) > tolerance * was:
            out.append(f"{name}, {level}: {size} bytes, was {was} ({100 * (size / was - 1):+.3f} %)")
    return out


def _read(path: Path) -> Sizes:
    with path.open(newline="", encoding="utf-8") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    return {(row["set"], row["level"]): int(row["bytes"]) for row in rows}
