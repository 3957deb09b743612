"""Every exception gpushrink raises on purpose, with the exit code the command line gives for it.

One class for each thing a caller can do something about. The message says what, where (path,
offset) and what to do next, in one line. Source: the table in docs/errors.md, which a test
compares with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AmbiguousSeriesError",
    "ArchiveError",
    "CorruptError",
    "DestinationError",
    "DeviceUnavailableError",
    "GpushrinkError",
    "InputError",
    "MissingCodecError",
    "NewerVersionError",
    "NotAnArchiveError",
    "TruncatedError",
    "UnsafePathError",
    "UsageError",
    "VerifyError",
]


class GpushrinkError(Exception):
    """Stand at the root of the tree: catch this to catch everything gpushrink means to say."""

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "internal error: please report it, with --debug's output"


class UsageError(GpushrinkError):
    """Say that the caller asked for something that cannot be meant."""

    exit_code = 2
    meaning = "usage: the command line or the arguments are wrong"


class AmbiguousSeriesError(UsageError):
    """Say that a name fits several volumes; the message lists them, and how to choose.

    Attributes
    ----------
    choices
        The volumes (`gpushrink.VolumeInfo`), any of which may be given in the name's place.
    """

    def __init__(self, message: str, choices: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class InputError(GpushrinkError):
    """Say that a source cannot be read, vanished, or changed while it was read."""

    exit_code = 3
    meaning = "input unreadable: a source is missing, may not be read, or changed while being read"


class DestinationError(GpushrinkError):
    """Say that an output cannot be written: it exists, the disk is full, permission is missing."""

    exit_code = 4
    meaning = "output not written: it exists already, the disk is full, or permission is missing"


class ArchiveError(GpushrinkError):
    """Group what can be wrong with an archive that is being read."""

    exit_code = 6
    meaning = "the archive cannot be read"


class NotAnArchiveError(ArchiveError):
    """Say that the bytes do not begin as an archive does."""

    exit_code = 5
    meaning = "not an archive: the file does not begin with gpushrink's magic"


class CorruptError(ArchiveError):
    """Say that stored bytes are not those that were written."""

    exit_code = 6
    meaning = "corrupt: checksums, hashes or structure of the archive do not hold"


class TruncatedError(ArchiveError):
    """Say that the archive ends before its end mark."""

    exit_code = 7
    meaning = "truncated: the archive ends too early"


class NewerVersionError(ArchiveError):
    """Say that the archive needs a newer gpushrink, or uses a value this version reserves."""

    exit_code = 8
    meaning = "newer version: the archive needs a newer gpushrink"


class VerifyError(GpushrinkError):
    """Say that what was written does not give back what was read."""

    exit_code = 9
    meaning = "verify failed: the archive just written does not give the sources back; it was not kept"


class DeviceUnavailableError(GpushrinkError):
    """Say that the device that was asked for cannot be had."""

    exit_code = 10
    meaning = "device unavailable: the device asked for is not there or lacks a library"


class UnsafePathError(GpushrinkError):
    """Say that a stored path or link would leave the destination folder."""

    exit_code = 11
    meaning = "unsafe path: an entry would be written outside the destination; it was refused"


class MissingCodecError(GpushrinkError):
    """Say that an optional codec library is not installed; the message has the pip line."""

    exit_code = 12
    meaning = "codec missing: an optional library is not installed; the message names the pip line"
