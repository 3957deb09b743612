"""What numba keeps on disk is used for the texts that it was made of, and for no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

_INNER = """from gpushrink.codec.compiled import compiled

FACTOR = {factor}


@compiled()
def scaled(value):
    return value * FACTOR
"""

_OUTER = """import inner
from gpushrink.codec import compiled


@compiled.compiled()
def doubled(value):
    return 2 * inner.scaled(value)


print(doubled(3), sum(doubled.stats.cache_hits.values()))
"""


def _run(folder: Path) -> list[str]:
    """Run the outer module in a process of its own, with the package's digest taken over the folder."""
    code = f"""
import sys
sys.path.insert(0, {str(folder)!r})
from pathlib import Path
from gpushrink.codec import texts
texts.__file__ = {str(folder / "texts.py")!r}
import outer
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    ran = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=200
    )
    return ran.stdout.split()


def test_kernel_is_compiled_anew_when_one_it_calls_has_changed(tmp_path: Path) -> None:
    """The second run takes the kernel from the disk; a change in the module it calls into is seen at once."""
    (tmp_path / "outer.py").write_text(_OUTER)
    (tmp_path / "inner.py").write_text(_INNER.format(factor=10))
    assert _run(tmp_path) == ["60", "0"]
    assert _run(tmp_path) == ["60", "1"]
    (tmp_path / "inner.py").write_text(_INNER.format(factor=100))
    assert _run(tmp_path) == ["600", "0"]


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "directory"])
def test_damaged_cache_costs_time_once(tmp_path: Path, kind: str, damage: str) -> None:
    """What a power failure leaves is as good as nothing; the run that finds it writes it anew, where it can."""
    (tmp_path / "outer.py").write_text(_OUTER)
    (tmp_path / "inner.py").write_text(_INNER.format(factor=10))
    assert _run(tmp_path) == ["60", "0"]
    files = list((tmp_path / "cache").rglob(kind))
    assert files
    for file in files:
        size = file.stat().st_size
        if damage == "directory":  # neither read nor replaced, whoever asks
            file.unlink()
            (file / "in the way").mkdir(parents=True)
        else:
            file.write_bytes({"empty": b"", "cut": file.read_bytes()[: size // 2], "zeros": bytes(size)}[damage])
    assert _run(tmp_path) == ["60", "0"]
    if damage != "directory":
        assert _run(tmp_path) == ["60", "1"]


def test_code_of_another_signature_is_not_taken(tmp_path: Path) -> None:
    """Two processes that wrote at once may have left one's code under the other's name."""
    (tmp_path / "inner.py").write_text(_INNER.format(factor=10))
    (tmp_path / "outer.py").write_text(_OUTER.replace("doubled(3), ", "doubled(3), doubled(0.5), "))
    assert _run(tmp_path) == ["60", "10.0", "0"]
    assert _run(tmp_path) == ["60", "10.0", "2"]
    one, other = sorted((tmp_path / "cache").rglob("outer.doubled*.nbc"))
    one.write_bytes(other.read_bytes())
    assert _run(tmp_path) == ["60", "10.0", "1"]
    assert _run(tmp_path) == ["60", "10.0", "2"]


def test_nowhere_to_keep_machine_code_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lets nothing be written compiles each time."""
    import numba

    from gpushrink.codec.compiled import compiled

    njit = numba.njit

    def refuse(*args: object, **options: object) -> object:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*args, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    assert compiled()(lambda value: value + 1)(3) == 4
