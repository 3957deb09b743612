"""Judge stored paths before anything is written: nothing may leave the destination folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence

from gpushrink.archive.layout import MAX_PATH
from gpushrink.errors import CorruptError, GpushrinkError, UnsafePathError
from gpushrink.model import Entry, EntryKind

__all__ = ["check_link", "check_path", "check_tree"]

# Systems give up after 63 links at most.
_MAX_HOPS = 64
# Parts of paths that all links of a tree together may lead through, for each link and besides: those of a real tree
# lead through a few, and a few bytes of archive can hold links that lead through a hundred thousand each.
_STEPS_A_LINK, _STEPS = 64, 1 << 20

# Names that Windows gives to devices, whatever the extension, and characters it takes apart or forbids.
_DEVICE = re.compile(
    rb"^(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)([0-9]|\xc2[\xb9\xb2\xb3])) *(\..*)?$",
    re.IGNORECASE | re.DOTALL,
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
    shown = path.decode("utf-8", "backslashreplace")
    parts = path.split(b"/")
    if not path or len(path) > MAX_PATH or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise UnsafePathError(f"refused path {shown!r}: it is absolute, climbs, or is malformed")
    if windows:
        try:
            path.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise UnsafePathError(f"refused path {shown!r}: Windows can only hold names that are UTF-8") from None
        for part in parts:
            if _DEVICE.match(part) or _FORBIDDEN.search(part):
                raise UnsafePathError(f"refused path {shown!r}: Windows gives one of its names another meaning")


def check_link(path: bytes, link: bytes, *, windows: bool = os.name == "nt") -> None:
    """Refuse a symbolic link that points, read from where it lies, outside the destination.

    Raises
    ------
    UnsafePathError
        If its target is absolute, or climbs above the destination at any point.
    """
    shown, target = path.decode("utf-8", "backslashreplace"), link.decode("utf-8", "backslashreplace")
    unified = link.replace(b"\\", b"/") if windows else link
    if not link or b"\0" in link or unified.startswith(b"/") or (windows and b":" in link):
        raise UnsafePathError(f"refused link {shown!r}: its target {target!r} is absolute or malformed")
    depth = path.count(b"/")
    for part in unified.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in (b"", b"."):
            depth += 1
        if depth < 0:
            raise UnsafePathError(f"refused link {shown!r}: its target {target!r} leaves the folder")


def check_tree(
    entries: Mapping[int, Entry], *, one_case: bool = False, windows: bool = os.name == "nt"
) -> dict[int, GpushrinkError]:
    """Judge a whole tree and return what is refused, by id.

    Beside each path and link by itself: every parent must be a stored folder that is not refused itself (so never a
    link), no path may come twice, and no link may leave the destination by way of other links.

    Parameters
    ----------
    one_case
        The destination takes names for the same that differ in case or Unicode form only; the second is refused.
    windows
        Judge names as Windows does.
    """
    refused: dict[int, GpushrinkError] = {}
    kept: dict[bytes, Entry] = {}
    names: set[str] = set()
    # In order of path every folder comes before what it holds.
    for entry_id, entry in sorted(entries.items(), key=lambda pair: (pair[1].path, pair[0])):
        try:
            check_path(entry.path, windows=windows)
            if entry.path in kept:
                raise CorruptError(f"path {_shown(entry.path)} is stored twice")
            parent = entry.path.rpartition(b"/")[0]
            if parent and (parent not in kept or kept[parent].kind is not EntryKind.FOLDER):
                raise UnsafePathError(
                    f"refused path {_shown(entry.path)}: its folder is missing, refused, or no folder"
                )
            if one_case:
                name = _folded(entry.path)
                if name in names:
                    raise UnsafePathError(
                        f"refused path {_shown(entry.path)}: here it is the name of another entry too"
                    )
                names.add(name)
            if entry.kind is EntryKind.LINK:
                check_link(entry.path, entry.link, windows=windows)
            kept[entry.path] = entry
        except (UnsafePathError, CorruptError) as error:
            refused[entry_id] = error
    links = {path: _parts_of(entry.link, windows) for path, entry in kept.items() if entry.kind is EntryKind.LINK}
    left = _STEPS + _STEPS_A_LINK * len(links)
    for entry_id, entry in entries.items():
        if entry.kind is not EntryKind.LINK or entry_id in refused:
            continue
        leads_out, steps = _leads_out(entry.path, links, left)
        left -= steps
        if leads_out or left <= 0:
            why = "by way of other links it leads out" if leads_out else "the links of this archive lead too far"
            refused[entry_id] = UnsafePathError(f"refused link {_shown(entry.path)}: {why}")
    return refused


def _parts_of(link: bytes, windows: bool) -> list[bytes]:
    """Return the parts of a link's target that lead anywhere, the first last."""
    parts = (link.replace(b"\\", b"/") if windows else link).split(b"/")
    return [part for part in reversed(parts) if part not in (b"", b".")]


def _leads_out(path: bytes, links: Mapping[bytes, Sequence[bytes]], most: int) -> tuple[bool, int]:
    """Follow a link through the other links of the tree; tell whether it climbs above the root, and the steps it took.

    What every system gives up on (a loop, or too many links) leads nowhere; so does what takes `most` steps.
    """
    at, rest, hops, steps = path.split(b"/")[:-1], list(links[path]), 0, 0
    while rest and steps < most:
        steps += 1
        part = rest.pop()
        if part == b"..":
            if not at:
                return True, steps
            at.pop()
            continue
        at.append(part)
        target = links.get(b"/".join(at))
        if target is not None:
            hops += 1
            if hops > _MAX_HOPS:
                break
            at.pop()
            rest += target
    return False, steps


def _folded(path: bytes) -> str:
    return unicodedata.normalize(
        "NFC", unicodedata.normalize("NFD", path.decode("utf-8", "surrogateescape")).casefold()
    )


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))
