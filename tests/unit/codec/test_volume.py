"""The volume codec by itself: tokens, edges, sizes and refusals."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gpushrink.codec.volume import choose_references, decode_slab, encode_slab, tokens
from gpushrink.codec.volume.geometry import Layout, resolve_references, wavefront_order
from gpushrink.codec.volume.levels import REACH_STEPS, TAP_SETS


def test_tokens_of_any_value_come_back() -> None:
    """Small values, every power of two and its neighbours, and the largest value survive."""
    powers = 1 << np.arange(1, 30)
    values = np.concatenate([np.arange(300), powers - 1, powers, powers + 1, [tokens.MOST_VALUE]])
    coded, raw = tokens.split(values)
    np.testing.assert_array_equal(tokens.join(coded, raw), values)


def test_tokens_below_64_need_no_raw_bits() -> None:
    """A small value is its own token."""
    coded, raw = tokens.split(np.arange(64))
    assert coded.tolist() == list(range(64))
    assert raw == b""


def test_fold_alternates_signs() -> None:
    """0, -1, 1, -2, 2 become 0, 1, 2, 3, 4, and back."""
    values = np.array([0, -1, 1, -2, 2, -32768, 32767])
    assert tokens.fold(values)[:5].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(tokens.unfold(tokens.fold(values)), values)


def test_taps_keep_to_the_wavefront() -> None:
    """Every neighbour in the plane lies in an earlier line; every one in a reference plane within reach."""
    for whole in TAP_SETS:
        taps = {tap for stage in whole.plain for tap in stage}
        taps |= {tap for stage in whole.feedback for _, tap in stage} | set(whole.energy)
        taps |= {tap for pair in whole.steps for tap in pair}
        for role, row, column in taps:
            line = column + 2 * row
            assert line < 0 if role == 0 else line <= REACH_STEPS
            assert abs(row) <= 2
            assert -3 <= column <= 2


def test_wavefront_order_of_a_small_plane_is_by_line_then_row() -> None:
    """Two rows of three columns: the second row trails the first by two columns."""
    assert wavefront_order(2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert wavefront_order(2, 4).tolist() == [0, 1, 2, 4, 3, 5, 6, 7]


def test_layouts_place_every_padded_sample_inside_the_plane() -> None:
    """No padded sample of either layout lies outside its plane, and no two share a place."""
    for layout in (Layout.raster(5, 7), Layout.wavefront(5, 7)):
        row, column = np.mgrid[-2:7, -3:9]
        places = (layout.origin + row * layout.row_step + column * layout.column_step).ravel()
        assert places.min() >= 0
        assert places.max() < layout.size
        assert len(np.unique(places)) == len(places)


def test_references_that_leave_the_slab_are_none() -> None:
    """The first plane has no reference; the second has one and uses it twice."""
    assert resolve_references(0, ((1, 2),)) is None
    assert resolve_references(1, ((1, 2),)) == (0, 0)
    assert resolve_references(5, ((1, 2),)) == (4, 3)


def test_constant_slab_costs_next_to_nothing() -> None:
    """A slab of one value is stored in fewer than 300 bytes."""
    assert len(encode_slab(np.full((8, 64, 64), 77, np.uint16))) < 300


def test_noise_slab_does_not_swell() -> None:
    """White noise of 16 bits costs at most 2 % more than itself."""
    noise = np.random.default_rng(1).integers(0, 65536, (6, 64, 64)).astype(np.uint16)
    assert len(encode_slab(noise)) < noise.nbytes * 1.02


def test_repeated_planes_cost_little() -> None:
    """A plane that equals the one before costs a small part of what it costs alone."""
    plane = np.random.default_rng(2).normal(500, 50, (1, 64, 64)).astype(np.uint16)
    assert len(encode_slab(np.repeat(plane, 8, axis=0))) < 2.2 * len(encode_slab(plane))


def test_choose_references_finds_interleaved_series() -> None:
    """Planes that alternate between two unlike objects refer to the plane before the last."""
    draw = np.random.default_rng(3)
    one, other = draw.normal(500, 80, (2, 40, 40))
    planes = [(one, other)[z % 2] + draw.normal(0, 3, (40, 40)) for z in range(12)]
    assert choose_references(np.array(planes).astype(np.uint16))[0][0] % 2 == 0


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (1, 1 << 15, 1 << 15)])
def test_encode_slab_of_an_impossible_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Shapes that no slab has are the caller's mistake."""
    with pytest.raises(ValueError, match="three axes"):
        encode_slab(np.broadcast_to(np.zeros((), np.uint16), shape))


def test_decode_slab_to_wide_samples_is_refused() -> None:
    """More than 16 bits a sample is the caller's mistake."""
    with pytest.raises(ValueError, match="8 and 16 bit"):
        decode_slab(b"", shape=(1, 1, 1), dtype=np.int32)


def test_worked_example_of_the_specification_holds() -> None:
    """The hex in docs/format-volume.md decodes to the samples that it names."""
    page = (Path(__file__).parents[3] / "docs" / "format-volume.md").read_text(encoding="utf-8")
    stored = bytes.fromhex(page.split("## Worked example")[1].split("```")[1])
    z, y, x = np.indices((3, 2, 3))
    for engine in ("numpy", "auto"):
        decoded = decode_slab(stored, shape=(3, 2, 3), dtype=np.uint16, engine=engine)
        np.testing.assert_array_equal(decoded, 10 * z + 3 * y + x)


@pytest.mark.parametrize(("level", "threads"), [("fast", 1), ("default", 8), ("max", 1), ("max", 8)])
def test_encode_slab_takes_at_most_six_times_its_memory(level: str, threads: int) -> None:
    """What encoding a slab of full size allocates at its peak, beside the slab, is at most six times its bytes."""
    pytest.importorskip("numba")
    draw = np.random.default_rng(4)
    z, y, x = np.indices((28, 512, 512), np.int32)
    samples = (800 + 300 * np.sin(x / 40 + z / 9) * np.cos(y / 30) + draw.normal(0, 9, x.shape)).astype(np.uint16)
    del z, y, x
    encode_slab(samples[:2, :60, :60], level=level)  # compiles, and fills tables that stay
    tracemalloc.start()
    try:
        encode_slab(samples, level=level, threads=threads)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 6 * samples.nbytes
