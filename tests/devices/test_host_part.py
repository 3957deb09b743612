"""The host's part of a batch: in order, beside each other or not."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gpushrink.devices.cuda import _copy_into, _pinned_size
from gpushrink.devices.host_part import on_host


@pytest.fixture(params=["quick", "slow"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let all work count as quick, or as slow."""
    seconds = 1e9 if request.param == "quick" else 0.0
    monkeypatch.setattr("gpushrink.devices.host_part._WORTHWHILE_SECONDS", seconds)
    return str(request.param)


def test_on_host_gives_results_in_order_and_hands_out_what_takes_long(pace: str) -> None:
    """Quick work stays in the calling thread; slow work does not."""
    threads = set()

    def work(item: int) -> int:
        threads.add(threading.get_ident())
        return item * item

    assert on_host(work, range(20)) == [item * item for item in range(20)]
    assert (threads == {threading.get_ident()}) == (pace == "quick")
    assert on_host(work, []) == []


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize("at", [0, 3])
def test_on_host_raises_what_work_raises(at: int) -> None:
    """Of the first item as of any other."""

    def work(item: int) -> None:
        if item == at:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        on_host(work, range(6))


def test_copies_on_several_processors_lie_one_after_another() -> None:
    """Arrays of all sizes, empty ones and views of two axes among them."""
    rng = np.random.default_rng(4)
    arrays = [rng.integers(0, 1 << 16, size, np.uint16) for size in (3, 0, 5_000_001, 1 << 20)]
    arrays.append(rng.integers(0, 1 << 16, (700, 3000), np.uint16)[100:600])
    target = np.zeros(sum(array.size for array in arrays), np.uint16)
    _copy_into(target, arrays)
    assert (target == np.concatenate([array.ravel() for array in arrays])).all()


def test_page_locked_memory_is_asked_for_in_few_sizes() -> None:
    """Four in each octave, so that memory is used again; never less than is needed, at most a quarter more."""
    sizes = np.unique(np.concatenate([np.arange(1, 300), np.geomspace(300, 1 << 31, 5000).astype(np.int64)])).tolist()
    given = [_pinned_size(size) for size in sizes]
    assert all(size <= found <= max(size, size * 5 // 4 + 1) for size, found in zip(sizes, given, strict=True))
    assert given == sorted(given)
    assert len({found for found in given if 1 << 20 < found <= 1 << 21}) == 4
