"""One round of trials of reference patterns serves a volume, in whatever order threads come."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trees
from gpushrink.codec import volume
from gpushrink.dicom.series import Frame
from gpushrink.model import SampleFormat, SlabShape
from gpushrink.pipeline import api
from gpushrink.pipeline.patterns import Patterns

SAMPLE = SampleFormat(2)
NAME = Frame(0, 100)


def interleaved(depth: int, *, seed: int = 2) -> np.ndarray:
    """Make planes of two kinds in turn, each like the one before the last."""
    rng = np.random.default_rng(seed)
    kinds = [np.cumsum(rng.integers(-9, 10, (48, 48)), axis=axis) + 500 for axis in (0, 1)]
    return np.stack([kinds[k % 2] + rng.integers(0, 3, (48, 48)) for k in range(depth)]).astype(np.uint16)


def choose(patterns: Patterns, planes: np.ndarray, *, first: bool) -> Any:
    """Choose as a job does."""
    with patterns.turn(NAME, first=first) as pattern:
        return pattern.choose(memoryview(planes.tobytes()), SlabShape(*planes.shape), SAMPLE)


def test_others_take_the_first_slab_s_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slab that comes before the first one waits for it; the trials run once."""
    tried, before = [], volume.try_references

    def note(samples: Any, likely: Any) -> Any:
        if likely:
            tried.append(likely)
        return before(samples, likely)

    monkeypatch.setattr(volume, "try_references", note)
    patterns, planes = Patterns(), interleaved(12)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(choose, patterns, planes, first=False) for _ in range(2)]
        threading.Event().wait(0.05)
        first = pool.submit(choose, patterns, planes, first=True)
        found = [future.result(30) for future in (first, *others)]
    assert found[0][0][0] % 2 == 0
    assert found == [found[0]] * 3
    assert len(tried) == 1


def test_slab_in_which_something_else_looks_good_goes_through_trials_of_its_own() -> None:
    """A first slab without a pattern does not hide the pattern of another."""
    patterns = Patterns()
    smooth = np.arange(12)[:, None, None] + interleaved(2)[:1].repeat(12, axis=0)
    assert tuple(choose(patterns, smooth.astype(np.uint16), first=True)) == volume.CHAIN
    assert choose(patterns, interleaved(12), first=False)[0][0] % 2 == 0


@pytest.mark.parametrize("how", ["fails", "stops"])
def test_nobody_waits_for_a_first_slab_that_will_not_come(how: str) -> None:
    """Where the first slab cannot be read, or all is interrupted, those that wait end."""
    patterns = Patterns()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(choose, patterns, interleaved(12), first=False)
        threading.Event().wait(0.05)
        if how == "stops":
            patterns.stop()
        else:
            with pytest.raises(OSError, match="gone"), patterns.turn(NAME, first=True):
                raise OSError("gone")
        with pytest.raises(CancelledError):
            other.result(30)
    with pytest.raises(CancelledError):
        choose(patterns, interleaved(12), first=False)


def test_archive_is_the_same_for_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an interleaved series in many slabs, whose later slabs may come first."""
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 8 * 48 * 48 * 2)
    monkeypatch.setattr("gpushrink.pipeline.plan.SMALL_SLAB", 0)
    (tmp_path / "series").mkdir()
    planes = np.concatenate([interleaved(24), interleaved(24, seed=5), interleaved(2)[:1].repeat(16, axis=0)])
    for k, image in enumerate(planes):
        (tmp_path / "series" / f"{k:02}").write_bytes(trees.dicom_bytes(image, number=k, z=k * 2.0))
    for threads in (1, 2, 8):
        api.pack(tmp_path / "series", tmp_path / f"a{threads}", threads=threads)
    assert len({(tmp_path / f"a{threads}").read_bytes() for threads in (1, 2, 8)}) == 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("threads", [1, 2])
def test_first_slab_that_is_small_comes_before_the_larger_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Slabs of one volume on both sides of the limit for small ones: as many threads as volumes would wait for ever."""
    frame_bytes = 48 * 48 * 2
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 8 * frame_bytes)
    monkeypatch.setattr("gpushrink.pipeline.plan.SMALL_SLAB", 5 * frame_bytes)
    for series in range(3):
        folder = tmp_path / "study" / str(series)
        folder.mkdir(parents=True)
        for k, image in enumerate(interleaved(17, seed=series)):  # slabs of 5, 6 and 6 frames
            data = trees.dicom_bytes(image, number=k, z=k * 2.0, series=f"1.2.{series + 3}")
            (folder / f"{k:02}").write_bytes(data)
    report = api.pack(tmp_path / "study", tmp_path / "a", threads=threads)
    assert report.volumes == 3
