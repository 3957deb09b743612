"""The entropy stage where the symbols are on the device already: the payloads of `gpushrink.codec.entropy`, both ways.

What the plan decides, it decides as on the CPU: from counts, and from trials with libzstd on parts of the symbols. So
zstd frames are all that can differ from the CPU's payload: a device that has its own zstd writes its own frames.
Source: docs/format-entropy.md.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar, cast

import numpy as np
import zstandard
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer
from gpushrink.codec.entropy import layout
from gpushrink.codec.entropy.engine import RangeInput
from gpushrink.codec.entropy.head import KIND_CONSTANT, KIND_RAW, KIND_ZSTD
from gpushrink.codec.entropy.plan import Plan, make_plan, sample_part
from gpushrink.codec.entropy.stage import checked_lengths, range_input, table_of_segment
from gpushrink.codec.entropy.tables import Tables
from gpushrink.codec.entropy.zstd_chunks import decode_frames, encode_frames
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_engine import DeviceEngine, RangeParts
from gpushrink.devices.host_part import on_host
from gpushrink.devices.pieces import copy_pieces, fill_pieces, put_pieces
from gpushrink.errors import CorruptError

__all__ = ["FEWEST_DEVICE_CHUNKS", "ResidentPayload", "decode_resident", "encode_resident"]

# nvCOMP takes some 15 ms to write a batch and 7 to read one, however small (an H200); libzstd takes 0.2 ms a chunk.
FEWEST_DEVICE_CHUNKS: Final = 64

Sliceable = TypeVar("Sliceable", bytes, "list[bytes]")


@dataclass(frozen=True)
class ResidentPayload:
    """What `encode_resident` gives.

    Attributes
    ----------
    parts
        Joined, what `gpushrink.codec.entropy.encode_segments` gives, but for the bytes of zstd frames.
    judged_bytes
        Its size if libzstd had written the frames: what choices between payloads go by, so that they are the CPU's.
    """

    parts: list[Buffer | NDArray[Any]]
    judged_bytes: int

    @property
    def size(self) -> int:
        """Give the bytes of all parts."""
        return size_of(self.parts)


def size_of(parts: Sequence[Buffer | NDArray[Any]]) -> int:
    """Give the bytes of parts."""
    return sum(part.nbytes if isinstance(part, np.ndarray) else len(part) for part in parts)


class _Symbols:
    """Give plans their trials: what they look at first came to the host at once, more of it comes when asked for."""

    def __init__(self, device: Device, symbols: DeviceArray, bounds: NDArray[np.int64]) -> None:
        self._device, self._symbols = device, symbols
        self._lock = threading.Lock()
        parts = [
            (begin + at, size) for begin, (at, size) in zip(bounds, map(sample_part, np.diff(bounds)), strict=False)
        ]
        pieces = np.array([part for part in parts if part[1]], np.int64).reshape(-1, 2)
        self._ends = np.cumsum(pieces[:, 1])
        self._begins = pieces[:, 0]
        self._held = _bytes_of(device, copy_pieces(device, symbols, self._begins, pieces[:, 1]))

    def part(self, begin: int, end: int) -> _SymbolsPart:
        """Give some of the symbols."""
        return _SymbolsPart(self, begin, end)

    def read(self, begin: int, end: int) -> bytes:
        """Give symbols."""
        place = int(np.searchsorted(self._begins, begin, side="right")) - 1
        if place >= 0:
            first = int(self._ends[place - 1]) if place else 0
            at = first + begin - int(self._begins[place])
            if at + end - begin <= self._ends[place]:
                return self._held[at : at + end - begin]
        with self._lock:  # plans are made side by side, a queue is one thread's
            return self._device.get(self._symbols[begin:end]).tobytes()


@dataclass(frozen=True)
class _SymbolsPart:
    """A stretch of symbols, as a plan slices it."""

    whole: _Symbols
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, part: slice) -> _SymbolsPart:
        begin, end, _ = part.indices(len(self))
        return _SymbolsPart(self.whole, self.begin + begin, self.begin + end)

    def tobytes(self) -> bytes:
        return self.whole.read(self.begin, self.end)


def encode_resident(
    device: Device,
    symbols: DeviceArray,
    lengths: Sequence[NDArray[np.int64]],
    *,
    judge: bool = False,
    own_zstd: bool = True,
) -> list[ResidentPayload]:
    """Code consecutive segments of uint8 symbols on the device, for several payloads at once.

    Parameters
    ----------
    symbols
        Of all payloads, one after another.
    lengths
        Symbols in each segment, an array for each payload.
    judge
        Find `judged_bytes` too: takes libzstd over the zstd segments. Without, it is the payload's own size.
    own_zstd
        Let the device write the frames of a payload with many; without, libzstd writes all.
    """
    sizes = [checked_lengths(one) for one in lengths]
    sizes = [one[one > 0] for one in sizes]
    payloads = [ResidentPayload([], 0)] * len(sizes)
    filled = [place for place, one in enumerate(sizes) if len(one)]
    if not filled:
        return payloads
    whole = _Segments([sizes[place] for place in filled])
    engine = DeviceEngine(device)
    counts = engine.count_resident(symbols, whole.bounds)
    tried = _Symbols(device, symbols, whole.bounds)

    def plan_one(part: _Part) -> Plan:
        own = whole.bounds[part.first : part.last + 1]
        held = cast(Any, tried.part(int(own[0]), int(own[-1])))
        return make_plan(held, own - own[0], counts[part.first : part.last], "auto", engine)

    plans = on_host(plan_one, whole.parts)
    coded = np.concatenate([plan.tables >= 0 for plan in plans])
    kinds = np.concatenate([plan.kinds for plan in plans])
    ranges = _code_ranges(engine, _gather(device, symbols, whole.bounds, coded), whole, plans)
    zstd_sizes = whole.sum_by_part(kinds == KIND_ZSTD)
    by_zstd = _gather(device, symbols, whole.bounds, kinds == KIND_ZSTD)
    frames = _compress(device, by_zstd, zstd_sizes, own_zstd)
    raw = _cut(_bytes_of(device, _gather(device, symbols, whole.bounds, kinds == KIND_RAW)),
               whole.sum_by_part(kinds == KIND_RAW))  # fmt: skip
    held = _cut(_bytes_of(device, by_zstd), zstd_sizes) if judge and any(frames) else [b""] * len(plans)

    def join_one(place: int) -> ResidentPayload:
        plan = plans[place]
        stored_head = engine.write_head(plan.kinds, plan.values, plan.levels)

        def list_parts(some: list[bytes]) -> list[Buffer | NDArray[Any]]:
            sections = layout.Sections(raw[place], some, *ranges[place])
            return list(
                layout.list_parts(
                    lanes_log2=plan.lanes_log2, chunk_log2=plan.chunk_log2, head=stored_head, sections=sections
                )
            )

        parts = list_parts(frames[place])
        if not (judge and frames[place]):
            return ResidentPayload(parts, size_of(parts))
        by_libzstd = encode_frames(np.frombuffer(held[place], np.uint8), threads=1)
        return ResidentPayload(parts, size_of(list_parts(by_libzstd)))

    for place, payload in zip(filled, on_host(join_one, range(len(plans))), strict=True):
        payloads[place] = payload
    return payloads


@dataclass(frozen=True)
class _Part:
    """The segments of one payload: from `first` to before `last`."""

    first: int
    last: int


class _Segments:
    """The segments of several payloads, one after another."""

    def __init__(self, sizes: Sequence[NDArray[np.int64]]) -> None:
        self.sizes = np.concatenate(sizes)
        self.bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes)])
        edges = np.cumsum([0, *map(len, sizes)]).tolist()
        self.parts = [_Part(first, last) for first, last in pairwise(edges)]

    def sum_by_part(self, chosen: NDArray[np.bool_]) -> list[int]:
        """Add up the chosen segments of each payload."""
        return [int(self.sizes[p.first : p.last][chosen[p.first : p.last]].sum()) for p in self.parts]


def _code_ranges(
    engine: DeviceEngine, symbols: DeviceArray, whole: _Segments, plans: Sequence[Plan]
) -> list[RangeParts]:
    """Code the segments that have tables; give each payload its ranges."""
    wheres = {}
    for place, (part, plan) in enumerate(zip(whole.parts, plans, strict=True)):
        coded = plan.tables >= 0
        if coded.any():
            sizes = whole.sizes[part.first : part.last][coded]
            wheres[place] = range_input(sizes, plan.tables[coded], plan.frequencies, plan.lanes_log2, plan.chunk_log2)
    nothing = np.zeros(0, np.int64), np.zeros(0, np.uint16)
    if not wheres:
        return [nothing] * len(plans)
    found = dict(zip(wheres, engine.encode_resident(symbols, list(wheres.values())), strict=True))
    return [found.get(place, nothing) for place in range(len(plans))]


def _compress(device: Device, symbols: DeviceArray, sizes: Sequence[int], own_zstd: bool) -> list[list[bytes]]:
    """Write zstd frames of consecutive stretches of so many symbols: of many on the device, of few on the host.

    Which, follows from a stretch alone: its frames must not depend on what shares a batch with it.
    """
    edges = np.cumsum([0, *sizes]).tolist()
    cuts = [layout.zstd_chunk_bounds(size) for size in sizes]
    frames: list[list[bytes]] = []
    for cut, (begin, end) in zip(cuts, pairwise(edges), strict=True):
        own = symbols[begin:end]
        if own_zstd and len(cut) - 1 >= FEWEST_DEVICE_CHUNKS:
            fresh = device.empty(len(own), np.uint8)  # whole words begin here; a stretch may begin anywhere
            device.copy(own, fresh)
            frames.append(device.compress_chunks(fresh, cut))
        else:
            frames.append(encode_frames(np.frombuffer(_bytes_of(device, own), np.uint8), threads=1))
    return frames


def _decompress(device: Device, frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> DeviceArray:
    """Read zstd frames of so many bytes each: on the device, or few of them on the host."""
    _check_named_sizes(frames, sizes)
    if len(frames) >= FEWEST_DEVICE_CHUNKS:
        return device.decompress_chunks(frames, sizes)
    parts = [decode_frames([frame], size, threads=1) for frame, size in zip(frames, sizes.tolist(), strict=True)]
    return device.put_all(parts)


def _bytes_of(device: Device, symbols: DeviceArray) -> bytes:
    return device.get(symbols).tobytes() if len(symbols) else b""


def _cut(whole: Sliceable, sizes: Sequence[int]) -> list[Sliceable]:
    """Cut a sequence into consecutive parts."""
    edges = np.cumsum([0, *sizes]).tolist()
    return [whole[begin:end] for begin, end in pairwise(edges)]


def decode_resident(device: Device, payloads: Sequence[Buffer], lengths: Sequence[NDArray[np.int64]]) -> DeviceArray:
    """Decode several payloads to uint8 symbols on the device, one after another.

    Raises
    ------
    CorruptError
        A payload is not what was written. The caller has compared its checksum: of a frame only the named size is
        looked at before it reaches the device.
    NewerVersionError
        A payload has another version.
    """
    sizes = [checked_lengths(one) for one in lengths]
    for payload, own in zip(payloads, sizes, strict=True):
        if payload and not own.sum():
            raise CorruptError(f"entropy payload has {len(payload)} bytes for no symbols")
    filled = [place for place, own in enumerate(sizes) if own.sum()]
    if not filled:
        return device.empty(0, np.uint8)
    engine = DeviceEngine(device)
    read = on_host(lambda place: _read(engine, payloads[place], sizes[place][sizes[place] > 0]), filled)
    whole = _Segments([one.sizes for one in read])
    kinds = np.concatenate([one.kinds for one in read])
    coded = np.concatenate([one.tables >= 0 for one in read])
    decoded = None
    if coded.any():
        ranged = [(one.parts, one.where) for one in read if one.where is not None]
        decoded = engine.decode_resident([parts for parts, _ in ranged], [where for _, where in ranged])
        if coded.all():
            return decoded
    symbols = device.empty(int(whole.bounds[-1]), np.uint8)
    if decoded is not None:
        _scatter(device, symbols, whole.bounds, coded, decoded)
    raw = b"".join(one.raw for one in read)
    if raw:
        _scatter(device, symbols, whole.bounds, kinds == KIND_RAW, device.put(np.frombuffer(raw, np.uint8)))
    frames = [frame for one in read for frame in one.frames]
    if frames:
        unpacked = _decompress(device, frames, np.concatenate([one.frame_sizes for one in read]))
        _scatter(device, symbols, whole.bounds, kinds == KIND_ZSTD, unpacked)
    values = np.concatenate([one.values for one in read])
    constant = kinds == KIND_CONSTANT
    fill_pieces(device, symbols, whole.bounds[:-1][constant], whole.sizes[constant], values[constant])
    return symbols


@dataclass(frozen=True)
class _Read:
    """A payload taken apart."""

    sizes: NDArray[np.int64]
    kinds: NDArray[np.int64]
    values: NDArray[np.int64]
    tables: NDArray[np.int64]
    where: RangeInput | None
    parts: RangeParts
    raw: Buffer
    frames: Sequence[Buffer]
    frame_sizes: NDArray[np.int64]


def _read(engine: DeviceEngine, payload: Buffer, sizes: NDArray[np.int64]) -> _Read:
    lanes_log2, chunk_log2, head, offset = layout.split_head(payload)
    kinds, values, levels = engine.read_head(head, len(sizes))
    tables = table_of_segment(kinds)
    coded = tables >= 0
    frame_sizes = np.diff(layout.zstd_chunk_bounds(int(sizes[kinds == KIND_ZSTD].sum())))
    sections = layout.split_sections(
        payload,
        offset,
        lanes=1 << lanes_log2,
        raw_bytes=int(sizes[kinds == KIND_RAW].sum()),
        zstd_chunks=len(frame_sizes),
        range_chunks=np.diff(layout.range_chunk_bounds(int(sizes[coded].sum()), chunk_log2)).tolist(),
    )
    where = None
    if coded.any():
        where = range_input(sizes[coded], tables[coded], Tables.from_levels(levels), lanes_log2, chunk_log2)
    parts = sections.word_counts, sections.ranges
    return _Read(sizes, kinds, values, tables, where, parts, sections.raw, sections.frames, frame_sizes)


def _check_named_sizes(frames: Sequence[Buffer], sizes: NDArray[np.int64]) -> None:
    """Refuse frames that do not name the size their place demands, before a device allocates or trusts anything."""
    for chunk, (frame, size) in enumerate(zip(frames, sizes.tolist(), strict=True)):
        try:
            named = zstandard.get_frame_parameters(frame).content_size
        except zstandard.ZstdError as error:
            raise CorruptError(f"zstd chunk {chunk} does not decode: {error}") from error
        if named != size:
            raise CorruptError(f"zstd chunk {chunk} names {named} bytes where {size} belong")


def _gather(device: Device, symbols: DeviceArray, bounds: NDArray[np.int64], chosen: NDArray[np.bool_]) -> DeviceArray:
    """Join the chosen segments; all of them are not copied."""
    if chosen.all():
        return symbols
    begins, sizes = _stretches(bounds, chosen)
    return copy_pieces(device, symbols, begins, sizes)


def _scatter(
    device: Device, symbols: DeviceArray, bounds: NDArray[np.int64], chosen: NDArray[np.bool_], source: DeviceArray
) -> None:
    """Put joined segments back in their places."""
    begins, sizes = _stretches(bounds, chosen)
    put_pieces(device, source, symbols, begins, sizes)


def _stretches(bounds: NDArray[np.int64], chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give where runs of neighbouring chosen segments begin, and their sizes."""
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    begins = bounds[edges[:, 0]]
    return begins, bounds[edges[:, 1]] - begins
