"""The parts of the entropy stage: integer logarithms, tables, the bit coder, chunk bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushrink.codec.entropy import binary
from gpushrink.codec.entropy.cost import FRACTION_BITS, log2_fixed
from gpushrink.codec.entropy.layout import range_chunk_bounds, zstd_chunk_bounds
from gpushrink.codec.entropy.tables import SCALE, frequencies_from_levels, levels_from_counts


def test_log2_fixed_of_counts_is_close_and_exact_at_powers() -> None:
    """The integer logarithm is within 2^-15 of the real one and exact at powers of two."""
    values = np.unique(np.geomspace(1, 2**40, 5000).astype(np.int64))
    assert np.abs(log2_fixed(values) / 2**FRACTION_BITS - np.log2(values)).max() < 2**-15
    powers = 1 << np.arange(41, dtype=np.int64)
    assert np.array_equal(log2_fixed(powers), np.arange(41) << FRACTION_BITS)


@given(st.lists(st.sampled_from([0, 0, 1, 2, 3, 50, 4000, 65535]), min_size=254, max_size=254))
def test_frequencies_from_levels_of_any_table_sum_to_scale(rest: list[int]) -> None:
    """Whatever the levels, frequencies sum to 2^14 and exactly the used symbols have one, below 2^14."""
    levels = np.array([1, 65535, *rest], np.int64)
    frequencies = frequencies_from_levels(levels)
    assert frequencies.sum() == SCALE
    assert np.array_equal(frequencies > 0, levels > 0)
    assert frequencies.min() >= 0
    assert frequencies.max() < SCALE


def test_frequencies_from_levels_at_borderline_shares_sum_to_scale() -> None:
    """Shares just below one part, which rounding up overdraws, still come out even."""
    for big in range(100, 140):
        levels = np.array([1] * 127 + [big] * 128 + [2], np.int64)
        frequencies = frequencies_from_levels(levels)
        assert frequencies.sum() == SCALE
        assert frequencies.min() >= 1


def test_levels_from_counts_keep_every_symbol_in_use() -> None:
    """A count above 0 has a level above 0; levels grow as the square root of half the count."""
    counts = np.array([0, 1, 2, 4, 5, 12, 13, 200, 2**31 - 1], np.int64)
    assert levels_from_counts(counts).tolist() == [0, 1, 1, 1, 2, 2, 3, 10, 32768]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 17)), max_size=200))
def test_code_number_written_then_read_returns(numbers: list[tuple[int, int]]) -> None:
    """Numbers of any size, in contexts that share the coder, come back."""
    data, counts = bytearray(20_000), [0] * 2 * 4 * binary.NUMBER_CONTEXTS
    coder = binary.new_coder()
    for context, number in numbers:
        assert binary.code_number(coder, data, counts, context * binary.NUMBER_CONTEXTS, number) == number
    size = binary.finish(coder, data)
    assert data[0] == 0
    stored = bytes(data[1:size]).rstrip(b"\0")
    coder, counts = binary.start_reading(stored), [0] * len(counts)
    for context, number in numbers:
        assert binary.code_number(coder, stored, counts, context * binary.NUMBER_CONTEXTS, 0) == number


@pytest.mark.parametrize("count", [0, 1, 255, 256, 383, 384, 385, 640, 10_000])
def test_range_chunk_bounds_of_any_count_have_no_short_last_chunk(count: int) -> None:
    """Chunks cover everything; unless alone, the last has half to one and a half times the usual size."""
    bounds = range_chunk_bounds(count, 8)
    assert bounds[0] == 0
    assert bounds[-1] == count
    if len(bounds) > 2:
        assert (np.diff(bounds)[:-1] == 256).all()
        assert 128 <= bounds[-1] - bounds[-2] < 384


@pytest.mark.parametrize("count", [0, 1, 65_535, 65_536, 65_537])
def test_zstd_chunk_bounds_of_any_count_cover_it(count: int) -> None:
    """Chunks of 64 KiB, the last shorter, none empty."""
    bounds = zstd_chunk_bounds(count)
    assert bounds[-1] == count
    assert ((np.diff(bounds) > 0) & (np.diff(bounds) <= 65_536)).all()
