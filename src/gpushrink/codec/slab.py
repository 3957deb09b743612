"""Code a slab of frames with whichever stage comes out smallest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpushrink.codec import bytestream, planes
from gpushrink.codec.buffers import Parts, size_of
from gpushrink.codec.parallel import Threads, run_over
from gpushrink.codec.table import (
    CPU,
    References,
    SlabCodec,
    choose_slab_references,
    encode_slab_as_planes,
    encode_slab_as_volume,
    frames_as_samples,
)
from gpushrink.model import BlockCodec, SampleFormat, SlabShape

__all__ = ["LEVELS", "SLAB_BYTES", "encode_slab", "slab_ranges"]

LEVELS = ("fast", "default", "max")

SLAB_BYTES = 16 << 20
SLAB_FRAMES = 256
# What is sampled of a slab, and of that for a first look; of large slabs, where simple stages seldom come near, less.
_SAMPLE_BYTES, _GLANCE_BYTES = 1 << 17, 1 << 15
_LARGE_SAMPLE_BYTES, _LARGE_GLANCE_BYTES = 1 << 16, 1 << 14
_LIKELY = 2
# A simple stage is tried in full where Zstandard comes this near to the volume codec on a sample. The matched stage is
# a little better than Zstandard on noise, and much on what is drawn: what repeats itself as it lies. Of large slabs the
# trial takes as long as the volume codec, and what it wins there it wins by far.
_NEAR = 1.03
_NEAR_DRAWN = 1.25
_NEAR_LARGE = 1.0
_DRAWN = 1.3
_LARGE = 4 << 20
# Bytes as they lie are better than planes where Zstandard finds them so by this much.
_CLEARLY = 0.97
_BANDS = 6
_BAND_ROWS = 4


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
    data: bytes | memoryview,
    shape: SlabShape,
    sample: SampleFormat,
    *,
    level: str,
    references: References | None = None,
    slab_codec: SlabCodec = CPU,
    threads: Threads = 1,
) -> tuple[BlockCodec, Parts]:
    """Code a slab with the volume codec, or with a simple stage where that comes out smaller.

    Parameters
    ----------
    data
        The frames one after another, as stored.
    level
        "fast", "default" or "max": how much the volume codec tries.
    references
        What `choose_slab_references` found for this slab or one like it; None to look for it here.
    slab_codec
        What runs the volume codec; all give the same bytes.
    threads
        How many processors it may use; never changes the bytes.

    Returns
    -------
    tuple of BlockCodec and the parts of what it gives
        Never longer than `data`.
    """
    candidates: list[tuple[BlockCodec, Parts]] = [(BlockCodec.STORED, (data,))]
    measured: list[tuple[float, _Sizes]] = []

    def code() -> None:
        pattern = choose_slab_references(data, shape, sample)[1] if references is None else references
        coded = encode_slab_as_volume(
            data, shape, sample, level, references=pattern, slab_codec=slab_codec, threads=threads
        )
        candidates.append((BlockCodec.VOLUME, coded))

    def measure() -> None:
        measured.append(_measure(data, shape, sample))

    run_over(lambda do: do(), [code, measure] if sample.item_bytes <= 2 else [measure], threads=threads)
    scale, sizes = measured[0]
    bound = size_of(candidates[-1][1]) / scale
    near = _NEAR_DRAWN if sizes.lying < bound * _DRAWN else _NEAR
    if len(data) > _LARGE:
        near = _NEAR_LARGE
    lying = sizes.lying < sizes.planes * _CLEARLY
    # Where there is time, both ways are gone.
    if sizes.planes < bound * near and not (lying and level == "fast"):
        coded = encode_slab_as_planes(data, shape, sample, sizes.axes, sizes.fold)
        candidates.append((BlockCodec.PLANES, (coded,)))
    if sizes.lying < bound * near and (lying or level != "fast"):
        kind, coded = bytestream.squeeze(data, effort={"fast": 0, "default": 3}.get(level, 4))
        candidates.append((BlockCodec(kind), (coded,)))
    best, least = min(candidates, key=lambda pair: size_of(pair[1]))
    return best, least


class _Sizes(NamedTuple):
    """Hold what Zstandard makes of a sample: as it lies in the file, and in its best planes."""

    lying: int
    planes: int
    axes: int
    fold: int


def _measure(data: bytes | memoryview, shape: SlabShape, sample: SampleFormat) -> tuple[float, _Sizes]:
    """Return how many times the slab is a sample of it, and the sizes of the sample."""
    samples = frames_as_samples(data, shape, sample)
    large = len(data) > _LARGE
    part = _sample(samples, _LARGE_SAMPLE_BYTES if large else _SAMPLE_BYTES)
    stored = part if sample.planar else part.transpose(0, 2, 3, 1)
    glance = _sample(samples, _LARGE_GLANCE_BYTES if large else _GLANCE_BYTES)
    # Which differences are best shows in little; how good they are does not.
    likely = planes.shortlist(glance, _LIKELY) if 2 * glance.nbytes < part.nbytes else planes.CHOICES
    axes, fold, size = planes.choose(part, likely)
    return len(data) / part.nbytes, _Sizes(len(bytestream.zstd_compress(stored.tobytes(), level=3)), size, axes, fold)


def _sample(samples: planes.Samples, size: int) -> planes.Samples:
    """Take about so many bytes: a few whole slices from the middle of a slab, of large ones some bands of rows."""
    slices, _, rows, _ = samples.shape
    frame_bytes = samples.nbytes // slices
    taken = min(slices, max(2, size // frame_bytes))
    start = (slices - taken) // 2
    part = samples[start : start + taken]
    if part.nbytes <= 2 * size:
        return part
    # Drawings are not the same from top to bottom.
    height = max(_BAND_ROWS, rows * 2 * size // part.nbytes // _BANDS)
    count = max(1, min(_BANDS, rows // height))
    tops = [(2 * k + 1) * rows // (2 * count) - height // 2 for k in range(count)]
    return np.concatenate([part[:, :, top : top + height] for top in tops], axis=2)
