"""What the commands print: prose and progress to standard error, data to standard output."""

from __future__ import annotations

import json
import os
import sys
from types import TracebackType

from gpushrink.pipeline.progress import Progress, silent

__all__ = ["exit_codes", "print_json", "progress_bar", "say", "shown", "size_text"]


def say(line: str) -> None:
    """Print a line of prose."""
    print(line, file=sys.stderr)


def print_json(values: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(values, indent=2, ensure_ascii=True))


def shown(path: bytes) -> str:
    """Return a stored path as text that any terminal can show."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def size_text(size: float) -> str:
    """Return a size as people read it, in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.2f} {unit}"
        size /= 1000
    raise AssertionError


def exit_codes(*codes: int) -> str:
    """Return the last paragraph of a help page: what the exit codes mean."""
    from gpushrink import errors

    meanings = {0: "success", 1: errors.GpushrinkError.meaning, 130: "interrupted; nothing half-written is left"}
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind is not errors.ArchiveError:
            meanings.setdefault(kind.exit_code, kind.meaning)
    chosen = sorted({0, 1, 2, 130, *codes})
    return "\b\nExit codes:\n" + "\n".join(f"  {code:<4}{meanings[code]}" for code in chosen)


def progress_bar(total: int, done: int, /) -> Progress:
    """Make a bar with bytes, rate and time left on a terminal, and silence in a pipe."""
    return _Bar(total) if sys.stderr.isatty() else silent(total, done)


class _Bar:
    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("working", total=total or None)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance_to(self, done: int) -> None:
        self._bar.update(self._task, completed=done)

    def phase(self, name: str, total: int) -> None:
        self._bar.update(self._task, description=name, total=total, completed=0)
