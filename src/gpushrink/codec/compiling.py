"""Compile the volume codec's loops before they are needed, in several processes at once.

numba compiles a function when it is first called, one at a time, and keeps the machine code on disk: some twenty
seconds, once for a machine and a version. Several processes need half of that or less, and it is said beforehand.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from gpushrink.codec.texts import digest_texts

__all__ = ["Purpose", "prepare"]

Purpose = Literal["encode", "decode"]

_log = logging.getLogger("gpushrink")
# What `gpushrink.codec.volume.exercise` can do, and about how many seconds that takes: a process each where there are
# processors enough. Who encodes will mostly prove as well.
_SECONDS: Final[dict[Purpose, dict[str, float]]] = {
    "encode": {"predict": 8, "lines": 8, "fit": 4, "code": 5},
    "decode": {"lines": 8, "read": 3},
}
_PREPARES: Final[dict[Purpose, tuple[Purpose, ...]]] = {"encode": ("encode", "decode"), "decode": ("decode",)}
_MOST_PROCESSES: Final = 4
_LONGEST_S: Final = 180.0
_PROGRAM: Final = (
    "import sys; parts = sys.argv[1].split(','); sys.path[:] = sys.argv[2:]\n"
    "from gpushrink.codec.volume.exercise import exercise; exercise(parts)"
)
_lock = threading.Lock()
_prepared: set[Purpose] = set()


def prepare(purpose: Purpose) -> None:
    """Have compiled what a purpose needs, unless this machine has it; where that fails, numba does it as it goes."""
    if purpose in _prepared:
        return
    with _lock:
        # Whoever comes meanwhile waits: it would compile the same.
        if purpose not in _prepared:
            with suppress(OSError):
                _see_to(purpose)
        _prepared.update(_PREPARES[purpose])


def _see_to(purpose: Purpose) -> None:
    mark = _mark(purpose)
    # Of a program that brings its interpreter along, `sys.executable` is the program.
    if mark is None or mark.exists() or not sys.executable or getattr(sys, "frozen", False):
        return
    # Here: this imports numba, which the command line does without.
    from gpushrink.codec.compiled import can_keep

    if not can_keep():
        seconds = sum(_SECONDS[purpose].values())
        _log.info("compiling, about %d s: no place to keep it was found, NUMBA_CACHE_DIR may name one", seconds)
    elif _compile(purpose):
        mark.parent.mkdir(parents=True, exist_ok=True)
        for one in _PREPARES[purpose]:
            mark.with_suffix(f".{one}").touch()


def _mark(purpose: Purpose) -> Path | None:
    """Return the file that says that it is done; None where there is none."""
    folder = _folder()
    try:
        numba = version("numba")
    except PackageNotFoundError:
        return None
    if folder is None:
        return None
    what = (digest_texts(), numba, sys.version, platform.machine(), _processor())
    name = hashlib.sha256("\0".join(what).encode()).hexdigest()[:16]
    return folder / f"gpushrink-{name}.{purpose}"


def _folder() -> Path | None:
    """Return where numba keeps machine code, or a place that is as good; None where there is no home."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    beside = Path(__file__).parent / "__pycache__"
    if os.access(beside, os.W_OK):
        return beside
    if kept := os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME"):
        return Path(kept) / "gpushrink"
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "gpushrink"
    return None


def _processor() -> str:
    """Name what machine code depends on: machines of one network may share a home."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return "\n".join(
            sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))})
        )
    return platform.processor()


def _compile(purpose: Purpose) -> bool:
    """Let processes exercise the parts of a purpose; tell whether all did."""
    shares = _share_out(_SECONDS[purpose], min(os.cpu_count() or 1, _MOST_PROCESSES))
    longest = max(sum(_SECONDS[purpose][part] for part in share) for share in shares)
    _log.info("compiling for this machine, once: about %d s", longest)
    paths = [os.fspath(path) for path in sys.path]
    processes: list[subprocess.Popen[bytes]] = []
    until = time.monotonic() + _LONGEST_S
    try:
        for share in shares:
            command = [sys.executable, "-c", _PROGRAM, ",".join(share), *paths]
            processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        codes = [process.wait(max(0.0, until - time.monotonic())) for process in processes]
        return not any(codes)
    except (OSError, subprocess.TimeoutExpired):
        return False  # what they have done is done; the rest is compiled when it is called
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _share_out(seconds: dict[str, float], most: int) -> list[Sequence[str]]:
    """Give each process its parts, the longest first to who has least."""
    shares: list[list[str]] = [[] for _ in range(min(most, len(seconds)))]
    for part in sorted(seconds, key=lambda part: -seconds[part]):
        min(shares, key=lambda share: sum(seconds[one] for one in share)).append(part)
    return list(shares)
