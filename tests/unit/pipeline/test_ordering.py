"""Jobs run side by side, come out in order, and stay within their memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trees
from gpushrink.dicom import source as source_module
from gpushrink.model import Role
from gpushrink.pipeline import api, coding, ordering
from gpushrink.pipeline.coding import Coded
from gpushrink.pipeline.ordering import run_in_order
from gpushrink.pipeline.plan import BytesJob, Piece

LARGE_SLAB = 16 << 20


def job(number: int, size: int = LARGE_SLAB) -> BytesJob:
    """Make a job that names itself by its file."""
    return BytesJob(Role.OPAQUE, (Piece(number, 0, size),), ())


class Runner:
    """Stand in for a `Coder`: each job calls `work` with its number."""

    def __init__(self, work: Any, size: int = 1) -> None:
        self.work, self.size = work, size

    def run(self, one: BytesJob) -> list[Coded]:
        """Work, and give a payload that names the job."""
        number = one.pieces[0].file_id
        self.work(number)
        return [Coded((bytes([number]) * self.size,))]

    def size_of(self, file_id: int) -> int:
        """Claim that no file is long."""
        return 0

    def stop(self) -> None:
        """Keep nobody waiting."""


def numbers(runner: Runner, jobs: list[BytesJob], *, threads: int, ahead: int) -> list[int]:
    """Run jobs and name what came out."""
    with ThreadPoolExecutor(threads) as pool:
        found = run_in_order(pool, iter(jobs), runner, ahead=ahead)  # type: ignore[arg-type]
        return [coded.parts[0][0] for coded in found]


def test_sixteen_large_slabs_are_coded_at_once() -> None:
    """Sixteen threads have sixteen slabs in hand: none waits for memory that others are promised."""
    barrier = threading.Barrier(16, timeout=30)
    assert numbers(Runner(lambda _: barrier.wait()), [job(k) for k in range(32)], threads=16, ahead=32) == list(
        range(32)
    )


def test_slow_job_does_not_stop_those_behind_it() -> None:
    """What is done waits for its turn without holding up the next ones."""
    gone = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            assert gone.wait(30)
        elif number == 40:
            gone.set()

    assert numbers(Runner(work), [job(k) for k in range(48)], threads=4, ahead=8) == list(range(48))
    assert gone.is_set()


@pytest.mark.parametrize(("value", "most"), [(3 * LARGE_SLAB, 3), (1, 1)])
def test_bytes_on_their_way_are_bounded(monkeypatch: pytest.MonkeyPatch, value: int, most: int) -> None:
    """However many threads there are, the source bytes of jobs at work stay below the limit, one job excepted."""
    monkeypatch.setattr(ordering, "_FLIGHT_BYTES", value)
    monkeypatch.setattr(ordering, "_FLIGHT_BYTES_EACH", 0)
    lock, now, seen = threading.Lock(), [0], [0]

    def work(_: int) -> None:
        with lock:
            now[0] += 1
            seen[0] = max(seen[0], now[0])
        threading.Event().wait(0.005)
        with lock:
            now[0] -= 1

    assert numbers(Runner(work), [job(k) for k in range(24)], threads=8, ahead=16) == list(range(24))
    assert seen[0] == most


def test_coded_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a slow job no more is begun than the bytes that may wait for it."""
    monkeypatch.setattr(ordering, "_WAITING_BYTES", 1000)
    monkeypatch.setattr(ordering, "_WAITING_BYTES_EACH", 1250)
    begun: list[int] = []
    at_release: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            threading.Event().wait(0.3)
            at_release.append(len(begun))

    assert numbers(Runner(work, size=1000), [job(k) for k in range(60)], threads=4, ahead=8) == list(range(60))
    assert at_release[0] <= 6 + 8


def test_error_of_a_job_comes_in_its_turn() -> None:
    """What lies before a job that fails is given first."""

    def work(number: int) -> None:
        if number == 3:
            raise ValueError("three")

    out: list[int] = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="three"):
        runner: Any = Runner(work)
        found = run_in_order(pool, iter([job(k) for k in range(9)]), runner, ahead=4)
        out.extend(coded.parts[0][0] for coded in found)
    assert out == [0, 1, 2]


def _series(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(7)
    for k in range(count):
        image = rng.integers(0, 900, (64, 64)).astype(np.uint16)
        (folder / f"{k:03}").write_bytes(trees.dicom_bytes(image, number=k, z=k * 2.0))


def test_slices_are_opened_by_the_scan_and_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Header, pixel data and hash of a slice take one reading beside the scan's."""
    _series(tmp_path / "series", 20)
    opened: list[bytes] = []

    def note(path: Any, *rest: Any, **options: Any) -> Any:
        opened.append(path)
        return open(path, *rest, **options)

    monkeypatch.setattr(source_module, "open", note, raising=False)
    report = api.pack(tmp_path / "series", tmp_path / "a.gsz")
    assert report.verified
    assert sorted(opened.count(path) for path in set(opened)) == [2] * 20


@pytest.mark.parametrize("threads", [1, 3])
def test_long_files_are_hashed_once_and_before_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """The hash of a file in several blocks does not wait for the last of them, and changes nothing."""
    movie = np.random.default_rng(8).integers(0, 900, (40, 64, 64)).astype(np.uint16)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "movie").write_bytes(trees.dicom_bytes(movie, frames=40))
    (tmp_path / "study" / "noise").write_bytes(np.random.default_rng(9).bytes(100_000))
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 4 * 64 * 64 * 2)
    monkeypatch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
    monkeypatch.setattr("gpushrink.pipeline.plan.SMALL_SLAB", 0)
    api.pack(tmp_path / "study", tmp_path / "late", threads=threads)
    monkeypatch.setattr(ordering, "_LONG_HASH", 50_000)
    events: list[str] = []
    hash_file, encode_slab = coding.hash_file, coding.encode_slab

    def note_hash(found: Any) -> bytes:
        events.append(found.path.decode().rpartition("/")[2])
        return hash_file(found)

    def note_slab(*arguments: Any, **named: Any) -> Any:
        events.append("slab")
        return encode_slab(*arguments, **named)

    monkeypatch.setattr(coding, "hash_file", note_hash)
    monkeypatch.setattr(coding, "encode_slab", note_slab)
    report = api.pack(tmp_path / "study", tmp_path / "early", threads=threads)
    assert report.verified
    assert (tmp_path / "early").read_bytes() == (tmp_path / "late").read_bytes()
    assert sorted(event for event in events if event != "slab") == ["movie", "noise"]
    assert events.count("slab") == 10
    assert events.index("movie") < 6
