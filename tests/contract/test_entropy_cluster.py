"""Which segments share a table: numpy and the compiled twin decide alike, tables included, and decide well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpushrink.codec.entropy import cluster
from gpushrink.codec.entropy.cluster import costs_of_frequencies
from gpushrink.codec.entropy.cost import FRACTION_BITS
from gpushrink.codec.entropy.tables import SCALE, Tables, frequencies_from_levels

pytest.importorskip("numba")
from gpushrink.codec.entropy import numba_cluster


def make_histograms(seed: int, segments: int, most: int, share: float, alike: bool) -> NDArray[np.int64]:
    """Make counts of at least two symbols a segment, with equal histograms and equal means among them."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, most, (segments, 256)) * (rng.random((segments, 256)) < share)
    if alike:
        found = found[rng.integers(0, max(1, segments // 3), segments)] + rng.integers(0, 2, (segments, 256))
    found[:, 0] += 1
    found[:, rng.integers(1, 256)] += 2
    return found.astype(np.int64)


def assert_same(histograms: NDArray[np.int64]) -> None:
    """Compare all that both decide."""
    expected, found = cluster.cluster(histograms), numba_cluster.cluster(histograms)
    for one, other in zip(expected[:3], found[:3], strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(found[3].frequencies, Tables.from_levels(expected[1]).frequencies)
    assert np.array_equal(found[3].starts, expected[3].starts)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 9999), segments=st.integers(1, 60), most=st.sampled_from([2, 3, 40, 70_000, 1 << 30]),
    share=st.sampled_from([0.02, 0.3, 1.0]), alike=st.booleans(),
)  # fmt: skip
def test_cluster_of_any_histograms_is_the_same(seed: int, segments: int, most: int, share: float, alike: bool) -> None:
    """Owners, levels, frequencies and sizes are those of the reference, whatever the counts."""
    assert_same(make_histograms(seed, segments, most // (segments if most > 1 << 20 else 1), share, alike))


@pytest.mark.parametrize("segments", [511, 512, 513])
def test_cluster_of_many_segments_is_the_same(segments: int) -> None:
    """On both sides of the number that the compiled loops serve."""
    assert_same(make_histograms(segments, segments, 300, 0.1, True))


def test_cluster_puts_together_what_is_alike_and_nothing_else() -> None:
    """Segments of two sources, in turns, end in two tables."""
    rng = np.random.default_rng(3)
    sources = [np.bincount(np.minimum(rng.geometric(p, 9000), 255), minlength=256) for p in (0.5, 0.03) * 5]
    owner, levels, bits, _ = numba_cluster.cluster(np.array(sources, np.int64))
    assert owner.tolist() == [0, 1] * 5
    assert levels.shape == (2, 256)
    ideal = [float((row[row > 0] * np.log2(9000 / row[row > 0])).sum()) for row in sources]
    np.testing.assert_allclose(bits / 2**FRACTION_BITS, ideal, rtol=0.02)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 9), st.sampled_from([1, 2, 9, 200, 65535]))
def test_frequencies_of_many_tables_are_those_of_each_alone(seed: int, tables: int, most: int) -> None:
    """Tables do not look at each other, and the slots of each follow from its frequencies."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, most + 1, (tables, 256)) * (rng.random((tables, 256)) < 0.5)
    levels[:, [3, 200]] = 1, most
    both = frequencies_from_levels(levels)
    assert (both.sum(axis=1) == SCALE).all()
    built = Tables.from_levels(levels)
    for one, row in enumerate(levels):
        assert np.array_equal(frequencies_from_levels(row), both[one])
        assert np.array_equal(built.slots()[one], np.repeat(np.arange(256), both[one]))


def test_costs_of_frequencies_are_logarithms() -> None:
    """A symbol of half the slots costs a bit, one of one slot 14, one of none more than any."""
    costs = costs_of_frequencies()
    assert costs[SCALE // 2] == 1 << FRACTION_BITS
    assert costs[1] == 14 << FRACTION_BITS
    assert costs[SCALE] == 0
    assert costs[0] > 100 * costs[1]
