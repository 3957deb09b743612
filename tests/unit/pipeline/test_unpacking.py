"""Slabs are decoded and files proven side by side."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trees
from gpushrink.archive.restorer import Proof
from gpushrink.codec.buffers import Parts
from gpushrink.codec.table import CPU
from gpushrink.errors import CorruptError, DestinationError
from gpushrink.pipeline import api, unpacking


class Meeting:
    """Let the CPU code, but only once so many calls have come together."""

    name = "meeting"

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties, timeout=60)

    def encode(self, stack: Any, **named: Any) -> Parts:
        """Meet, then encode."""
        self.barrier.wait()
        return CPU.encode(stack, **named)

    def decode(self, payload: bytes, **named: Any) -> Any:
        """Meet, then decode."""
        self.barrier.wait()
        return CPU.decode(payload, **named)


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a series of 64 slices that is coded in 16 slabs."""
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 4 * 32 * 32 * 2)
    monkeypatch.setattr("gpushrink.pipeline.plan.SMALL_SLAB", 0)
    monkeypatch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
    (tmp_path / "series").mkdir()
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.integers(-2, 3, (32, 32)), axis=0)
    for k in range(64):
        image = (smooth + rng.integers(500, 503, (32, 32))).astype(np.uint16)
        (tmp_path / "series" / f"{k:02}").write_bytes(trees.dicom_bytes(image, number=k, z=k * 2.0))
    return tmp_path / "series"


def test_sixteen_slabs_of_one_series_meet_in_the_codec(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sixteen threads a codec has sixteen slabs to work on at once, packing and unpacking."""
    monkeypatch.setattr("gpushrink.pipeline.device.open_slab_codec", lambda *_, **__: Meeting(16))
    api.pack(series, tmp_path / "a", threads=16, verify=False)
    assert api.unpack(tmp_path / "a", tmp_path / "out", threads=16).worst() is None
    assert trees.differences(series, tmp_path / "out") == []


def test_proofs_run_beside_each_other(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are hashed and written by several threads."""
    api.pack(series, tmp_path / "a", verify=False)
    barrier, before = threading.Barrier(4, timeout=60), Proof.run

    def meet(self: Proof) -> CorruptError | None:
        barrier.wait()
        return before(self)

    monkeypatch.setattr(Proof, "run", meet)
    assert api.unpack(tmp_path / "a", tmp_path / "out", threads=16).worst() is None
    assert trees.differences(series, tmp_path / "out") == []


@pytest.mark.parametrize("limit", [0, 5000])
def test_proofs_on_their_way_are_bounded(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """However slow the disk is, few bytes wait for it."""
    api.pack(series, tmp_path / "a", verify=False)
    lock, waiting, most = threading.Lock(), [0], [0]
    submit = unpacking.ThreadPoolExecutor.submit

    def count(self: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        future = submit(self, function, *arguments, **named)
        if function is unpacking._run_proofs:
            with lock:
                waiting[0] += len(arguments[0])
                most[0] = max(most[0], waiting[0])
        return future

    end_proof = unpacking.Restorer.end_proof

    def uncount(self: Any, *arguments: Any) -> None:
        waiting[0] -= 1
        end_proof(self, *arguments)

    monkeypatch.setattr(unpacking, "_PROOF_BYTES", limit)
    monkeypatch.setattr(unpacking.ThreadPoolExecutor, "submit", count)
    monkeypatch.setattr(unpacking.Restorer, "end_proof", uncount)
    assert api.unpack(tmp_path / "a", tmp_path / "out", threads=8).worst() is None
    assert most[0] == max(1, limit // (series / "00").stat().st_size)


def test_file_that_cannot_be_written_stops_the_rest_and_leaves_nothing_half(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in a thread that writes reaches the caller; no temporary file stays."""
    api.pack(series, tmp_path / "a", verify=False)
    before = Proof.run

    def refuse(self: Proof) -> CorruptError | None:
        if self.entry.path == b"40":
            raise DestinationError("cannot write '40'")
        return before(self)

    monkeypatch.setattr(Proof, "run", refuse)
    with pytest.raises(DestinationError, match="40"):
        api.unpack(tmp_path / "a", tmp_path / "out", threads=4)
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "40" not in left
    assert all(len(name) == 2 for name in left)
