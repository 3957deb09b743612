"""Code a slab of frames with whichever stage comes out smallest."""

from __future__ import annotations

from gpushrink.codec import bytestream, planes
from gpushrink.codec.table import CPU, SlabCodec, encode_slab_as_planes, encode_slab_as_volume, frames_as_samples
from gpushrink.model import BlockCodec, SampleFormat, SlabShape

__all__ = ["LEVELS", "SLAB_BYTES", "encode_slab", "slab_ranges"]

LEVELS = ("fast", "default", "max")

SLAB_BYTES = 16 << 20
SLAB_FRAMES = 256
_SAMPLE_BYTES = 1 << 17
# A simple stage is tried in full where its sample comes this near to the volume codec: samples err.
_NEAR = 1.1
_NEAR_REPEATS = 1.3
_SMALL = 1 << 16


def slab_ranges(frames: int, frame_bytes: int) -> list[tuple[int, int]]:
    """Split a volume into slabs of about equal length, at least one frame each.

    Returns
    -------
    list of (int, int)
        First frame and end of each slab.
    """
    most = max(1, min(SLAB_FRAMES, SLAB_BYTES // frame_bytes))
    count = -(-frames // most)
    return [(frames * k // count, frames * (k + 1) // count) for k in range(count)]


def encode_slab(
    data: bytes, shape: SlabShape, sample: SampleFormat, *, level: str, slab_codec: SlabCodec = CPU, threads: int = 1
) -> tuple[BlockCodec, bytes]:
    """Code a slab with the volume codec, or with a simple stage where that comes out smaller.

    Parameters
    ----------
    data
        The frames one after another, as stored.
    level
        "fast", "default" or "max": how much the volume codec tries.
    slab_codec
        What runs the volume codec; all give the same bytes.
    threads
        How many processors it may use; never changes the bytes.

    Returns
    -------
    tuple of BlockCodec and bytes
        Never longer than `data`.
    """
    candidates: list[tuple[BlockCodec, bytes]] = [(BlockCodec.STORED, data)]
    if sample.item_bytes <= 2:
        candidates.append(
            (
                BlockCodec.VOLUME,
                encode_slab_as_volume(data, shape, sample, level, slab_codec=slab_codec, threads=threads),
            )
        )
    least = len(candidates[-1][1])
    part = _middle(frames_as_samples(data, shape, sample))
    scale = len(data) / part.nbytes
    axes, fold, size = planes.choose(part)
    if size * scale < least * _NEAR:
        candidates.append((BlockCodec.PLANES, encode_slab_as_planes(data, shape, sample, axes, fold)))
    # Drawn or clipped pictures repeat themselves: there dictionary stages win, and LZMA most.
    repeats = len(bytestream.zstd_compress(part.tobytes(), level=3)) * scale < least * _NEAR_REPEATS
    if repeats or len(data) <= _SMALL:
        kind, coded = bytestream.squeeze(data, effort=0 if level == "fast" else 2)
        candidates.append((BlockCodec(kind), coded))
    return min(candidates, key=lambda pair: len(pair[1]))


def _middle(samples: planes.Samples) -> planes.Samples:
    """Take a few whole slices, or the middle rows of large ones, from the middle of a slab."""
    slices, _, rows, _ = samples.shape
    frame_bytes = samples.nbytes // slices
    taken = min(slices, max(2, _SAMPLE_BYTES // frame_bytes))
    start = (slices - taken) // 2
    part = samples[start : start + taken]
    if part.nbytes > 2 * _SAMPLE_BYTES:
        height = min(rows, max(8, rows * 2 * _SAMPLE_BYTES // part.nbytes))
        top = (rows - height) // 2
        part = part[:, :, top : top + height]
    return part
