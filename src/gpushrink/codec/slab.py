"""Code a slab of frames with whichever stage comes out smallest."""

from __future__ import annotations

from gpushrink.codec import bytestream, planes
from gpushrink.codec.table import encode_slab_as_planes, frames_as_samples
from gpushrink.model import BlockCodec, SampleFormat, SlabShape

__all__ = ["SLAB_BYTES", "encode_slab", "slab_ranges"]

SLAB_BYTES = 16 << 20
_SAMPLE_BYTES = 1 << 19


def slab_ranges(frames: int, frame_bytes: int) -> list[tuple[int, int]]:
    """Split a volume into slabs of about equal length, at least one frame each.

    Returns
    -------
    list of (int, int)
        First frame and end of each slab.
    """
    most = max(1, SLAB_BYTES // frame_bytes)
    count = -(-frames // most)
    return [(frames * k // count, frames * (k + 1) // count) for k in range(count)]


def encode_slab(data: bytes, shape: SlabShape, sample: SampleFormat) -> tuple[BlockCodec, bytes]:
    """Choose by coding a sample of the slab, then code it; the result is never longer than `data`.

    Parameters
    ----------
    data
        The frames one after another, as stored.
    """
    samples = frames_as_samples(data, shape, sample)
    frame_bytes = len(data) // shape.slices
    taken = min(shape.slices, max(2, _SAMPLE_BYTES // frame_bytes))
    start = (shape.slices - taken) // 2
    part = samples[start : start + taken]
    if frame_bytes * taken > 2 * _SAMPLE_BYTES:
        rows = max(8, shape.rows * 2 * _SAMPLE_BYTES // (frame_bytes * taken))
        top = max(0, (shape.rows - rows) // 2)
        part = part[:, :, top : top + rows]
    axes, fold, _ = planes.choose(part)
    candidates: list[tuple[BlockCodec, bytes]] = [
        (BlockCodec.PLANES, encode_slab_as_planes(data, shape, sample, axes, fold))
    ]
    kind, coded = bytestream.squeeze(data, effort=2 if len(data) <= bytestream.LZMA_LIMIT else 0)
    candidates.append((BlockCodec(kind), coded))
    return min(candidates, key=lambda pair: len(pair[1]))
