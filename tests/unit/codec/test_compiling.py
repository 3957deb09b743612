"""What is compiled beforehand: all that is needed, once, and never at the price of an error."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from gpushrink.codec import compiling

pytest.importorskip("numba")

from gpushrink.codec import compiled  # noqa: E402 - needs numba

LONGEST_S = 300.0


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin with nothing prepared, and no mark."""
    monkeypatch.setattr(compiling, "_prepared", set())
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.fspath(tmp_path / "kept"))


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run a program of no effect in place of the one that compiles; collect the parts it was to exercise."""
    lists: list[list[str]] = []
    popen = subprocess.Popen

    def begin(command: list[str], **options: Any) -> Any:
        lists.append(command[3].split(","))
        return popen([sys.executable, "-c", ""], **options)

    monkeypatch.setattr(subprocess, "Popen", begin)
    return lists


@pytest.mark.parametrize("processors", [1, 2, 3, 8, None])
def test_each_part_is_exercised_once(
    begun: list[list[str]], monkeypatch: pytest.MonkeyPatch, processors: int | None
) -> None:
    """By as many processes as there are processors, four at most."""
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    compiling.prepare("encode")
    assert sorted(part for parts in begun for part in parts) == ["code", "fit", "lines", "predict"]
    assert len(begun) == min(processors or 1, 4)


def test_a_machine_is_prepared_once(
    begun: list[list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, too; another process sees the mark."""
    caplog.set_level(logging.INFO, "gpushrink")
    for _ in range(3):
        compiling.prepare("decode")
        monkeypatch.setattr(compiling, "_prepared", set())
    assert sorted(part for parts in begun for part in parts) == ["lines", "read"]
    assert [record.getMessage()[:30] for record in caplog.records] == ["compiling for this machine, on"]


def test_other_texts_are_compiled_again(begun: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark is worth nothing for another version."""
    compiling.prepare("decode")
    first = len(begun)
    monkeypatch.setattr(compiling, "_prepared", set())
    monkeypatch.setattr(compiling, "digest_texts", lambda: "another")
    compiling.prepare("decode")
    assert len(begun) == 2 * first > 0


def test_failure_leaves_the_work_to_numba(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No error and no mark: whoever comes next tries again."""
    monkeypatch.setattr(compiling, "_PROGRAM", "raise SystemExit(3)")
    compiling.prepare("encode")
    assert not (tmp_path / "kept").exists()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no processes")

    monkeypatch.setattr(compiling, "_prepared", set())
    monkeypatch.setattr(subprocess, "Popen", refuse)
    compiling.prepare("encode")
    assert not (tmp_path / "kept").exists()


def test_nothing_is_begun_where_nothing_can_be_kept(
    begun: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What processes compile would be lost with them; it is said what takes so long, and what helps."""
    monkeypatch.setattr(compiled, "can_keep", lambda: False)
    with caplog.at_level(logging.INFO, "gpushrink"):
        compiling.prepare("encode")
    assert begun == []
    assert "NUMBA_CACHE_DIR" in caplog.text
    assert not list(tmp_path.rglob("gpushrink-*"))


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the longest time that compiling may take."""
    monkeypatch.setattr(compiling, "_LONGEST_S", 0.2)
    monkeypatch.setattr(compiling, "_PROGRAM", "import time; time.sleep(600)")
    compiling.prepare("decode")
    assert not (tmp_path / "kept").exists()


def test_nothing_is_left_to_compile() -> None:
    """What slabs of any level and type call has been called by the exercise, with the same types."""
    program = textwrap.dedent(
        """
        import numpy as np
        from numba.core import event
        from gpushrink.codec.volume import decode_slab, encode_slab

        class Listener(event.Listener):
            def on_start(self, event):
                compiled.append(event.data["dispatcher"].py_func.__qualname__)

            def on_end(self, event):
                pass

        compiled = []
        event.register("numba:compile", Listener())
        draw = np.random.default_rng(3)
        for dtype, top in ((np.uint8, 255), (np.int8, 127), (np.uint16, 65535), (np.int16, 3000)):
            for level in ("fast", "default", "max"):
                for shape in ((2, 40, 30), (5, 30, 44)):
                    wave = np.cumsum(draw.normal(0, top / 60, shape), axis=2)
                    samples = np.clip(wave, 0, top).astype(dtype)
                    found = decode_slab(encode_slab(samples, level=level), shape=shape, dtype=dtype)
                    assert (found == samples).all()
        print(*compiled)
        """
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_who_has_packed_can_unpack(begun: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that only decodes has nothing to compile."""
    compiling.prepare("encode")
    count = len(begun)
    monkeypatch.setattr(compiling, "_prepared", set())
    compiling.prepare("decode")
    assert len(begun) == count > 0
