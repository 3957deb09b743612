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
