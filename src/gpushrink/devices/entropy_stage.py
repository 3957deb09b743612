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
import zstandard
from numpy.typing import NDArray

from gpushrink.codec.entropy import layout
from gpushrink.codec.entropy.head import KIND_CONSTANT, KIND_RAW, KIND_ZSTD
from gpushrink.codec.entropy.plan import make_plan
from gpushrink.codec.entropy.stage import checked_lengths, range_input, table_of_segment
from gpushrink.codec.entropy.tables import Tables
from gpushrink.codec.entropy.zstd_chunks import encode_frames
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_engine import DeviceEngine
from gpushrink.errors import CorruptError

__all__ = ["ResidentPayload", "decode_resident", "encode_resident"]


@dataclass(frozen=True)
class ResidentPayload:
    """What `encode_resident` gives.

    Attributes
    ----------
    payload
        As `gpushrink.codec.entropy.encode_segments` gives it, but for the bytes of zstd frames.
    judged_bytes
        Its size if libzstd had written the frames: what choices between payloads go by, so that they are the CPU's.
    """

    payload: bytes
    judged_bytes: int


class _Symbols:
    """Give the plan its trials: only the parts of the symbols that it looks at come to the host."""

    def __init__(self, device: Device, symbols: DeviceArray) -> None:
        self._device, self._symbols = device, symbols

    def __len__(self) -> int:
        return len(self._symbols)

    def __getitem__(self, part: slice) -> _Symbols:
        return _Symbols(self._device, self._symbols[part])

    def tobytes(self) -> bytes:
        return self._device.get(self._symbols).tobytes()


def encode_resident(
    device: Device, symbols: DeviceArray, lengths: NDArray[np.int64], *, judge: bool = False
) -> ResidentPayload:
    """Code consecutive segments of uint8 symbols on the device.

    Parameters
    ----------
    judge
        Find `judged_bytes` too: takes libzstd over the zstd segments. Without, it is the payload's own size.
    """
    sizes = checked_lengths(lengths)
    if not len(symbols):
        return ResidentPayload(b"", 0)
    engine = DeviceEngine(device)
    sizes = sizes[sizes > 0]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    counts = engine.count_resident(symbols, bounds)
    plan = make_plan(cast(Any, _Symbols(device, symbols)), bounds, counts, "auto", engine)
    coded = plan.tables >= 0
    if coded.any():
        where = range_input(sizes[coded], plan.tables[coded], plan.frequencies, plan.lanes_log2, plan.chunk_log2)
        parts = engine.encode_resident(_gather(device, symbols, bounds, coded), where)
    else:
        parts = np.zeros((0, 1), np.uint32), np.zeros(0, np.uint16), np.zeros(0, np.int64)
    by_zstd = _gather(device, symbols, bounds, plan.kinds == KIND_ZSTD)
    cuts = layout.zstd_chunk_bounds(len(by_zstd))
    frames = device.compress_chunks(by_zstd, cuts) if len(cuts) > 1 else []
    raw = _gather(device, symbols, bounds, plan.kinds == KIND_RAW)
    raw_bytes = device.get(raw).tobytes() if len(raw) else b""
    stored_head = engine.write_head(plan.kinds, plan.values, plan.levels)

    def join(some: list[bytes]) -> bytes:
        sections = layout.Sections(raw_bytes, some, *parts)
        return layout.join(lanes_log2=plan.lanes_log2, chunk_log2=plan.chunk_log2, head=stored_head, sections=sections)

    payload = join(frames)
    judged = len(join(encode_frames(device.get(by_zstd), threads=1))) if judge and frames else len(payload)
    return ResidentPayload(payload, judged)


def decode_resident(device: Device, payload: bytes, lengths: NDArray[np.int64]) -> DeviceArray:
    """Decode to uint8 symbols on the device.

    Raises
    ------
    CorruptError
        The payload is not what was written. The caller has compared its checksum: of a frame only the named size is
        looked at before it reaches the device.
    NewerVersionError
        The payload has another version.
    """
    sizes = checked_lengths(lengths)
    count = int(sizes.sum())
    if count == 0:
        if payload:
            raise CorruptError(f"entropy payload has {len(payload)} bytes for no symbols")
        return device.empty(0, np.uint8)
    engine = DeviceEngine(device)
    lanes_log2, chunk_log2, head, offset = layout.split_head(payload)
    sizes = sizes[sizes > 0]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    kinds, values, levels = engine.read_head(head, len(sizes))
    tables = table_of_segment(kinds)
    coded = tables >= 0
    cuts = layout.zstd_chunk_bounds(int(sizes[kinds == KIND_ZSTD].sum()))
    sections = layout.split_sections(
        payload,
        offset,
        lanes=1 << lanes_log2,
        raw_bytes=int(sizes[kinds == KIND_RAW].sum()),
        zstd_chunks=len(cuts) - 1,
        range_chunks=np.diff(layout.range_chunk_bounds(int(sizes[coded].sum()), chunk_log2)).tolist(),
    )
    decoded = None
    if coded.any():
        where = range_input(sizes[coded], tables[coded], Tables.from_levels(levels), lanes_log2, chunk_log2)
        decoded = engine.decode_resident(sections.states, sections.words, sections.word_ends, where)
        if coded.all():
            return decoded
    symbols = device.empty(count, np.uint8)
    if decoded is not None:
        _scatter(device, symbols, bounds, coded, decoded)
    if len(sections.raw):
        raw = device.put(np.frombuffer(sections.raw, np.uint8))
        _scatter(device, symbols, bounds, kinds == KIND_RAW, raw)
    if sections.frames:
        _check_named_sizes(sections.frames, np.diff(cuts))
        unpacked = device.decompress_chunks(sections.frames, np.diff(cuts))
        _scatter(device, symbols, bounds, kinds == KIND_ZSTD, unpacked)
    for segment in np.flatnonzero(kinds == KIND_CONSTANT).tolist():
        device.fill(symbols[bounds[segment] : bounds[segment + 1]], int(values[segment]))
    return symbols


def _check_named_sizes(frames: Sequence[bytes], sizes: NDArray[np.int64]) -> None:
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
    joined = device.empty(int(np.diff(bounds)[chosen].sum()), np.uint8)
    at = 0
    for begin, end in _stretches(bounds, chosen):
        device.copy(symbols[begin:end], joined[at : at + end - begin])
        at += end - begin
    return joined


def _scatter(
    device: Device, symbols: DeviceArray, bounds: NDArray[np.int64], chosen: NDArray[np.bool_], source: DeviceArray
) -> None:
    """Put joined segments back in their places."""
    at = 0
    for begin, end in _stretches(bounds, chosen):
        device.copy(source[at : at + end - begin], symbols[begin:end])
        at += end - begin


def _stretches(bounds: NDArray[np.int64], chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Give where runs of neighbouring chosen segments begin and end: a copy for each, not for each segment."""
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0))
    return [(int(bounds[first]), int(bounds[last])) for first, last in edges.reshape(-1, 2).tolist()]
