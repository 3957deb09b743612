"""The volume codec's two engines: one meaning, the same bytes, the same samples back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpushrink.codec.volume import decode_slab, encode_slab

pytest.importorskip("numba")

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 24), st.integers(1, 24))
DTYPES = st.sampled_from([np.uint8, np.int8, np.uint16, np.int16])
CONTENTS = st.sampled_from(["constant", "noise", "extremes", "smooth", "masked"])


def make(shape: tuple[int, int, int], dtype: type, content: str, seed: int) -> NDArray[np.generic]:
    """Make a slab whose contents are those named, with values at both ends of its type."""
    draw = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    if content == "constant":
        return np.full(shape, draw.integers(limits.min, limits.max, endpoint=True), dtype)
    if content == "noise":
        return draw.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if content == "extremes":
        return np.where(draw.integers(0, 2, shape) == 0, limits.min, limits.max).astype(dtype)
    z, y, x = np.indices(shape)
    wave = 40 + 30 * np.sin(x / 5 + z / 3) * np.cos(y / 4) + draw.normal(0, 2, shape)
    if content == "masked":
        wave = np.where((x - shape[2] // 2) ** 2 + (y - shape[1] // 2) ** 2 < 40, wave, 0)
    return wave.astype(dtype)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(shape=SHAPES, dtype=DTYPES, content=CONTENTS, seed=st.integers(0, 9999), level=st.sampled_from(
    ["fast", "default", "max"]))  # fmt: skip
def test_slab_of_any_shape_type_and_content_is_the_same_in_both_engines(
    shape: tuple[int, int, int], dtype: type, content: str, seed: int, level: str
) -> None:
    """Both engines write the same bytes, and each gives back what was encoded."""
    samples = make(shape, dtype, content, seed)
    stored = encode_slab(samples, level=level, engine="numpy")
    assert encode_slab(samples, level=level, engine="numba") == stored
    for engine in ("numpy", "numba"):
        decoded = decode_slab(stored, shape=shape, dtype=dtype, engine=engine)
        assert decoded.dtype == samples.dtype
        np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("references", [((2, 4),), ((3, 6), (1, 3), (1, 3)), ((0, 0),), ((1, 9), (2, 1))])
@pytest.mark.parametrize("level", ["default", "max"])
def test_slab_with_any_reference_pattern_comes_back(references: tuple[tuple[int, int], ...], level: str) -> None:
    """A reference pattern changes the size of a slab, never its samples."""
    samples = make((11, 19, 26), np.uint16, "smooth", 3)
    stored = encode_slab(samples, level=level, engine="numpy", references=references)
    assert encode_slab(samples, level=level, engine="numba", references=references) == stored
    for engine in ("numpy", "numba"):
        np.testing.assert_array_equal(decode_slab(stored, shape=(11, 19, 26), dtype=np.uint16, engine=engine), samples)


@pytest.mark.parametrize("shape", [(1, 1, 3000), (1, 3000, 1), (2, 2, 700), (40, 1, 1), (3, 130, 150)])
def test_slab_of_extreme_proportions_comes_back(shape: tuple[int, int, int]) -> None:
    """Lines, columns and single samples are slabs like any other."""
    samples = make(shape, np.int16, "smooth", 4)
    stored = encode_slab(samples, engine="numba")
    assert encode_slab(samples, engine="numpy") == stored
    np.testing.assert_array_equal(decode_slab(stored, shape=shape, dtype=np.int16, engine="numba"), samples)
    np.testing.assert_array_equal(decode_slab(stored, shape=shape, dtype=np.int16, engine="numpy"), samples)


@pytest.mark.parametrize("level", ["fast", "default"])
def test_slab_large_enough_for_threads_has_the_same_bytes_whatever_their_number(level: str) -> None:
    """How many threads work on a slab never shows in it, nor does the engine."""
    samples = make((9, 300, 200), np.uint16, "smooth", 5)
    stored = encode_slab(samples, level=level, engine="numba", threads=1)
    assert encode_slab(samples, level=level, engine="numba", threads=3) == stored
    assert encode_slab(samples, level=level, engine="numpy") == stored
    np.testing.assert_array_equal(
        decode_slab(stored, shape=(9, 300, 200), dtype=np.uint16, engine="numba", threads=3), samples
    )


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 3, 63, 64, 65, 200]), min_size=2, max_size=12),
    planes=st.integers(1, 4),
    large=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    threads=st.integers(1, 6),
    seed=st.integers(0, 9999),
)
def test_tokens_and_raw_bits_are_the_same_in_however_many_parts(
    lengths: list[int], planes: int, large: float, threads: int, seed: int
) -> None:
    """Parts end anywhere in a word of raw bits, and some have none."""
    from gpushrink.codec.volume import numba_engine, reference

    draw = np.random.default_rng(seed)
    counts = np.array([draw.permutation(lengths) for _ in range(planes)], np.int64)
    by_plane = draw.integers(0, 64, (planes, sum(lengths))).astype(np.uint16)
    chosen = draw.random(by_plane.shape) < large
    by_plane[chosen] = draw.integers(64, 1 << 16, int(chosen.sum()))
    tokens, raw = numba_engine.split(by_plane, counts, threads=threads)
    wanted, wanted_raw = reference.split(by_plane, counts)
    np.testing.assert_array_equal(tokens, wanted)
    assert raw == wanted_raw


@pytest.mark.parametrize(("dtype", "content"), [(np.uint16, "extremes"), (np.uint16, "noise"), (np.int16, "smooth")])
def test_sums_of_a_fit_are_the_same_in_both_engines(dtype: type, content: str) -> None:
    """Every sum that a fit rests on is exact, even where samples use all their bits."""
    from gpushrink.codec.volume import fit, fit_sums, numba_fit
    from gpushrink.codec.volume.geometry import Layout
    from gpushrink.codec.volume.levels import LEVELS, TAP_SETS

    draw = np.random.default_rng(6)
    # More voxels than are laid out at a time, for each of the threads.
    depth, layout, taps = 4, Layout.raster(150, 130), TAP_SETS[1]
    samples = make((1, 1, depth * layout.size), np.uint16 if dtype == np.int16 else dtype, content, 7).ravel()
    residuals = draw.integers(-32768, 32768, 2 * samples.size).astype(np.int16)
    members = [(z, z - 1, z - 2 if z > 1 else z - 1) for z in range(1, depth)]
    sample = fit.draw_sample(members, layout, LEVELS["default"], 1.0)
    # One class has no voxel.
    classes = draw.choice([0, 1, 2, 4, 5, 6], len(sample.places))
    order, bounds = np.argsort(classes, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(classes))])
    most = 1 << fit.weight_bits(65535, len(sample.places))
    weights = draw.integers(1, most, len(sample.places), endpoint=True).astype(np.int32)

    for one, other in zip(
        fit_sums.measure_activity(sample, samples, True), numba_fit.measure_activity(sample, samples, True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    sums = [
        (
            engine.sum_magnitudes(sample, residuals, samples.size, taps.energy),
            engine.list_magnitudes(sample, samples, residuals, 0, taps.energy, taps.steps),
            engine.sum_products(
                sample,
                samples,
                residuals,
                samples.size,
                taps.plain[1],
                taps.feedback[1],
                weights,
                order,
                bounds,
                threads,
            ),
        )
        for engine, threads in ((fit_sums, 1), (numba_fit, 1), (numba_fit, 3))
    ]
    for wanted, *others in zip(*sums, strict=True):
        for other in others:
            np.testing.assert_array_equal(other, wanted)
    # And exact: the first class's first square in whole numbers of any size.
    west = samples[sample.offsets(taps.plain[1][0])].astype(object)
    first = samples[sample.offsets(taps.plain[1][1])].astype(object) - west
    of_class = order[bounds[0] : bounds[1]]
    exact = sum(int(w) * int(v) ** 2 for w, v in zip(weights[of_class], first[of_class], strict=True))
    assert sums[0][2][0, 0, 0] == exact
