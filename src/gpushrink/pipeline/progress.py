"""What the long stories tell while they run; who listens is not their concern."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

__all__ = ["Progress", "ProgressFactory", "silent"]


class Progress(Protocol):
    """Take news of how far a run is, in bytes. A context manager."""

    def __enter__(self) -> Progress:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def advance_to(self, done: int) -> None:
        """Say that `done` bytes are done."""

    def phase(self, name: str, total: int) -> None:
        """Say that another part of the work begins, which has `total` bytes."""


class ProgressFactory(Protocol):
    """Make a `Progress` for a run of `total` bytes, 0 if unknown."""

    def __call__(self, total: int, done: int, /) -> Progress:
        """Make one."""


class _Silence:
    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def advance_to(self, done: int) -> None:
        return None

    def phase(self, name: str, total: int) -> None:
        return None


def silent(total: int, done: int, /) -> Progress:
    """Make a `Progress` that tells nobody."""
    return _Silence()
