"""The fit's sums are exact: whole numbers within bounds, whatever the samples, in whatever order they are added."""

from __future__ import annotations

import numpy as np
import pytest

from gpushrink.codec.volume.fit import floor_of, weight_bits
from gpushrink.codec.volume.levels import LEVELS, Level
from gpushrink.codec.volume.products import multiply_exactly
from gpushrink.codec.volume.solve import weigh


def every_level() -> list[Level]:
    """List all ways of encoding that any level tries."""
    return [way for level in LEVELS.values() for way in (level, *level.rivals)]


@pytest.mark.parametrize("bits", range(17))
def test_weight_bits_keep_every_sum_in_bounds(bits: int) -> None:
    """The largest differences, weights and samples that can be stay within 31, 53 and 63 bits."""
    count = max(level.fit_most for level in every_level())
    for span in {(1 << bits) - 1, (1 << bits) // 2}:
        largest = 1 << weight_bits(span, count)
        assert largest >= 1 << 10
        assert span * largest < 1 << 31
        assert span * span * largest * 512 < 1 << 53
        assert span * span * largest * count < 1 << 63


def test_multiply_exactly_worst_samples_equals_whole_numbers() -> None:
    """Products at the bound sum to what whole numbers of any size give, and a shuffled order changes nothing."""
    rng = np.random.default_rng(1)
    span, count = 65535, 70_001
    left = rng.choice([-span, span, span - 1, 0, 1], (3, count))
    weighed = left * (1 << weight_bits(span, count)) - rng.integers(0, 2, (3, count))
    expected = [[sum(int(a) * int(b) for a, b in zip(one, other, strict=True)) for other in weighed] for one in left]
    found = multiply_exactly(left.astype(np.float64), weighed.astype(np.float64))
    assert found.dtype == np.int64
    assert found.tolist() == expected
    order = rng.permutation(count)
    again = multiply_exactly(left[:, order].astype(np.float64), weighed[:, order].astype(np.float64))
    assert again.tolist() == expected


def test_weigh_falls_with_the_square_of_the_noise() -> None:
    """The quietest voxel weighs 2^bits, one of ten times the floor about a hundredth, the noisiest still 1."""
    noise = np.array([0, 90, 10_000_000] + [100] * 4, np.int32)
    floor = floor_of(noise, 18)
    assert floor == 3 * 100 + 5 * 18
    weights = weigh(noise, floor, 18)
    assert weights[0] == 1 << 18
    assert weights[2] == 1
    assert weights[1] == pytest.approx((1 << 18) * (floor / (floor + 900)) ** 2, rel=1e-3)
