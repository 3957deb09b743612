"""Walk the sources: what lies where, in the order of the stored tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpushrink.errors import InputError, UsageError
from gpushrink.model import Entry, EntryKind

__all__ = ["Found", "Walk", "identity_of", "walk_sources"]

# Source: docs/format.md#limits.
_MAX_NAME = 4096
_MAX_ENTRIES = 1 << 22
_MAX_TREE_BYTES = 1 << 28
_MAX_TIME_NS = (1 << 40) * 10**9


@dataclass(frozen=True, slots=True)
class Found:
    """Pair an entry of the tree with where its bytes lie now.

    Parameters
    ----------
    path
        The full path, in bytes.
    identity
        Size, modification time and inode as seen by the walk; another one later means that the file changed.
    """

    entry: Entry
    path: bytes
    identity: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Walk:
    """Hold what was found, in order of stored path, and what was left out with the reason."""

    found: tuple[Found, ...]
    skipped: tuple[tuple[bytes, str], ...]


def walk_sources(sources: Sequence[Path]) -> Walk:
    """List everything below the sources.

    One source folder: paths are relative to it. Several sources, or a file: each under its own name. Symbolic
    links are kept as links; only a source that is itself one is followed. Sockets, pipes and devices have no
    bytes to keep and are left out.

    Raises
    ------
    InputError
        If a source is missing or may not be read.
    UsageError
        If there is no source, two have the same name, or there is more than an archive may hold.
    """
    if not sources:
        raise UsageError("nothing to pack: name at least one file or folder")
    found: dict[bytes, Found] = {}
    skipped: list[tuple[bytes, str]] = []
    roots: list[tuple[bytes, bytes]] = []
    alone = len(sources) == 1 and sources[0].is_dir()
    for source in sources:
        full = os.fsencode(source)
        name = b"" if alone else os.path.basename(os.path.abspath(full))
        if not alone and (not name or any(name == other for other, _ in roots)):
            raise UsageError(f"two sources are named {os.fsdecode(name)!r}; pack the folder that holds them")
        roots.append((name, full))
    for name, full in roots:
        try:
            status = os.stat(full)
        except OSError as error:
            raise InputError(f"cannot read {os.fsdecode(full)!r}: {error.strerror}") from None
        if name:
            _add(found, skipped, name, full, status)
        if stat.S_ISDIR(status.st_mode):
            _walk(found, skipped, name, full)
    if len(found) > _MAX_ENTRIES or sum(len(path) + len(found[path].entry.link) for path in found) > _MAX_TREE_BYTES:
        raise UsageError(f"{len(found)} files are more than one archive holds; pack folders of it apart")
    return Walk(tuple(found[path] for path in sorted(found)), tuple(skipped))


def identity_of(status: os.stat_result) -> tuple[int, int, int]:
    """Return what must stay the same while a file is read."""
    return status.st_size, status.st_mtime_ns, status.st_ino


def _walk(found: dict[bytes, Found], skipped: list[tuple[bytes, str]], prefix: bytes, folder: bytes) -> None:
    stack = [(prefix, folder)]
    while stack:
        at, full = stack.pop()
        try:
            with os.scandir(full) as listing:
                children = list(listing)
        except OSError as error:
            raise InputError(f"cannot list {os.fsdecode(full)!r}: {error.strerror}") from None
        for child in children:
            path = at + b"/" + child.name if at else child.name
            try:
                status = os.lstat(child.path)
            except OSError as error:
                raise InputError(f"cannot look at {os.fsdecode(child.path)!r}: {error.strerror}") from None
            _add(found, skipped, path, child.path, status)
            if stat.S_ISDIR(status.st_mode):
                stack.append((path, child.path))


def _add(
    found: dict[bytes, Found],
    skipped: list[tuple[bytes, str]],
    path: bytes,
    full: bytes,
    status: os.stat_result,
) -> None:
    if len(path) > _MAX_NAME:
        raise InputError(f"the path {os.fsdecode(path)!r} is longer than {_MAX_NAME} bytes")
    mode, kind, size, link = stat.S_IMODE(status.st_mode), EntryKind.FILE, 0, b""
    if stat.S_ISDIR(status.st_mode):
        kind = EntryKind.FOLDER
    elif stat.S_ISLNK(status.st_mode):
        try:
            kind, link = EntryKind.LINK, os.readlink(full)
        except OSError as error:
            raise InputError(f"cannot read the link {os.fsdecode(full)!r}: {error.strerror}") from None
    elif stat.S_ISREG(status.st_mode):
        size = status.st_size
    else:
        skipped.append((path, "a socket, pipe or device: it has no bytes to keep"))
        return
    time_ns = min(max(status.st_mtime_ns, -_MAX_TIME_NS), _MAX_TIME_NS)
    if time_ns != status.st_mtime_ns:
        skipped.append(
            (path, "its modification time is over 30,000 years from 1970 and is stored as the nearest that fits")
        )
    entry = Entry(kind, path.replace(os.sep.encode(), b"/"), mode, time_ns, size, link)
    found[entry.path] = Found(entry, full, identity_of(status))
