"""Look into every file once: what it is, where its pixel data lies, what it may be a copy of."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gpushrink.dicom.plain import HEAD_BYTES, PlainReader
from gpushrink.dicom.series import Frame, Volume, group_volumes
from gpushrink.dicom.source import hash_file, open_source, read_fully, read_ranges
from gpushrink.dicom.spans import DicomFile, describe
from gpushrink.dicom.walk import Found
from gpushrink.errors import InputError
from gpushrink.model import EntryKind

__all__ = ["Scan", "scan_files"]

# Copies that share one block; after so many, one is stored again. They keep the targets of a block below their
# limit: each copy of a frame times each copy of its file is a target.
_MOST_COPIES = 1023
_MOST_FRAME_COPIES = 255
# A file is told from others by its beginning, where a DICOM object has its identity, then its end; a frame by its
# middle, then two more places. What agrees there is hashed as a whole.
_FILE_MARK = 2048
_FRAME_MARK = 512
_LEAST_AHEAD = 1 << 12
_MOST_AHEAD = 1 << 20
_MOST_KEPT = 64 << 20  # of headers, in all


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


def scan_files(found: Sequence[Found]) -> Scan:
    """Look into the files of a walk.

    Raises
    ------
    InputError
        If a file cannot be read or changed since the walk.
    """
    dicom: dict[int, DicomFile] = {}
    opaque: dict[int, str] = {}
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    frame_marks: dict[Frame, int] = {}
    shared_sizes = _shared_sizes(found)
    ahead, reader = HEAD_BYTES, PlainReader()
    heads: dict[int, bytes] = {}
    kept_bytes = 0
    for file_id, item in enumerate(found):
        if item.entry.kind is not EntryKind.FILE:
            continue
        size = item.entry.size
        with open_source(item) as stream:
            try:
                head = read_fully(stream, min(size, ahead))
                described = describe(stream, size, head, reader=reader)
                if size in shared_sizes:
                    alike[size, hash(head[:_FILE_MARK])].append(file_id)
                if isinstance(described, DicomFile):
                    dicom[file_id] = described
                    if (span := described.native) is not None:
                        # The next file's header is likely as long as this one's.
                        ahead = min(_MOST_AHEAD, max(_LEAST_AHEAD, span.offset + (span.offset >> 3)))
                        if span.offset <= len(head) and kept_bytes + span.offset <= _MOST_KEPT:
                            heads[file_id] = head[: span.offset]
                            kept_bytes += span.offset
                        for k in range(span.frames):
                            offset = span.offset + k * span.frame_bytes
                            frame_marks[Frame(file_id, offset)] = _mark_frame(stream, head, offset, span.frame_bytes)
                else:
                    opaque[file_id] = described
            except OSError as error:
                raise InputError(f"cannot read {os.fsdecode(item.path)!r}: {error.strerror}") from None
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


def _mark_frame(stream: io.RawIOBase, head: bytes, offset: int, length: int) -> int:
    """Return a number that equal frames share, and others seldom."""
    if length <= 4 * _FRAME_MARK:
        return hash(_cut(stream, head, offset, length))
    return hash(_cut(stream, head, offset + length // 2, _FRAME_MARK))


def _mark_again(found: Found, frame: Frame, length: int) -> int:
    """Return a number that equal frames share, and others that agree in the middle almost never."""
    if length <= 4 * _FRAME_MARK:
        return 0
    return hash(tuple(read_ranges(found, [(frame.offset + length * k // 4, _FRAME_MARK) for k in (1, 3)])))


def _cut(stream: io.RawIOBase, head: bytes, offset: int, length: int) -> bytes:
    """Return a range of a file of which `head` has been read."""
    if offset + length <= len(head):
        return head[offset : offset + length]
    stream.seek(offset)
    return stream.read(length)


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
    length = min(found.entry.size, _FRAME_MARK)
    return read_ranges(found, [(found.entry.size - length, length)])[0]


def _copies_of_frames(
    found: Sequence[Found], volume: Volume, marks: dict[Frame, int]
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
