"""How small: bits per sample of each series, and whole studies against archivers and gdcmconv."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from corpus import LEAST_SLICES, Series, StudySet, load_series
from gpushrink.codec.slab import encode_slab, slab_ranges
from gpushrink.codec.table import decode_block
from gpushrink.model import SlabShape
from gpushrink.pipeline.api import pack
from peers import IMAGE_CODECS, ImageCodec, archivers, gdcmconv_bytes, tar_bytes
from results import geometric_mean, print_table

__all__ = ["measure_ratio", "series_bytes"]

# How much of a series a slow codec sees: a few slices, spread over it; more of them where they are small.
_SLOW_BYTES = 4 * 2 * 512 * 512
_PEER = "jxl7"
_STUDY_PEERS = ("gdcmconv --jpegls", "gdcmconv --j2k", "7z PPMd", "tar.xz -6")


def measure_ratio(
    sets: Sequence[StudySet], levels: Sequence[str], threads: int, keep: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Measure and print the sizes of series and of whole studies.

    Parameters
    ----------
    keep
        Takes what there is after each set: the whole lasts minutes, and what is measured stays so.

    Returns
    -------
    dict
        "series", "studies" and "summary": rows for the results file.
    """
    began = time.perf_counter()
    series_rows: list[dict[str, Any]] = []
    study_rows: list[dict[str, Any]] = []
    section = {"levels": list(levels), "slow_bytes": _SLOW_BYTES, "series": series_rows, "studies": study_rows}
    for study in sets:
        for series in load_series(study):
            series_rows.append(_measure_series(series, levels, threads))
            _tell(began, series.name)
        study_rows.append(_measure_study(study, levels, threads))
        _tell(began, f"{study.name} as a whole")
        keep(section)
    _print_series(series_rows, levels)
    _print_studies(study_rows, levels)
    return section | _judge(series_rows, study_rows, levels)


def series_bytes(series: Series, level: str, pool: ThreadPoolExecutor) -> int:
    """Return the bytes of a series' slabs as pack codes them, parameters counted; each is decoded and compared.

    Raises
    ------
    AssertionError
        If a slab does not come back.
    """
    volume = series.volume

    def code(span: tuple[int, int]) -> int:
        data = b"".join(series.frames[span[0] : span[1]])
        shape = SlabShape(span[1] - span[0], volume.rows, volume.columns)
        codec, coded = encode_slab(data, shape, volume.sample, level=level)
        assert bytes(decode_block(codec, memoryview(coded), len(data))) == data, f"{series.name}: not lossless"
        return len(coded)

    return sum(pool.map(code, slab_ranges(len(series.frames), volume.frame_bytes)))


def _measure_series(series: Series, levels: Sequence[str], threads: int) -> dict[str, Any]:
    images = series.images()
    few = images[:: max(1, -(-series.size_bytes // _SLOW_BYTES))]
    sizes: dict[str, int] = {}
    with ThreadPoolExecutor(threads) as pool:
        for level in levels:
            sizes[level] = series_bytes(series, level, pool)
        for codec in IMAGE_CODECS.values():
            if not codec.slow:
                sizes[codec.key] = _image_bytes(codec, images, pool)
        bits = {key: 8 * size / series.samples for key, size in sizes.items()}
        for codec in IMAGE_CODECS.values():
            if codec.slow:  # a sample of slices, scaled by what JPEG XL e7 takes for all and for the same sample
                scale = sizes[_PEER] / _image_bytes(IMAGE_CODECS[_PEER], few, pool)
                bits[codec.key] = 8 * _image_bytes(codec, few, pool) * scale / series.samples
    return {
        "name": series.name,
        "modality": series.modality,
        "slices": len(images),
        "rows": series.volume.rows,
        "columns": series.volume.columns,
        "pixel_bytes": series.size_bytes,
        "bytes": sizes,
        "bits_per_sample": {key: round(value, 4) for key, value in bits.items()},
    }


def _image_bytes(codec: ImageCodec, images: Sequence[Any], pool: ThreadPoolExecutor) -> int:
    def code(image: Any) -> int:
        coded = codec.encode(image)
        assert np.array_equal(codec.decode(coded), image), f"{codec.label} is not lossless"
        return len(coded)

    return sum(pool.map(code, images))


def _measure_study(study: StudySet, levels: Sequence[str], threads: int) -> dict[str, Any]:
    files = study.files()
    source = sum(path.stat().st_size for path in files)
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for level in levels:
            report = pack(study.sources(), Path(folder) / f"{level}.gpsk", level=level, threads=threads)
            sizes[level] = report.archive_bytes
    tar = tar_bytes(files, study.folder)
    for name, archive in archivers(threads).items():
        sizes[name] = archive(files, study.folder, tar)
    unconverted = {}
    for option in ("--jpegls", "--j2k"):
        if (result := gdcmconv_bytes(files, option, threads)) is not None:
            sizes[f"gdcmconv {option}"], unconverted[f"gdcmconv {option}"] = result
    return {
        "name": study.name,
        "kind": study.kind,
        "files": len(files),
        "source_bytes": source,
        "bytes": sizes,
        "unconverted_files": unconverted,
        "ratio": {key: round(source / size, 4) for key, size in sizes.items()},
    }


def _tell(began: float, what: str) -> None:
    print(f"[{time.perf_counter() - began:6.1f} s] {what}", flush=True)


def _print_series(rows: Sequence[dict[str, Any]], levels: Sequence[str]) -> None:
    keys = [*levels, *(key for key in IMAGE_CODECS)]
    against = [level for level in levels if _PEER in IMAGE_CODECS]
    table = []
    for row in rows:
        bits = row["bits_per_sample"]
        change = [f"{100 * (bits[level] / bits[_PEER] - 1):+.1f} %" for level in against]
        table.append([row["name"], row["slices"], *(bits[key] for key in keys), *change])
    if rows and against:
        means = {
            key: geometric_mean(r["bits_per_sample"][key] / r["bits_per_sample"][_PEER] for r in rows) for key in keys
        }
        change = [f"{100 * (means[level] - 1):+.1f} %" for level in against]
        table.append(["geometric mean against jxl7", "", *(means[key] for key in keys), *change])
    head = ["series", "slices", *keys, *(f"{level}/jxl7" for level in against)]
    print_table(f"Bits per sample, series of {LEAST_SLICES} slices or more; lower is better", head, table)
    if "jxl9" in IMAGE_CODECS:
        print(f"jxl9: about {_SLOW_BYTES >> 20} MiB of each series' slices, scaled by jxl7 on the same slices.")


def _print_studies(rows: Sequence[dict[str, Any]], levels: Sequence[str]) -> None:
    if not rows:
        return
    keys = list(rows[0]["ratio"])
    table = [[row["name"], row["source_bytes"], *(row["ratio"][key] for key in keys)] for row in rows]
    means = [geometric_mean(row["ratio"][key] for row in rows) for key in keys]
    table.append(["geometric mean", "", *means])
    print_table(
        "Whole studies, all bytes: source bytes : archive bytes; higher is better", ["set", "bytes", *keys], table
    )
    for row in rows:
        for key, count in row["unconverted_files"].items():
            if count:
                print(f"{row['name']}: {key} left {count} of {row['files']} files as they were; they count so.")


def _judge(
    series_rows: Sequence[dict[str, Any]], study_rows: Sequence[dict[str, Any]], levels: Sequence[str]
) -> dict[str, Any]:
    """Print and return the summary figures."""
    bars: dict[str, Any] = {}
    if _PEER in IMAGE_CODECS and series_rows:
        for level in levels:
            bits = [row["bits_per_sample"] for row in series_rows]
            bars[level] = {
                "mean_against_jxl7": round(geometric_mean(one[level] / one["jxl7"] for one in bits), 4),
                "not_below_jxl7": [r["name"] for r in series_rows if r["bytes"][level] >= r["bytes"]["jxl7"]],
                "not_below_jpegls": [r["name"] for r in series_rows if r["bytes"][level] >= r["bytes"]["jpegls"]],
            }
    for level in levels:
        gains = {
            row["name"]: round(row["ratio"][level] / best, 4)
            for row in study_rows
            if (best := max((row["ratio"][key] for key in _STUDY_PEERS if key in row["ratio"]), default=0))
        }
        if gains:
            bars.setdefault(level, {})["study_gain"] = gains
            bars[level]["study_gain_mean"] = round(geometric_mean(gains.values()), 4)
    print("\nSummary")
    for level, bar in bars.items():
        if "mean_against_jxl7" in bar:
            print(f"{level}: {100 * (bar['mean_against_jxl7'] - 1):+.2f} % against JPEG XL e7 (geometric mean)")
            print(f"  not below JPEG XL e7: {', '.join(bar['not_below_jxl7']) or 'none'}")
            print(f"  not below JPEG-LS: {', '.join(bar['not_below_jpegls']) or 'none'}")
        if "study_gain" in bar:
            least = min(bar["study_gain"], key=bar["study_gain"].get)
            print(
                f"{level}: whole studies {bar['study_gain_mean']:.3f} times the best of {', '.join(_STUDY_PEERS)} "
                f"(geometric mean); least {bar['study_gain'][least]:.3f} ({least})"
            )
    return {"summary": bars}
