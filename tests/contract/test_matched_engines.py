"""The matched stage's two engines: one meaning, the same bytes, the same bytes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpushrink.codec import matched

pytest.importorskip("numba")

PARTS = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda byte, count: bytes([byte]) * count, st.integers(0, 255), st.integers(0, 400)),
    st.builds(
        lambda seed, low, count: np.random.default_rng(seed).integers(low, low + 9, count, dtype=np.uint8).tobytes(),
        st.integers(0, 99), st.integers(0, 240), st.integers(0, 900),
    ),
    st.builds(
        lambda seed, count: np.cumsum(np.random.default_rng(seed).normal(0, 5, count)).astype("<i2").tobytes(),
        st.integers(0, 99), st.integers(0, 400),
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(PARTS, max_size=6), order=st.lists(st.integers(0, 5), max_size=9), effort=st.integers(0, 1))
def test_bytes_of_any_kind_are_the_same_in_both_engines(parts: list[bytes], order: list[int], effort: int) -> None:
    """Both engines write the same bytes, and each gives back what was encoded."""
    data = b"".join(parts + [parts[k] for k in order if k < len(parts)])
    coded = matched.encode(data, engine="numpy", effort=effort)
    assert matched.encode(data, engine="numba", effort=effort) == coded
    for engine in ("numpy", "numba"):
        assert bytes(matched.decode(coded, len(data), engine=engine)) == data


@pytest.mark.parametrize(("content", "effort"), [("samples", 0), ("picture", 1), ("runs", 0), ("noise", 1)])
def test_blocks_that_fill_all_contexts_are_the_same_in_both_engines(content: str, effort: int) -> None:
    """Literals enough for every kind of context to be tried, the byte above among them."""
    draw = np.random.default_rng(11)
    if content == "samples":
        data = (500 + draw.normal(0, 40, 6000)).astype("<u2").tobytes()
    elif content == "picture":
        data = np.cumsum(np.repeat(draw.integers(0, 3, (120, 1)), 100, 1) + draw.integers(0, 2, (120, 100)), axis=0)
        data = data.astype(np.uint8).tobytes()
    elif content == "runs":
        data = np.repeat(draw.integers(0, 9, 7000), draw.integers(1, 5, 7000)).astype(np.uint8).tobytes()
    else:
        data = draw.bytes(9000)
    coded = matched.encode(data, engine="numpy", effort=effort, row=100)
    assert matched.encode(data, engine="numba", effort=effort, row=100) == coded
    for engine in ("numpy", "numba"):
        assert bytes(matched.decode(coded, len(data), engine=engine)) == data


def test_streams_fall_in_the_same_groups_in_both_engines() -> None:
    """What goes into one block does not depend on the engine."""
    draw = np.random.default_rng(1)
    parts = [draw.integers(0, 40 + 80 * (k % 3), 9000 + k, dtype=np.uint8).tobytes() for k in range(5)]
    groups = matched.group_streams(parts, engine="numpy")
    assert matched.group_streams(parts, engine="numba") == groups
    assert len(set(groups)) > 1
