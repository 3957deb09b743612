"""The entropy stage where the symbols are on the device already: the payloads of `gpushrink.codec.entropy`, both ways.

What the plan decides, it decides as on the CPU: from counts, and from trials with libzstd on parts of the symbols. So
zstd frames are all that can differ from the CPU's payload: a device that has its own zstd writes its own frames.
Source: docs/format-entropy.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts, size_of
from gpushrink.codec.entropy import layout
from gpushrink.codec.entropy.engine import RangeInput, RangeParts
from gpushrink.codec.entropy.head import KIND_CONSTANT, KIND_RAW, KIND_ZSTD
from gpushrink.codec.entropy.plan import Plan, make_plan
from gpushrink.codec.entropy.stage import NO_RANGES, checked_lengths, range_input, table_of_segment
from gpushrink.codec.entropy.tables import Tables
from gpushrink.codec.entropy.zstd_chunks import encode_frames
from gpushrink.devices import zstd_frames
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_engine import DeviceEngine
from gpushrink.devices.host_part import on_host
from gpushrink.devices.pieces import fill_pieces
from gpushrink.devices.segments import Part, Segments, bytes_of, cut
from gpushrink.devices.trials import TriedSymbols
from gpushrink.devices.zstd_frames import compress_stretches, decompress_frames
from gpushrink.errors import CorruptError

__all__ = ["ResidentPayload", "decode_resident", "encode_resident"]


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

    parts: Parts
    judged_bytes: int

    @property
    def size(self) -> int:
        """Give the bytes of all parts."""
        return size_of(self.parts)


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
    payloads = [ResidentPayload((), 0)] * len(sizes)
    filled = [place for place, one in enumerate(sizes) if len(one)]
    if not filled:
        return payloads
    whole = Segments([sizes[place] for place in filled])
    engine = DeviceEngine(device)
    counts = engine.count_resident(symbols, whole.bounds)
    tried = TriedSymbols(device, symbols, whole.bounds)

    def plan_one(part: Part) -> Plan:
        own = whole.bounds[part.first : part.last + 1]
        held = cast(Any, tried.part(int(own[0]), int(own[-1])))
        return make_plan(held, own - own[0], counts[part.first : part.last], "auto", engine)

    plans = on_host(plan_one, whole.parts)
    coded = np.concatenate([plan.tables >= 0 for plan in plans])
    kinds = np.concatenate([plan.kinds for plan in plans])
    ranges = _code_ranges(engine, whole.gather(device, symbols, coded), whole, plans)
    zstd_sizes = whole.sum_by_part(kinds == KIND_ZSTD)
    by_zstd = whole.gather(device, symbols, kinds == KIND_ZSTD)
    frames = compress_stretches(device, by_zstd, zstd_sizes, own_zstd)
    raw = cut(bytes_of(device, whole.gather(device, symbols, kinds == KIND_RAW)),
               whole.sum_by_part(kinds == KIND_RAW))  # fmt: skip
    held = cut(bytes_of(device, by_zstd), zstd_sizes) if judge and any(frames) else []

    def join_one(place: int) -> ResidentPayload:
        plan = plans[place]
        stored_head = engine.write_head(plan.kinds, plan.values, plan.levels)

        def list_parts(some: list[bytes]) -> Parts:
            sections = layout.Sections(raw[place], some, *ranges[place])
            return layout.list_parts(
                lanes_log2=plan.lanes_log2, chunk_log2=plan.chunk_log2, head=stored_head, sections=sections
            )

        parts = list_parts(frames[place])
        by_device = own_zstd and len(frames[place]) >= zstd_frames.FEWEST_DEVICE_CHUNKS
        if not (judge and by_device):
            return ResidentPayload(parts, size_of(parts))
        by_libzstd = encode_frames(np.frombuffer(held[place], np.uint8), threads=1)
        return ResidentPayload(parts, size_of(list_parts(by_libzstd)))

    for place, payload in zip(filled, on_host(join_one, range(len(plans))), strict=True):
        payloads[place] = payload
    return payloads


def _code_ranges(
    engine: DeviceEngine, symbols: DeviceArray, whole: Segments, plans: Sequence[Plan]
) -> list[RangeParts]:
    """Code the segments that have tables; give each payload its ranges."""
    wheres = {}
    for place, (part, plan) in enumerate(zip(whole.parts, plans, strict=True)):
        coded = plan.tables >= 0
        if coded.any():
            sizes = whole.sizes[part.first : part.last][coded]
            wheres[place] = range_input(sizes, plan.tables[coded], plan.frequencies, plan.lanes_log2, plan.chunk_log2)
    if not wheres:
        return [NO_RANGES] * len(plans)
    found = dict(zip(wheres, engine.encode_resident(symbols, list(wheres.values())), strict=True))
    return [found.get(place, NO_RANGES) for place in range(len(plans))]


def decode_resident(
    device: Device, payloads: Sequence[Buffer], lengths: Sequence[NDArray[np.int64]], *, own_zstd: bool = True
) -> DeviceArray:
    """Decode several payloads to uint8 symbols on the device, one after another.

    Parameters
    ----------
    own_zstd
        Let the device read frames where there are many, which its decoder must be able to trust; without, libzstd does.

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
    read = [_read(engine, payloads[place], sizes[place][sizes[place] > 0]) for place in filled]
    whole = Segments([one.sizes for one in read])
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
        whole.scatter(device, symbols, coded, decoded)
    raw = b"".join(one.raw for one in read)
    if raw:
        whole.scatter(device, symbols, kinds == KIND_RAW, device.put(np.frombuffer(raw, np.uint8)))
    frames = [frame for one in read for frame in one.frames]
    if frames:
        unpacked = decompress_frames(device, frames, np.concatenate([one.frame_sizes for one in read]), own_zstd)
        whole.scatter(device, symbols, kinds == KIND_ZSTD, unpacked)
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
