"""What an unpack or a verify brought back, and what it did not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from gpushrink.errors import (
    ArchiveError,
    CorruptError,
    GpushrinkError,
    NewerVersionError,
    TruncatedError,
    UnsafePathError,
)

__all__ = ["RestoreReport"]

_MOST_DAMAGE = 1000


@dataclass(slots=True)
class RestoreReport:
    """Say what an unpack or a verify brought back.

    Parameters
    ----------
    files, size
        Proven files and their size.
    failures
        Path and reason for each file, link or folder that was not brought back.
    damage
        What is wrong with the archive itself, in order of place.
    """

    files: int = 0
    folders: int = 0
    links: int = 0
    size: int = 0
    archive_bytes: int = 0
    failures: list[tuple[bytes, GpushrinkError]] = field(default_factory=list)
    damage: list[ArchiveError] = field(default_factory=list)

    def note(self, error: ArchiveError) -> None:
        """Take in damage; of very much, the first thousand and one of each kind are enough to say."""
        error.__traceback__ = error.__context__ = None  # they would keep whole blocks alive
        if len(self.damage) < _MOST_DAMAGE or not any(type(error) is type(known) for known in self.damage):
            self.damage.append(error)

    def worst(self) -> GpushrinkError | None:
        """Return the error that the whole run should end with, or None if all is well."""
        kinds: list[GpushrinkError] = [*self.damage, *(error for _, error in self.failures)]
        for kind in (NewerVersionError, UnsafePathError, TruncatedError, CorruptError):
            found = next((error for error in kinds if isinstance(error, kind)), None)
            if found is not None and not (kind is TruncatedError and _has_corruption(self.damage)):
                lost = f"; {len(self.failures)} entries were not brought back" if self.failures else ""
                return kind(f"{found}{lost}")
        return kinds[0] if kinds else None

    def as_json(self) -> dict[str, object]:
        """Return the report as values that JSON can hold."""
        return {
            "files": self.files,
            "folders": self.folders,
            "links": self.links,
            "bytes": self.size,
            "archive_bytes": self.archive_bytes,
            "failures": [
                {"path": os.fsdecode(path).encode("utf-8", "replace").decode(), "error": str(error)}
                for path, error in self.failures
            ],
            "damage": [str(error) for error in self.damage],
        }


def _has_corruption(damage: Iterable[ArchiveError]) -> bool:
    return any(isinstance(error, CorruptError) for error in damage)
