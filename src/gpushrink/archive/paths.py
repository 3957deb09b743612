"""Judge stored paths before anything is written: nothing may leave the destination folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from gpushrink.archive.layout import MAX_PATH
from gpushrink.errors import CorruptError, UnsafePathError
from gpushrink.model import Entry, EntryKind

__all__ = ["check_link", "check_path", "check_tree"]

# Names that Windows gives to devices, whatever the extension, and characters it takes apart or forbids.
_DEVICE = re.compile(
    rb"^(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3])(\..*)?$", re.IGNORECASE | re.DOTALL
)
_FORBIDDEN = re.compile(rb'[<>:"|?*\\\x00-\x1f]|[. ]$')


def check_path(path: bytes, *, windows: bool = os.name == "nt") -> None:
    """Refuse a path that is absolute, climbs, or means something else than a file below the destination.

    Raises
    ------
    UnsafePathError
        If it does. On Windows also for device names, drive letters, streams and backslashes; elsewhere those are
        ordinary names and are restored.
    """
    shown = os.fsdecode(path)
    parts = path.split(b"/")
    if not path or len(path) > MAX_PATH or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise UnsafePathError(f"refused path {shown!r}: it is absolute, climbs, or is malformed")
    if windows:
        for part in parts:
            if _DEVICE.match(part) or _FORBIDDEN.search(part):
                raise UnsafePathError(f"refused path {shown!r}: Windows gives {os.fsdecode(part)!r} another meaning")


def check_link(path: bytes, link: bytes) -> None:
    """Refuse a symbolic link that points, read from where it lies, outside the destination.

    Raises
    ------
    UnsafePathError
        If its target is absolute, or climbs above the destination at any point.
    """
    shown = os.fsdecode(path)
    unified = link.replace(b"\\", b"/") if os.name == "nt" else link
    if not link or b"\0" in link or unified.startswith(b"/") or (os.name == "nt" and b":" in link):
        raise UnsafePathError(f"refused link {shown!r}: its target {os.fsdecode(link)!r} is absolute")
    depth = path.count(b"/")
    for part in unified.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in (b"", b"."):
            depth += 1
        if depth < 0:
            raise UnsafePathError(f"refused link {shown!r}: its target {os.fsdecode(link)!r} leaves the folder")


def check_tree(entries: Mapping[int, Entry]) -> dict[int, Exception]:
    """Judge a whole tree and return what is refused, by id.

    Beside each path and link by itself: every parent must be a stored folder (so never a link), and no path may
    come twice.
    """
    folders = {entry.path for entry in entries.values() if entry.kind is EntryKind.FOLDER}
    refused: dict[int, Exception] = {}
    seen: set[bytes] = set()
    for entry_id, entry in entries.items():
        try:
            check_path(entry.path)
            if entry.kind is EntryKind.LINK:
                check_link(entry.path, entry.link)
            if entry.path in seen:
                raise CorruptError(f"path {os.fsdecode(entry.path)!r} is stored twice")
            parent = entry.path.rpartition(b"/")[0]
            if parent and parent not in folders:
                raise CorruptError(f"path {os.fsdecode(entry.path)!r} has no stored parent folder")
        except (UnsafePathError, CorruptError) as error:
            refused[entry_id] = error
        seen.add(entry.path)
    return refused
