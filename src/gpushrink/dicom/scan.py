"""Look into every file once: what it is, where its pixel data lies, what it may be a copy of."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from gpushrink.dicom.look import MARK_BYTES, Looked, Place, look_into
from gpushrink.dicom.series import Frame, Volume, group_volumes
from gpushrink.dicom.source import hash_file, read_ranges
from gpushrink.dicom.spans import DicomFile
from gpushrink.dicom.walk import Found
from gpushrink.model import EntryKind

__all__ = ["Look", "Scan", "Spread", "scan_files"]

Look: TypeAlias = Callable[[Sequence[Place], int], list[Looked]]
Spread: TypeAlias = Callable[[Look, Sequence[Sequence[Place]], Sequence[int]], Iterable[list[Looked]]]
"""Call the first on each pair of the others, results in order."""

# Copies that share one block; after so many, one is stored again. They keep the targets of a block below their
# limit: each copy of a frame times each copy of its file is a target.
_MOST_COPIES = 1023
_MOST_FRAME_COPIES = 255
_MOST_KEPT = 64 << 20  # of headers, in all
# Files that are looked into in one go: enough that what they share is read once, few enough to be spread.
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Scan:
    """Hold what the files are; ids are positions in the walk.

    Parameters
    ----------
    dicom
        The DICOM files, copies left out.
    opaque
        The other files with the reason, copies left out.
    copies
        For each file that has identical ones: their ids, by the id of the first.
    volumes
        Native frames in coding order, copies of frames left out.
    frame_copies
        For each frame that has identical ones in its volume: those.
    heads
        For some DICOM files: all that stands before their pixel data, kept so that it need not be read again.
    """

    dicom: dict[int, DicomFile]
    opaque: dict[int, str]
    copies: dict[int, list[int]]
    volumes: list[Volume]
    frame_copies: dict[Frame, list[Frame]]
    heads: dict[int, bytes] = field(default_factory=dict)


def scan_files(found: Sequence[Found], *, spread: Spread = map) -> Scan:
    """Look into the files of a walk.

    Parameters
    ----------
    spread
        Does what `map` does, and may have other processes do a part of it.

    Raises
    ------
    InputError
        If a file cannot be read or changed since the walk.
    """
    dicom: dict[int, DicomFile] = {}
    opaque: dict[int, str] = {}
    alike: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    frame_marks: dict[Frame, bytes] = {}
    heads: dict[int, bytes] = {}
    shared_sizes = _shared_sizes(found)
    ids = [file_id for file_id, item in enumerate(found) if item.entry.kind is EntryKind.FILE]
    parts = [ids[at : at + _AT_ONCE] for at in range(0, len(ids), _AT_ONCE)]
    places = [
        [Place(found[i].path, found[i].identity, found[i].entry.size in shared_sizes) for i in part] for part in parts
    ]
    keeps = [_MOST_KEPT * len(part) // len(ids) for part in parts]
    for file_id, (described, mark, marks, head) in zip(
        ids, chain.from_iterable(spread(look_into, places, keeps)), strict=True
    ):
        if mark:
            alike[found[file_id].entry.size, mark].append(file_id)
        if not isinstance(described, DicomFile):
            opaque[file_id] = described
            continue
        dicom[file_id] = described
        if head:
            heads[file_id] = head
        if (span := described.native) is not None:
            for k, frame_mark in enumerate(marks):
                frame_marks[Frame(file_id, span.offset + k * span.frame_bytes)] = frame_mark
    copies = _copies_of_files(found, alike.values())
    for others in copies.values():
        for other in others:
            dicom.pop(other, None)
            opaque.pop(other, None)
            heads.pop(other, None)
    volumes, frame_copies = [], {}
    for volume in group_volumes(dicom):
        kept, same = _copies_of_frames(found, volume, frame_marks)
        frame_copies.update(same)
        volumes.append(Volume(volume.series, volume.modality, volume.rows, volume.columns, volume.sample, tuple(kept)))
    return Scan(dicom, opaque, copies, volumes, frame_copies, heads)


def _shared_sizes(found: Sequence[Found]) -> set[int]:
    """Return the sizes that more than one file has: only such files may be copies."""
    counts = Counter(item.entry.size for item in found if item.entry.kind is EntryKind.FILE)
    return {size for size, count in counts.items() if count > 1 and size}


def _mark_again(found: Found, frame: Frame, length: int) -> int:
    """Return a number that equal frames share, and others that agree in the middle almost never."""
    if length <= 4 * MARK_BYTES:
        return 0
    return hash(tuple(read_ranges(found, [(frame.offset + length * k // 4, MARK_BYTES) for k in (1, 3)])))


def _copies_of_files(found: Sequence[Found], alike: Iterable[list[int]]) -> dict[int, list[int]]:
    copies: dict[int, list[int]] = {}
    for ids in alike:
        if len(ids) < 2:
            continue
        ends = {file_id: _read_end(found[file_id]) for file_id in ids}
        counts = Counter(ends.values())
        firsts: dict[bytes, int] = {}
        for file_id in ids:
            if counts[ends[file_id]] < 2:
                continue
            digest = hash_file(found[file_id])
            first = firsts.setdefault(digest, file_id)
            if len(copies.get(first, ())) >= _MOST_COPIES:
                firsts[digest] = file_id
            elif first != file_id:
                copies.setdefault(first, []).append(file_id)
    return copies


def _read_end(found: Found) -> bytes:
    length = min(found.entry.size, MARK_BYTES)
    return read_ranges(found, [(found.entry.size - length, length)])[0]


def _copies_of_frames(
    found: Sequence[Found], volume: Volume, marks: dict[Frame, bytes]
) -> tuple[list[Frame], dict[Frame, list[Frame]]]:
    groups = Counter(marks[frame] for frame in volume.frames)
    again = {
        frame: (marks[frame], _mark_again(found[frame.file_id], frame, volume.frame_bytes))
        for frame in volume.frames
        if groups[marks[frame]] > 1
    }
    counts = Counter(again.values())
    kept: list[Frame] = []
    copies: dict[Frame, list[Frame]] = defaultdict(list)
    firsts: dict[bytes, Frame] = {}
    for frame in volume.frames:
        if frame not in again or counts[again[frame]] == 1:
            kept.append(frame)
            continue
        digest = _digest(read_ranges(found[frame.file_id], [(frame.offset, volume.frame_bytes)])[0])
        first = firsts.setdefault(digest, frame)
        if len(copies[first]) >= _MOST_FRAME_COPIES:
            first = firsts[digest] = frame
        if first == frame:
            kept.append(frame)
        else:
            copies[first].append(frame)
    return kept, {first: others for first, others in copies.items() if others}


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
