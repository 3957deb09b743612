"""Planes decoded several at once: the same samples, whatever the number of threads; damage ends all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpushrink.codec.parallel import Team
from gpushrink.codec.volume import decode_slab, encode_slab, wavefront
from gpushrink.codec.volume.geometry import RIGHT
from gpushrink.codec.volume.levels import TAP_SETS
from gpushrink.errors import CorruptError

pytest.importorskip("numba")

PATTERNS = [((1, 2),), ((2, 4),), ((3, 6), (1, 3), (1, 3)), ((0, 0),), ((1, 9), (2, 1)), ((0, 0), (1, 1))]
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let small planes be decoded in parts too."""
    monkeypatch.setattr(wavefront, "_PART_SAMPLES", 16)
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def make(shape: tuple[int, int, int], seed: int, least: int = 0) -> NDArray[np.int16]:
    """Make planes that differ in every corner and edge."""
    draw = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    return (900 + 300 * np.sin(x / 7 + z / 3) * np.cos(y / 5) + draw.normal(0, 9, shape) + least).astype(np.int16)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
    pattern=st.sampled_from(PATTERNS),
    threads=st.integers(2, 5),
    level=st.sampled_from(["fast", "default"]),
    seed=st.integers(0, 999),
)
def test_samples_come_back_whatever_the_number_of_threads(
    shape: tuple[int, int, int], pattern: tuple[tuple[int, int], ...], threads: int, level: str, seed: int
) -> None:
    """In the compiled engine, for any shape and pattern of references."""
    samples = make(shape, seed)
    stored = encode_slab(samples, level=level, references=pattern)
    for many in (1, threads):
        np.testing.assert_array_equal(decode_slab(stored, shape=shape, dtype=np.int16, threads=many), samples)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_reference_engine_takes_threads_too(pattern: tuple[tuple[int, int], ...], level: str) -> None:
    """And gives the same samples."""
    samples = make((7, 21, 34), 5)
    stored = encode_slab(samples, level=level, references=pattern)
    for engine in ("numpy", "numba"):
        found = decode_slab(stored, shape=samples.shape, dtype=np.int16, engine=engine, threads=3)
        np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("busy", [0, 1, 2])
def test_a_team_with_jobs_of_its_own_decodes(busy: int) -> None:
    """Helpers come and go; slabs decoded side by side do not meet."""
    samples = [make((8, 60, 70), seed, 10 * seed) for seed in range(4)]
    stored = [encode_slab(one) for one in samples]
    with Team(3) as team:

        def decode(k: int) -> None:
            with team.at_work():
                found[k] = decode_slab(stored[k], shape=samples[k].shape, dtype=np.int16, threads=team)

        found: dict[int, NDArray[np.int16]] = {}
        threads = [threading.Thread(target=decode, args=(k,)) for k in range(busy + 1)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(PATIENCE)
        for k in range(busy + 1):
            np.testing.assert_array_equal(found[k], samples[k])


@pytest.mark.parametrize("seed", range(40))
def test_damage_ends_all_threads(seed: int) -> None:
    """Nobody waits for a plane that does not come; what is refused is refused as by one thread."""
    samples = make((9, 40, 50), 3)
    stored = bytearray(encode_slab(samples))
    draw = np.random.default_rng(seed)
    for at in draw.integers(len(stored) // 8, len(stored), 1 + seed % 3).tolist():
        stored[at] ^= 1 << int(draw.integers(8))
    outcomes = []
    for threads in (1, 2, 4):
        try:
            outcomes.append(decode_slab(bytes(stored), shape=samples.shape, dtype=np.int16, threads=threads).tobytes())
        except CorruptError as error:
            # Of several damaged planes another may be found first.
            outcomes.append(str(error).split(" plane ")[0].encode())
    assert len(set(outcomes)) == 1


def test_reference_planes_lead_by_more_than_any_tap_reaches() -> None:
    """A line of a plane looks at lines of its reference planes, and at edges that later lines of those fill."""
    reach = 2  # the class looks at the row below
    for taps in TAP_SETS:
        every = [*(tap for stage in taps.plain for tap in stage), *taps.energy]
        every += [tap for stage in taps.feedback for _, tap in stage]
        every += [tap for pair in taps.steps for tap in pair]
        reach = max(reach, *(2 * row + column for role, row, column in every if role))
    assert reach + RIGHT < wavefront.LEAD


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", ">u2", "u1", "i1"])
@pytest.mark.parametrize("shape", [(3, 20, 30), (3, 30, 20), (2, 1, 50), (2, 50, 1), (1, 1, 1)])
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_samples_of_any_type_and_order_come_back(dtype: str, shape: tuple[int, int, int], engine: str) -> None:
    """With a least value of either sign, and of 0, in either order of bytes."""
    limits = np.iinfo(dtype)
    draw = np.random.default_rng(8)
    for least in {limits.min, 0, limits.max - 60}:
        samples = (least + draw.integers(0, 60, shape)).astype(dtype)
        samples.flat[0] = least
        stored = encode_slab(samples, engine=engine)
        found = decode_slab(stored, shape=shape, dtype=dtype, engine=engine)
        assert found.dtype == samples.dtype
        np.testing.assert_array_equal(found, samples)
