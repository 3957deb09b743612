"""What a fit solves from its sums: numpy and the compiled twin give the same bits, and what they give is a solution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpushrink.codec.volume import fit, fit_sums, solve

pytest.importorskip("numba")
from gpushrink.codec.volume import numba_fit, numba_solve

many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def make_sums(
    seed: int, classes: int, width: int, span: int, voxels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make normal equations of each class, some of no voxels, some of fewer than taps, with taps that repeat others."""
    rng = np.random.default_rng(seed)
    sums, sizes = np.zeros((classes, width, width + 1), np.int64), rng.integers(0, voxels, classes)
    for one, size in enumerate(sizes.tolist()):
        taps = rng.integers(-span, span + 1, (width, size))
        taps[rng.integers(0, width)] = taps[0]
        target = taps.sum(axis=0) // width + rng.integers(-9, 10, size)
        sums[one] = taps @ np.vstack([taps, target[None]]).T * rng.integers(1, 1000)
    return sums, sizes


@many
@given(
    seed=st.integers(0, 9999), classes=st.integers(1, 40), width=st.integers(1, 60),
    span=st.sampled_from([0, 1, 40, 5000, 65535]), voxels=st.sampled_from([1, 30, 300]),
)  # fmt: skip
def test_solve_stage_of_any_sums_gives_the_same_bits(
    seed: int, classes: int, width: int, span: int, voxels: int
) -> None:
    """Every double is the same, whatever the sums, and finite; what lies below the diagonal is not looked at."""
    sums, sizes = make_sums(seed, classes, width, span, voxels)
    found = solve.solve_stage(sums, sizes)
    assert np.isfinite(found).all()
    assert numba_solve.solve_stage(sums, sizes).tobytes() == found.tobytes()
    row, column = np.tril_indices(width, -1)
    sums[:, row, column] = -1
    assert numba_solve.solve_stage(sums, sizes).tobytes() == found.tobytes()
    assert solve.solve_stage(sums, sizes).tobytes() == found.tobytes()


def test_solve_stage_of_sums_at_their_bound_gives_the_same_bits() -> None:
    """Sums just below 2^63, whose diagonals together are above it, are solved, not wrapped around."""
    width = 40
    sums = np.zeros((2, width, width + 1), np.int64)
    sums[:, np.arange(width), np.arange(width)] = (1 << 62) - 1
    sums[:, :, width] = 1 << 61
    found = solve.solve_stage(sums, np.array([1000, 1000], np.int64))
    np.testing.assert_allclose(found, 0.5, rtol=1e-2)
    assert numba_solve.solve_stage(sums, np.array([1000, 1000], np.int64)).tobytes() == found.tobytes()


def test_solve_stage_recovers_what_the_target_was_made_of() -> None:
    """Classes get their own coefficients, one without voxels the common ones, and a lone class those of all."""
    rng = np.random.default_rng(5)
    wanted = rng.normal(0, 0.3, (3, 12))
    taps = rng.integers(-4000, 4000, (3, 12, 20_000))
    target = np.rint((wanted[:, :, None] * taps).sum(axis=1)).astype(np.int64)
    sums = taps @ np.concatenate([taps, target[:, None]], axis=1).transpose(0, 2, 1)
    sums[2] = 0
    found = solve.solve_stage(sums, np.array([20_000, 20_000, 0], np.int64))
    np.testing.assert_allclose(found[:2], wanted[:2], atol=2e-3)
    np.testing.assert_allclose(found[2], wanted[:2].mean(axis=0), atol=2e-2)
    np.testing.assert_allclose(solve.solve_stage(sums[:1], np.array([20_000], np.int64))[0], wanted[0], atol=1e-3)


@many
@given(
    seed=st.integers(0, 9999), rows=st.integers(1, 27), count=st.integers(1, 3000),
    most=st.sampled_from([0, 1, 30, 3000, 65535]), tied=st.booleans(),
)  # fmt: skip
def test_fit_magnitudes_of_any_magnitudes_gives_the_same_numbers(
    seed: int, rows: int, count: int, most: int, tied: bool
) -> None:
    """Weights and energies are the same, whatever the magnitudes, and weights are within what may be stored."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, most + 1, (rows, count)).astype(np.int32)
    if tied:
        columns[rows // 2] = columns[0]
        columns[:, ::7] = 0
    target = (columns[0] // 2 + rng.integers(0, 3, count) + most * (rng.random(count) < 0.01)).astype(np.int32)
    weights, energies = solve.fit_magnitudes(columns, target)
    assert ((weights >= 0) & (weights <= solve.MOST_WEIGHT)).all()
    twin = numba_solve.fit_magnitudes(columns, target)
    assert np.array_equal(twin[0], weights)
    assert np.array_equal(twin[1], energies)


def test_fit_magnitudes_recovers_non_negative_weights() -> None:
    """Magnitudes that foretell get their weights; those that would count against get none."""
    rng = np.random.default_rng(2)
    columns = rng.integers(0, 400, (4, 20_000)).astype(np.int32)
    target = (0.5 * columns[0] + 0.25 * columns[1] - 0.05 * columns[2] + rng.integers(0, 20, 20_000)).clip(0)
    weights, energies = solve.fit_magnitudes(columns, target.astype(np.int32))
    assert weights[0] == pytest.approx(128, abs=6)
    assert weights[1] == pytest.approx(64, abs=6)
    assert weights[2] == 0
    assert np.array_equal(energies, weights @ columns)


@many
@given(
    seed=st.integers(0, 9999), count=st.integers(1, 400), parts=st.integers(1, 64),
    least=st.sampled_from([0, -7, 1 << 29]), width=st.sampled_from([0, 1, 50, (1 << 16) - 1, 1 << 16, 1 << 30]),
)  # fmt: skip
def test_pick_ordered_of_any_values_gives_the_same(seed: int, count: int, parts: int, least: int, width: int) -> None:
    """Counting and sorting find the same, on both sides of the widest range that is counted."""
    rng = np.random.default_rng(seed)
    values = rng.integers(least, least + width, count, endpoint=True).astype(np.int32)
    values[[0, -1]] = least, least + width
    places = np.arange(parts) * count // parts
    assert np.array_equal(numba_solve.pick_ordered(values, places), np.sort(values)[places])
    assert np.array_equal(solve.pick_ordered(values, places), np.sort(values)[places])


@many
@given(
    noise=st.lists(st.integers(0, 65535 * 18), min_size=1, max_size=200), floor=st.integers(5, 3 * 65535 * 18 + 90),
    bits=st.integers(10, 18),
)  # fmt: skip
def test_weigh_of_any_noise_gives_the_same(noise: list[int], floor: int, bits: int) -> None:
    """Quotients taken in doubles are those of whole numbers."""
    values = np.array(noise, np.int32)
    expected = solve.weigh(values, floor, bits)
    assert np.array_equal(numba_solve.weigh(values, floor, bits), expected)
    exact = [max((((floor << bits) // (10 * one + floor)) ** 2) >> bits, 1) for one in noise]
    assert expected.tolist() == exact


def test_solver_is_the_sums_own_and_the_compiled_one_where_none_is_named() -> None:
    """The numpy engine solves with numpy, the compiled one compiled; a device that names none gets the compiled one."""
    assert fit_sums.solver is solve
    assert numba_fit.solver is numba_solve
    assert fit.find_solver() is numba_solve


@pytest.mark.parametrize("count", [1, 15, 16, 17, 19_999, 20_000, 20_001, 40_016, 260_000, 259_999, 245_777])
def test_list_weighed_lists_every_so_many_th_run(count: int) -> None:
    """Runs are whole but for the last."""
    step = fit.weights_step(count)
    expected = [place for place in range(count) if place // fit.RUN % step == 0]
    assert fit.list_weighed(count).tolist() == expected
