"""A slab of planes to bytes and back: the two stories of the volume codec.

Source: docs/format-volume.md.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts, size_of
from gpushrink.codec.compiling import Purpose, prepare
from gpushrink.codec.entropy import decode_segments, encode_parts
from gpushrink.codec.parallel import Threads, run_over
from gpushrink.codec.volume import fit_sums
from gpushrink.codec.volume import reference as reference_engine
from gpushrink.codec.volume.geometry import TOP, Layout, References, fill_edges, resolve_references
from gpushrink.codec.volume.levels import LEVELS
from gpushrink.codec.volume.modelling import Binder, PlaneRun, begin_model, fit_model
from gpushrink.codec.volume.parameters import Model
from gpushrink.codec.volume.payload import MOST_AREA, MOST_PLANES, join_payload, split_payload
from gpushrink.codec.volume.wavefront import decode_planes
from gpushrink.errors import CorruptError

__all__ = [
    "CHAIN",
    "EngineName",
    "Engines",
    "decode_slab",
    "encode_slab",
    "encode_slab_parts",
    "load_sums",
    "name_engine",
]

EngineName = Literal["auto", "numpy", "numba"]

# Threads within a slab wait for each other: small slabs are faster without.
_SHARED_SAMPLES: Final = 1 << 19
# Each plane refers to the one before and the one before that.
CHAIN: Final[References] = ((1, 2),)


def name_engine(engine: EngineName) -> str:
    """Return the engine that a request means on this machine: numba where it can be had."""
    if engine != "auto":
        return engine
    try:
        importlib.import_module("numba")
    except ImportError:
        return "numpy"
    return "numba"


class Engines(NamedTuple):
    """Say who does what: predicts, orders and decodes; adds up for the fit; codes streams."""

    kernels: ModuleType
    sums: ModuleType
    entropy: EngineName


def _load_engines(engine: EngineName | Engines, purpose: Purpose) -> Engines:
    # Imported when first needed: numba takes longer to import than the command line may.
    if not isinstance(engine, str):
        return engine
    if name_engine(engine) != "numba":
        return Engines(reference_engine, fit_sums, "numpy")
    prepare(purpose)
    return Engines(importlib.import_module("gpushrink.codec.volume.numba_engine"), load_sums("numba"), "numba")


def load_sums(engine: EngineName) -> ModuleType:
    """Return what looks up and adds up for a fit: `fit_sums` or its compiled twin."""
    if name_engine(engine) == "numba":
        return importlib.import_module("gpushrink.codec.volume.numba_fit")
    return fit_sums


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or min(shape) < 1 or shape[1] * shape[2] > MOST_AREA or shape[0] > MOST_PLANES:
        raise ValueError(
            f"a slab has three axes of at least 1, {MOST_PLANES} planes of {MOST_AREA} samples at most: {shape}"
        )


def encode_slab(
    samples: NDArray[Any],
    *,
    level: str = "default",
    engine: EngineName | Engines = "auto",
    threads: Threads = 1,
    references: References = CHAIN,
) -> bytes:
    """Encode a slab of planes.

    Parameters
    ----------
    samples
        Shape (slice, row, column), uint8, int8, uint16 or int16.
    level
        "fast", "default" or "max".
    engine
        Both engines write the same bytes.
    threads
        How many work on this slab; never changes its bytes.
    references
        For plane z, `references[z % len(references)]` holds the distances back to its two reference
        planes; a distance of 0 or one that leaves the slab means none.

    Raises
    ------
    ValueError
        If the shape or dtype is not one a slab can have.
    """
    return b"".join(encode_slab_parts(samples, level=level, engine=engine, threads=threads, references=references))


def encode_slab_parts(
    samples: NDArray[Any],
    *,
    level: str = "default",
    engine: EngineName | Engines = "auto",
    threads: Threads = 1,
    references: References = CHAIN,
) -> Parts:
    """Give what `encode_slab` gives, in parts."""
    _check_shape(samples.shape)
    workers = threads if samples.size >= _SHARED_SAMPLES else 1
    if samples.dtype.kind not in "iu" or samples.dtype.itemsize > 2:
        raise ValueError(f"the volume codec takes 8 and 16 bit integers, not {samples.dtype}")
    steer = LEVELS[level]
    engines = _load_engines(engine, "encode")
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    # The wavefront is shortest, and its layout smallest, where rows are the shorter axis.
    volume = samples.transpose(0, 2, 1) if samples.shape[1] > samples.shape[2] else samples
    depth, rows, columns = volume.shape
    least, most = int(samples.min()), int(samples.max())
    layout = Layout.raster(rows, columns)
    pitch = layout.row_step
    planes = np.empty((depth, rows + 2 * TOP, pitch), np.uint16)
    inner = planes[:, TOP : TOP + rows, 3 : 3 + columns]
    step = max(1, _SHARED_SAMPLES // (rows * columns))
    parts = [slice(z, z + step) for z in range(0, depth, step)]
    run_over(lambda part: _subtract(volume[part], least, inner[part]), parts, threads=workers)
    start = int(np.sort(inner[0, 0])[columns // 2])
    pattern = tuple((int(a), int(b)) for a, b in references)
    resolved = [resolve_references(z, pattern) for z in range(depth)]
    fill_edges(planes, resolved, start)
    best: Parts = ()
    for way in (steer, *steer.rivals):
        model = begin_model(way, planes.size, least=least, span=most - least, start=start, references=pattern)
        residuals = np.zeros((model.stage_count, *planes.shape), np.int16)
        fit_model(model, way, engines.kernels, engines.sums, planes, residuals, resolved, layout, workers)
        found = _write(model, engines, planes, residuals, resolved, layout, workers)
        del residuals  # before the next way needs as much again
        if not best or size_of(found) < size_of(best):
            best = found
    return best


def _subtract(volume: NDArray[Any], least: int, out: NDArray[np.uint16]) -> None:
    """Take the least value from all."""
    if volume.dtype.itemsize == 2:
        # In 16 bits, where what is carried out of them comes back: numpy need not convert.
        np.subtract(volume.view(np.uint16), np.uint16(least & 0xFFFF), out=out)
    else:
        np.subtract(volume, least, out=out, dtype=np.int32, casting="unsafe")


def _write(
    model: Model, engines: Engines, planes: NDArray[np.uint16], residuals: NDArray[np.int16],
    resolved: list[tuple[int, int] | None], layout: Layout, threads: Threads,
) -> Parts:  # fmt: skip
    flat, echoes, stage_size = planes.ravel(), residuals.reshape(-1), planes.size
    depth, area = len(resolved), layout.rows * layout.columns
    counts = np.zeros((depth, model.context_count), np.int64)
    # Residuals of earlier stages have done their work: their memory takes the planes' values.
    room = echoes if model.stage_count > 1 else np.empty(depth * area, np.int16)
    by_plane = room[: depth * area].view(np.uint16).reshape(depth, area)

    def bucket(run: PlaneRun) -> None:
        engines.kernels.bucket_planes(
            flat, echoes, run.first * layout.size + layout.origin, layout, stage_size, run.bound, model.levels,
            model.coarse, counts[run.first : run.stop], by_plane[run.first : run.stop],
        )  # fmt: skip

    run_over(bucket, Binder(model, layout, stage_size).runs(resolved), threads=threads)
    lengths = counts.sum(axis=0)
    main_tokens, main_raw = engines.kernels.split(by_plane, counts, threads=threads)
    main_coded = encode_parts(main_tokens, lengths, engine=engines.entropy, threads=threads)
    return join_payload(model, counts, main_coded, main_raw, engine=engines.entropy)


def decode_slab(
    payload: Buffer,
    *,
    shape: tuple[int, int, int],
    dtype: Any,
    engine: EngineName | Engines = "auto",
    threads: Threads = 1,
) -> NDArray[Any]:
    """Give back the slab that `encode_slab` encoded.

    Parameters
    ----------
    threads
        How many work on this slab.

    Returns
    -------
    ndarray
        Of this shape and dtype, new memory.

    Raises
    ------
    CorruptError
        If the payload is not one that `encode_slab` can have written for this shape and dtype.
    ValueError
        If the shape or dtype is not one a slab can have.
    """
    _check_shape(shape)
    kind = np.dtype(dtype)
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise ValueError(f"the volume codec gives 8 and 16 bit integers, not {kind}")
    engines = _load_engines(engine, "decode")
    flipped = shape[1] > shape[2]
    depth, rows, columns = (shape[0], shape[2], shape[1]) if flipped else shape
    model, counts, values = _read(payload, depth, rows * columns, engines, threads)
    limits = np.iinfo(kind)
    if model.least < limits.min or model.least + model.span > limits.max:
        raise CorruptError("a volume slab holds values outside its sample type; the archive is damaged")
    resolved = [resolve_references(z, model.references) for z in range(depth)]
    if any((pair is not None) not in model.plane_models for pair in resolved):
        raise CorruptError("a volume slab lacks the model of some planes; the archive is damaged")
    layout = Layout.wavefront(rows, columns)
    result = np.empty((depth, rows, columns), kind.newbyteorder("="))
    decode_planes(model, engines.kernels, layout, resolved, counts, values, result, threads=threads)
    found = np.ascontiguousarray(result.transpose(0, 2, 1)) if flipped else result
    return found.astype(kind, copy=False)


def _read(
    payload: Buffer, depth: int, area: int, engines: Engines, threads: Threads
) -> tuple[Model, NDArray[np.int64], NDArray[np.uint16]]:
    """Read and check all parts of a payload."""
    model, counts, main_coded, main_raw = split_payload(payload, depth, area, engine=engines.entropy)
    main_tokens = decode_segments(main_coded, counts.sum(axis=0), engine=engines.entropy, threads=threads)
    return model, counts, engines.kernels.join(main_tokens, main_raw, threads=threads)
