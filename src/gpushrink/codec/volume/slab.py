"""A slab of planes to bytes and back: the two stories of the volume codec.

Source: docs/format-volume.md.
"""

from __future__ import annotations

import importlib
import struct
from itertools import pairwise
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.entropy.engine import Engine
from gpushrink.codec.volume import fit, tokens
from gpushrink.codec.volume import reference as reference_engine
from gpushrink.codec.volume.geometry import TOP, Layout, References, fill_edges, resolve_references
from gpushrink.codec.volume.levels import LEVELS, Level
from gpushrink.codec.volume.parameters import Model, PlaneModel
from gpushrink.errors import CorruptError, NewerVersionError

__all__ = ["CHAIN", "begin_model", "decode_slab", "encode_slab", "join_payload", "name_engine", "split_payload"]

EngineName = Literal["auto", "numpy", "numba"]

# Version, then the counts of head numbers and coefficients, then the lengths of: entropy-coded
# side tokens, side raw bits, entropy-coded tokens. The tokens' raw bits take the rest.
_HEADER: Final = struct.Struct("<BIIIII")
_VERSION: Final = 1
_MOST_AREA: Final = 1 << 28
# Below this many samples coefficients are stored one bit more coarsely.
_SMALL_SLAB: Final = 1 << 20
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


def _load_engine(engine: EngineName) -> ModuleType:
    # Imported when first needed: numba takes longer to import than the command line may.
    if name_engine(engine) == "numba":
        return importlib.import_module("gpushrink.codec.volume.numba_engine")
    return reference_engine


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or min(shape) < 1 or shape[1] * shape[2] > _MOST_AREA:
        raise ValueError(f"a slab has three axes of at least 1 and planes of at most {_MOST_AREA} samples: {shape}")


def encode_slab(
    samples: NDArray[Any],
    *,
    level: str = "default",
    engine: EngineName = "auto",
    threads: int = 0,
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
        Kept for callers that pass it on; one slab is one thread's work.
    references
        For plane z, `references[z % len(references)]` holds the distances back to its two reference
        planes; a distance of 0 or one that leaves the slab means none.

    Raises
    ------
    ValueError
        If the shape or dtype is not one a slab can have.
    """
    del threads
    _check_shape(samples.shape)
    if samples.dtype.kind not in "iu" or samples.dtype.itemsize > 2:
        raise ValueError(f"the volume codec takes 8 and 16 bit integers, not {samples.dtype}")
    steer = LEVELS[level]
    kernels = _load_engine(engine)
    # The wavefront is shortest, and its layout smallest, where rows are the shorter axis.
    volume = samples.transpose(0, 2, 1) if samples.shape[1] > samples.shape[2] else samples
    least, most = int(samples.min()), int(samples.max())
    depth, rows, columns = volume.shape
    layout = Layout.raster(rows, columns)
    pitch = layout.row_step
    planes = np.empty((depth, rows + 2 * TOP, pitch), np.uint16)
    inner = planes[:, TOP : TOP + rows, 3 : 3 + columns]
    np.subtract(volume, least, out=inner, dtype=np.int32, casting="unsafe")
    start = int(np.sort(inner[0, 0])[columns // 2])
    pattern = tuple((int(a), int(b)) for a, b in references)
    resolved = [resolve_references(z, pattern) for z in range(depth)]
    for z, pair in enumerate(resolved):
        fill_edges(planes, z, start if pair is None else planes[pair[0], TOP])
    best: bytes | None = None
    for way in (steer, *steer.rivals):
        model = begin_model(way, planes.size, least=least, span=most - least, start=start, references=pattern)
        residuals = np.zeros((model.stage_count, *planes.shape), np.int16)
        _fit_model(model, way, kernels, planes, residuals, resolved, layout)
        found = _write(model, kernels, planes, residuals, resolved, layout, engine)
        del residuals  # before the next way needs as much again
        if best is None or len(found) < len(best):
            best = found
    assert best is not None
    return best


def begin_model(way: Level, places: int, *, least: int, span: int, start: int, references: References) -> Model:
    """Return a model of which nothing is fitted yet, for planes of so many places in all, edges included."""
    grain = way.grain + int(places < _SMALL_SLAB)
    return Model(way.tap_set, least, span, start, references, np.zeros(0, np.int32), 3, grain, {})


def _bind(model: Model, layout: Layout, z: int, pair: tuple[int, int] | None, stage_size: int) -> Any:
    first, second = (0, 0) if pair is None else ((pair[0] - z) * layout.size, (pair[1] - z) * layout.size)
    return model.bind(pair is not None, layout, first, second, stage_size)


def _fit_model(
    model: Model, steer: Level, kernels: ModuleType, planes: NDArray[np.uint16], residuals: NDArray[np.int16],
    resolved: list[tuple[int, int] | None], layout: Layout,
) -> None:  # fmt: skip
    """Fit stage after stage; leave the residuals of every stage in `residuals`."""
    flat, echoes, stage_size = planes.ravel(), residuals.reshape(-1), planes.size
    drawn = {}
    classes = {}
    for kind in (False, True):
        members = [(z, *(pair or (z, z))) for z, pair in enumerate(resolved) if (pair is not None) == kind]
        if not members:
            continue
        sample = drawn[kind] = fit.draw_sample(members, layout, steer)
        spatial, temporal, _ = _measure_activity(sample, flat, kind)
        part = fit.choose_classes(steer, model.taps(kind).directions, spatial, temporal, kind)
        model.plane_models[kind] = part
        classes[kind] = _classify_sample(model, sample, flat, part, kind)
    for stage in range(model.stage_count):
        for kind, sample in drawn.items():
            part, taps = model.plane_models[kind], model.taps(kind)
            classed = stage > 0 or model.stage_count == 1
            chosen = classes[kind] if classed else np.zeros(len(sample.places), np.int64)
            count = part.count_classes(taps.directions) if classed else 1
            part.coefficients.append(
                fit.fit_stage(sample, flat, echoes, stage_size, taps, stage, chosen, count, model.grain, model.span)
            )
        for z, pair in enumerate(resolved):
            bound = _bind(model, layout, z, pair, stage_size)
            at = z * layout.size + layout.origin
            kernels.predict_plane(flat, echoes, at, layout, stage, stage_size, bound, model.span)
            fill_edges(residuals[stage], z, 0 if pair is None else residuals[stage, pair[0], TOP])
    energies = {}
    for kind, sample in drawn.items():
        base = (model.stage_count - 1) * stage_size
        weights, energies[kind] = fit.fit_weights(sample, flat, echoes, base, model.taps(kind))
        model.plane_models[kind].weights = weights
    model.levels = fit.choose_levels(steer, energies, resolved, planes.size)


def _measure_activity(
    sample: fit.Sample, flat: NDArray[np.uint16], kind: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    def near(role: int, row: int, column: int) -> NDArray[np.int32]:
        return flat[sample.offsets((role, row, column))].astype(np.int32)

    w, ww, n, nn, nw, ne = (
        near(0, 0, -1),
        near(0, 0, -2),
        near(0, -1, 0),
        near(0, -2, 0),
        near(0, -1, -1),
        near(0, -1, 1),
    )
    across, along = abs(w - nw) + abs(n - nn), abs(n - nw) + abs(n - ne)
    spatial = across + along + abs(w - ww)
    temporal = np.zeros_like(spatial)
    if kind:
        p = near(1, 0, 0)
        for row, column in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            spatial += abs(p - near(1, row, column))
        temporal = abs(w - near(1, 0, -1)) + abs(n - near(1, -1, 0)) + abs(p - near(2, 0, 0))
        temporal += abs(nw - near(1, -1, -1)) + abs(ne - near(1, -1, 1))
    direction = (2 * across >= along).astype(np.int64) + (across >= along) + (across >= 2 * along)
    return spatial, temporal, direction


def _classify_sample(
    model: Model, sample: fit.Sample, flat: NDArray[np.uint16], part: PlaneModel, kind: bool
) -> NDArray[np.int64]:
    spatial, temporal, direction = _measure_activity(sample, flat, kind)
    found = np.searchsorted(part.spatial, spatial, side="right") * (len(part.temporal) + 1)
    found = found + np.searchsorted(part.temporal, temporal, side="right")
    return found * 4 + direction if model.taps(kind).directions == 4 else found


def _write(
    model: Model, kernels: ModuleType, planes: NDArray[np.uint16], residuals: NDArray[np.int16],
    resolved: list[tuple[int, int] | None], layout: Layout, engine: EngineName,
) -> bytes:  # fmt: skip
    flat, echoes, stage_size = planes.ravel(), residuals.reshape(-1), planes.size
    depth, contexts_in_all = len(resolved), model.context_count
    contexts = np.empty((depth, layout.rows, layout.columns), np.uint8)
    counts = np.zeros((depth, contexts_in_all), np.int64)
    for z, pair in enumerate(resolved):
        bound = _bind(model, layout, z, pair, stage_size)
        at = z * layout.size + layout.origin
        kernels.count_contexts(
            flat, echoes, at, layout, stage_size, bound, model.levels, model.coarse, contexts[z], counts[z]
        )
    lengths = counts.sum(axis=0)
    cursors = np.cumsum(lengths) - lengths
    values = np.empty(contexts.size, np.uint16)
    last = residuals[-1].reshape(-1)
    for z in range(depth):
        kernels.gather_plane(last, z * layout.size + layout.origin, layout, contexts[z], cursors, values)
    del contexts
    main_tokens, main_raw = kernels.split(values)
    main_coded = encode_segments(main_tokens, lengths, engine=engine)
    return join_payload(model, counts, main_coded, main_raw, engine=engine)


def join_payload(
    model: Model, counts: NDArray[np.int64], main_coded: bytes, main_raw: bytes, *, engine: EngineName | Engine
) -> bytes:
    """Write a slab: its model, its counts of shape (planes, contexts), its entropy-coded tokens and their raw bits."""
    head, coefficients = model.to_numbers()
    changes = np.diff(counts, axis=0, prepend=0).T.ravel()
    side = tokens.fold(np.concatenate([np.array(part, np.int64) for part in (head, coefficients, changes)]))
    side_tokens, side_raw = tokens.split(side)
    side_lengths = [len(head), len(coefficients), len(changes)]
    # The number of contexts, less one, leads: the counts' length follows from it.
    side_coded = bytes([model.context_count - 1]) + encode_segments(side_tokens, side_lengths, engine=engine)
    header = _HEADER.pack(
        _VERSION, len(head), len(coefficients), len(side_coded), len(side_raw), len(main_coded)
    )  # fmt: skip
    return b"".join((header, side_coded, side_raw, main_coded, main_raw))


def decode_slab(
    payload: bytes | memoryview,
    *,
    shape: tuple[int, int, int],
    dtype: Any,
    engine: EngineName = "auto",
    threads: int = 0,
) -> NDArray[Any]:
    """Give back the slab that `encode_slab` encoded.

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
    del threads
    _check_shape(shape)
    kind = np.dtype(dtype)
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise ValueError(f"the volume codec gives 8 and 16 bit integers, not {kind}")
    kernels = _load_engine(engine)
    flipped = shape[1] > shape[2]
    depth, rows, columns = (shape[0], shape[2], shape[1]) if flipped else shape
    model, counts, values = _read(bytes(payload), depth, rows * columns, kernels, engine)
    limits = np.iinfo(kind)
    if model.least < limits.min or model.least + model.span > limits.max:
        raise CorruptError("a volume slab holds values outside its sample type; the archive is damaged")
    resolved = [resolve_references(z, model.references) for z in range(depth)]
    if any((pair is not None) not in model.plane_models for pair in resolved):
        raise CorruptError("a volume slab lacks the model of some planes; the archive is damaged")
    layout = Layout.wavefront(rows, columns)
    slots = 1 + max((z - min(pair) for z, pair in enumerate(resolved) if pair is not None), default=0)
    samples = np.zeros(slots * layout.size, np.uint16)
    residuals = np.zeros(model.stage_count * slots * layout.size, np.int16)
    result = np.empty((depth, rows, columns), kind)
    lengths = counts.sum(axis=0)
    cursors = np.cumsum(lengths) - lengths
    row, column = np.divmod(np.arange(rows * columns), columns)
    places = layout.origin + row * layout.row_step + column * layout.column_step
    del row, column
    for z, pair in enumerate(resolved):
        slot = z % slots
        steps = (0, 0) if pair is None else tuple((one % slots - slot) * layout.size for one in pair)
        bound = model.bind(pair is not None, layout, steps[0], steps[1], len(samples))
        at = slot * layout.size + layout.origin
        _begin_plane(samples, residuals, at, layout, None if pair is None else steps[0], model)
        ends = cursors + counts[z]
        if not kernels.decode_plane(
            samples, residuals, at, layout, len(samples), bound, model.levels, model.coarse, model.span, values,
            cursors, ends,
        ):  # fmt: skip
            raise CorruptError(f"the streams of plane {z} of a volume slab do not fit it; the archive is damaged")
        plane = samples[slot * layout.size + places].astype(np.int32) + model.least
        result[z] = plane.reshape(rows, columns).astype(kind)
    return np.ascontiguousarray(result.transpose(0, 2, 1)) if flipped else result


def _begin_plane(
    samples: NDArray[np.uint16], residuals: NDArray[np.int16], at: int, layout: Layout, first: int | None, model: Model
) -> None:
    """Fill the rows above a wavefront plane and the left edge of its row 0."""
    across = np.arange(-3, layout.columns + 2) * layout.column_step
    size = len(samples)
    for base, array in [(0, samples), *((stage * size, residuals) for stage in range(model.stage_count))]:
        above = (model.start if array is samples else 0) if first is None else array[base + at + first + across]
        for depth in (1, 2):
            array[base + at - depth * layout.row_step + across] = above
        array[base + at + across[:3]] = array[base + at - layout.row_step]


def _read(
    payload: bytes, depth: int, area: int, kernels: ModuleType, engine: EngineName
) -> tuple[Model, NDArray[np.int64], NDArray[np.uint16]]:
    """Read and check all parts of a payload."""
    model, counts, main_coded, main_raw = split_payload(payload, depth, area, engine=engine)
    values = kernels.join(decode_segments(main_coded, counts.sum(axis=0), engine=engine), main_raw)
    return model, counts, values


def split_payload(
    payload: bytes, depth: int, area: int, *, engine: EngineName | Engine
) -> tuple[Model, NDArray[np.int64], bytes, bytes]:
    """Read and check what `join_payload` wrote, for `depth` planes of `area` samples.

    Raises
    ------
    CorruptError
        If a part is missing, too long, or contradicts the others.
    """
    if len(payload) < _HEADER.size:
        raise CorruptError("a volume slab is shorter than its header; the archive is damaged")
    version, head_count, coefficient_count, *sizes = _HEADER.unpack_from(payload)
    if version != _VERSION:
        raise NewerVersionError(f"a volume slab names version {version}; this gpushrink knows {_VERSION}")
    edges = np.cumsum([_HEADER.size, *sizes]).tolist()
    if edges[-1] > len(payload):
        raise CorruptError("the parts of a volume slab are longer than the slab; the archive is damaged")
    # Bounds that no model exceeds: 64 thresholds each way, four directions, 60 taps, three stages.
    if head_count > 4096 or coefficient_count > 1 << 20:
        raise CorruptError("a volume slab announces too many parameters; the archive is damaged")
    side_coded, side_raw, main_coded = (payload[a:b] for a, b in pairwise(edges))
    model, counts = _read_side(side_coded, side_raw, head_count, coefficient_count, depth, engine)
    if (counts < 0).any() or (counts.sum(axis=1) != area).any():
        raise CorruptError("the context counts of a volume slab do not add up; the archive is damaged")
    return model, counts, main_coded, payload[edges[-1] :]


def _read_side(
    coded: bytes, raw: bytes, head_count: int, coefficient_count: int, depth: int, engine: EngineName | Engine
) -> tuple[Model, NDArray[np.int64]]:
    if not coded:
        raise CorruptError("a volume slab has no parameters; the archive is damaged")
    contexts = coded[0] + 1
    lengths = [head_count, coefficient_count, contexts * depth]
    side = tokens.unfold(tokens.join(decode_segments(coded[1:], lengths, engine=engine), raw))
    edges = np.cumsum([0, *lengths]).tolist()
    head, coefficients, changes = (side[a:b] for a, b in pairwise(edges))
    model = Model.from_numbers(head, coefficients)
    if model.context_count != contexts:
        raise CorruptError("a volume slab disagrees on its number of contexts; the archive is damaged")
    return model, changes.reshape(contexts, depth).cumsum(axis=1).T
