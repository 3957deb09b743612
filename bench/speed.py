"""How fast: pack and unpack beside image codecs and archivers, on the same series, threads and minutes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from corpus import Series, StudySet, load_series
from gpushrink.codec.slab import encode_slab, slab_ranges
from gpushrink.codec.table import decode_block
from gpushrink.model import BlockCodec, SampleFormat, SlabShape
from gpushrink.pipeline.api import pack, unpack
from peers import IMAGE_CODECS, ImageCodec, archivers, tar_bytes
from results import Points, print_table

__all__ = ["measure_speed"]

Kept = list[tuple[BlockCodec, bytes]]

# What takes longer than this is run once: its own noise is small beside its length.
_LONG_SECONDS = 12.0
_PEER = "JPEG XL e7 encode"


@dataclass
class _Method:
    """Hold one thing to time.

    Parameters
    ----------
    run
        Does it over all sets and returns the coded bytes.
    input_bytes
        What it takes in: pixel data for image codecs, whole files for the others.
    """

    label: str
    input_bytes: int
    run: Callable[[], int]
    warm: bool = False
    coded: int = 0
    seconds: list[float] = field(default_factory=list)

    def time_once(self) -> None:
        began = time.perf_counter()
        self.coded = self.run()
        self.seconds.append(time.perf_counter() - began)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def row(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "input_bytes": self.input_bytes,
            "coded_bytes": self.coded,
            "runs": len(self.seconds),
            "seconds_median": round(self.median, 4),
            "seconds_least": round(min(self.seconds), 4),
            "seconds_most": round(max(self.seconds), 4),
            "mb_per_s": round(self.input_bytes / self.median / 1e6, 3),
            "ratio": round(self.input_bytes / self.coded, 4),
        }


def measure_speed(
    sets: Sequence[StudySet], levels: Sequence[str], threads: int, runs: int
) -> tuple[dict[str, Any], Points]:
    """Time everything `runs` times in turn and print the medians.

    In turn, so that what else the machine does meets all alike.

    Returns
    -------
    tuple
        Rows for the results file; points of the ways there for the plot.
    """
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(threads) as pool:
        series = [one for study in sets for one in load_series(study, least_slices=1)]
        pixels = [*_slab_methods(series, levels, pool), *_image_methods(series, pool)]
        files = [*_pack_methods(sets, levels, threads, Path(name)), *_archive_methods(sets, threads)]
        methods = [*files, *pixels]
        for method in methods:
            if method.warm:
                method.run()
        for turn in range(runs):
            for method in methods:
                if not turn or method.seconds[0] < _LONG_SECONDS:
                    method.time_once()
            print(f"turn {turn + 1} of {runs} done", flush=True)
    _print(methods, threads)
    rows = [method.row() for method in methods]
    for row in rows:
        if (peer := next((one for one in rows if one["label"] == _PEER), None)) is not None:
            row["times_as_fast_as_jxl7_encode"] = round(peer["seconds_median"] / row["seconds_median"], 3)
    ways_there = [row for row in rows if not any(word in row["label"] for word in ("unpack", "decode", "verified"))]
    points: Points = {"whole files": [], "pixel data alone": []}
    for row in ways_there:
        panel = "pixel data alone" if row["label"].endswith("encode") else "whole files"
        label = row["label"].removesuffix(" encode").removesuffix(" pack").removesuffix(" slabs,")
        points[panel].append((label, row["mb_per_s"], row["ratio"]))
    return {"sets": [one.name for one in sets], "threads": threads, "methods": rows}, points


def _pack_methods(sets: Sequence[StudySet], levels: Sequence[str], threads: int, folder: Path) -> list[_Method]:
    size = sum(path.stat().st_size for study in sets for path in study.files())

    def pack_all(level: str, *, verify: bool) -> int:
        total = 0
        for study in sets:
            target = folder / f"{study.name}.{level}"
            report = pack(study.sources(), target, level=level, threads=threads, verify=verify, force=True)
            total += report.archive_bytes
        return total

    def unpack_all(level: str) -> int:
        total = 0
        for study in sets:
            archive = folder / f"{study.name}.{level}"
            target = folder / "restored"
            unpack(archive, target, threads=threads)
            shutil.rmtree(target)
            total += archive.stat().st_size
        return total

    methods = []
    for level in levels:
        methods += [
            _Method(f"gpushrink {level} pack", size, partial(pack_all, level, verify=False), warm=True),
            _Method(f"gpushrink {level} pack, verified", size, partial(pack_all, level, verify=True)),
            _Method(f"gpushrink {level} unpack", size, partial(unpack_all, level), warm=True),
        ]
    return methods


def _encode_slab(level: str, slab: tuple[bytes, SlabShape, SampleFormat]) -> tuple[BlockCodec, bytes]:
    """Encode a slab to one run of bytes, as image codecs do."""
    codec, parts = encode_slab(*slab, level=level)
    return codec, b"".join(parts)


def _slab_methods(series: Sequence[Series], levels: Sequence[str], pool: ThreadPoolExecutor) -> list[_Method]:
    """Return the coding of slabs alone: what there is to compare with image codecs."""
    slabs = [
        (
            b"".join(one.frames[start:stop]),
            SlabShape(stop - start, one.volume.rows, one.volume.columns),
            one.volume.sample,
        )
        for one in series
        for start, stop in slab_ranges(len(one.frames), one.volume.frame_bytes)
    ]
    size = sum(one.size_bytes for one in series)

    def encode(level: str, kept: Kept) -> int:
        kept[:] = pool.map(partial(_encode_slab, level), slabs)
        return sum(len(coded) for _, coded in kept)

    def decode(kept: Kept) -> int:
        pairs = zip(kept, slabs, strict=True)
        decoded = list(pool.map(lambda pair: decode_block(pair[0][0], memoryview(pair[0][1]), len(pair[1][0])), pairs))
        assert bytes(decoded[-1]) == slabs[-1][0]
        return sum(len(coded) for _, coded in kept)

    methods = []
    for level in levels:
        kept: Kept = []
        methods.append(_Method(f"gpushrink {level} slabs, encode", size, partial(encode, level, kept)))
        methods.append(_Method(f"gpushrink {level} slabs, decode", size, partial(decode, kept)))
    return methods


def _image_methods(series: Sequence[Series], pool: ThreadPoolExecutor) -> list[_Method]:
    images = [image for one in series for image in one.images()]
    size = sum(image.nbytes for image in images)

    def encode(codec: ImageCodec, kept: list[bytes]) -> int:
        kept[:] = pool.map(codec.encode, images)
        return sum(map(len, kept))

    def decode(codec: ImageCodec, kept: list[bytes]) -> int:
        decoded = list(pool.map(codec.decode, kept))
        assert np.array_equal(decoded[-1], images[-1])
        return sum(map(len, kept))

    methods = []
    for codec in IMAGE_CODECS.values():
        if codec.slow:
            continue
        kept: list[bytes] = []

        methods.append(_Method(f"{codec.label} encode", size, partial(encode, codec, kept)))
        methods.append(_Method(f"{codec.label} decode", size, partial(decode, codec, kept)))
    return methods


def _archive_methods(sets: Sequence[StudySet], threads: int) -> list[_Method]:
    held = [(study.files(), study.folder) for study in sets]
    tars = [tar_bytes(files, root) for files, root in held]
    size = sum(path.stat().st_size for files, _ in held for path in files)

    def run(archive: Callable[[Sequence[Path], Path, bytes], int]) -> int:
        return sum(archive(files, root, tar) for (files, root), tar in zip(held, tars, strict=True))

    return [_Method(name, size, partial(run, archive)) for name, archive in archivers(threads).items()]


def _print(methods: Sequence[_Method], threads: int) -> None:
    peer = next((one for one in methods if one.label == _PEER), None)
    table = [
        [
            one.label,
            one.input_bytes / one.median / 1e6,
            one.input_bytes / one.coded,
            peer.median / one.median if peer else "-",
            one.median,
            f"{min(one.seconds):.2f}-{max(one.seconds):.2f}",
            len(one.seconds),
        ]
        for one in methods
    ]
    head = ["method", "MB/s", "ratio", "x jxl7 encode", "median s", "spread s", "n"]
    print_table(
        f"Speed, {threads} threads (zip, xz, 7z: one); medians over n turns in which each ran once", head, table
    )
