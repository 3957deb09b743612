"""The simple volume stage gives every bit pattern back."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushrink.codec import planes
from gpushrink.codec.table import decode_block, encode_slab_as_planes, frames_as_samples, parse_slab_head
from gpushrink.codec.varint import Cursor
from gpushrink.errors import CorruptError, NewerVersionError
from gpushrink.model import BlockCodec, SampleFormat, SlabShape

DTYPES = (np.uint8, np.uint16, np.uint32)


@pytest.mark.parametrize(("axes", "fold"), list(product(range(16), range(2))))
@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_with_every_mask_come_back(dtype: type, axes: int, fold: int) -> None:
    """Each set of axes, folded or not, is undone exactly, extremes beside each other among the samples."""
    rng = np.random.default_rng(axes)
    top = np.iinfo(dtype).max
    samples = rng.integers(0, top, (3, 2, 5, 7), dtype=dtype, endpoint=True)
    samples[0, 0, 0] = (0, top, 0, top // 2, top // 2 + 1, top, 1)
    coded = planes.encode(samples, axes=axes, fold=fold)
    decoded = planes.decode(memoryview(coded), samples.shape, samples.itemsize)
    assert decoded.dtype == samples.dtype
    assert np.array_equal(decoded, samples)


def test_planes_of_all_sixteen_bit_patterns_come_back() -> None:
    """Every value after every kind of neighbour: 2^16 patterns in order, reversed and shuffled."""
    values = np.arange(65536, dtype=np.uint16)
    shuffled = np.random.default_rng(0).permutation(values)
    for line in (values, values[::-1], shuffled):
        samples = line.reshape(4, 1, 128, 128)
        for axes, fold in ((0, 0), (1, 1), (7, 1), (15, 1)):
            coded = planes.encode(samples, axes=axes, fold=fold)
            assert np.array_equal(planes.decode(memoryview(coded), (4, 1, 128, 128), 2), samples)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    st.sampled_from(DTYPES),
    st.integers(0, 15),
    st.integers(0, 1),
    st.randoms(use_true_random=False),
)
def test_planes_of_any_shape_come_back(
    shape: tuple[int, int, int, int], dtype: type, axes: int, fold: int, random: object
) -> None:
    """Axes of one sample are no special case."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    samples = np.frombuffer(random.randbytes(count), dtype).reshape(shape)  # type: ignore[attr-defined]
    coded = planes.encode(samples, axes=axes, fold=fold)
    assert np.array_equal(planes.decode(memoryview(coded), shape, samples.itemsize), samples)


@pytest.mark.parametrize("size", [1, 2, 255, 70_000])
def test_planes_of_one_row_come_back(size: int) -> None:
    """Noise and ramps, from one sample on."""
    for samples in (
        np.random.default_rng(size).integers(0, 65536, (1, 1, 1, size), dtype=np.uint16),
        np.arange(size, dtype=np.uint16).reshape(1, 1, 1, size),
    ):
        coded = planes.encode(samples, axes=1, fold=0)
        assert np.array_equal(planes.decode(memoryview(coded), samples.shape, 2), samples)


def test_drawn_colours_are_smaller_in_planes_than_as_they_lie() -> None:
    """Grey pictures of three components, each copied from the first, cost little more than one component."""
    draw = np.random.default_rng(7)
    grey = np.cumsum(draw.integers(-2, 3, (1, 1, 90, 120)), axis=3).astype(np.uint8)
    one = len(planes.encode(grey, axes=1, fold=1))
    assert len(planes.encode(np.repeat(grey, 3, axis=1), axes=9, fold=1)) < 1.05 * one


@pytest.mark.parametrize("dtype", DTYPES)
def test_choose_finds_the_slice_before_where_slices_are_alike(dtype: type) -> None:
    """Equal noisy slices are predicted from each other; smooth rows from their neighbours."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, np.iinfo(dtype).max, (1, 1, 40, 40), dtype=dtype)
    alike = np.repeat(noise, 4, axis=0) + rng.integers(0, 3, (4, 1, 40, 40), dtype=dtype)
    axes, _, size = planes.choose(alike)
    assert axes & 4
    assert size < alike.nbytes * 0.6
    ramp = np.cumsum(np.ones((2, 1, 64, 64), dtype), axis=3, dtype=dtype) * dtype(3)
    axes, _, size = planes.choose(ramp)
    assert size < ramp.nbytes / 8


def test_decode_of_a_cut_or_changed_slab_is_corrupt_or_a_slab() -> None:
    """Each cut is damage; each changed byte gives our error or an array of the right shape."""
    samples = np.arange(600, dtype=np.uint16).reshape(2, 1, 15, 20)
    coded = planes.encode(samples, axes=3, fold=1)
    for length in range(len(coded)):
        with pytest.raises(CorruptError):
            planes.decode(memoryview(coded[:length]), samples.shape, 2)
    for place in range(len(coded)):
        changed = bytearray(coded)
        changed[place] ^= 0x41
        try:
            assert planes.decode(memoryview(bytes(changed)), samples.shape, 2).shape == samples.shape
        except (CorruptError, NewerVersionError):
            continue
    with pytest.raises(CorruptError):
        planes.decode(memoryview(coded + b"x"), samples.shape, 2)


@pytest.mark.parametrize("head", [b"\x10\0", b"\0\2"])
def test_decode_of_reserved_axes_or_fold_is_refused(head: bytes) -> None:
    """Reserved values are never ignored."""
    with pytest.raises((CorruptError, NewerVersionError)):
        planes.decode(memoryview(head + bytes(100)), (1, 1, 2, 2), 1)


FORMATS = [
    SampleFormat(item, signed, big and item > 1, components, planar and components > 1)
    for item, signed, big, components, planar in product((1, 2, 4), (False, True), (False, True), (1, 3), (False, True))
]


@pytest.mark.parametrize("sample", sorted(set(FORMATS), key=repr), ids=repr)
def test_slab_of_every_sample_format_comes_back(sample: SampleFormat) -> None:
    """Byte order, sign and layout of components are undone; the block is the frames as they were stored."""
    shape = SlabShape(3, 6, 5)
    data = np.random.default_rng(5).integers(0, 256, shape.byte_size(sample), dtype=np.uint8).tobytes()
    coded = encode_slab_as_planes(data, shape, sample, 7, 1)
    assert bytes(decode_block(BlockCodec.PLANES, memoryview(coded), len(data))) == data
    assert frames_as_samples(data, shape, sample).shape == (3, sample.components, 6, 5)


def test_slab_of_another_size_than_its_block_claims_is_corrupt() -> None:
    """Nothing is allocated on the word of a slab head alone."""
    shape, sample = SlabShape(2, 4, 4), SampleFormat(2)
    coded = memoryview(encode_slab_as_planes(bytes(64), shape, sample, 0, 0))
    for claimed in (0, 63, 65, 128):
        with pytest.raises(CorruptError, match="claims"):
            decode_block(BlockCodec.PLANES, coded, claimed)


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"\0\1\1\1\1", CorruptError),
        (b"\1\1\1\0\1", CorruptError),
        (b"\1\1\1\5\1", CorruptError),
        (b"\1\1\1\1\x11", CorruptError),
        (b"\1\1\1\1\x08", CorruptError),
        (b"\x81\x80\x80\x08\1\1\1\1", CorruptError),
        (b"\1\1\1\1\3", NewerVersionError),
        (b"\1\1\1\1\x20", NewerVersionError),
        (b"\1\1\1", CorruptError),
    ],
)
def test_slab_head_out_of_range_is_refused(head: bytes, error: type[Exception]) -> None:
    """Empty and huge axes, contradictions and reserved bits each have their error."""
    with pytest.raises(error):
        parse_slab_head(Cursor(head, "test"))
