"""Decide, before a byte is coded, which block holds what, in which order.

The plan depends on the sources alone, never on threads or time: that is why the same input gives the same archive.
Files are taken volume by volume. A chapter codes the headers of some files together, then the slabs and other
bytes that complete them, so that a reader of a pipe needs little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gpushrink.codec.slab import slab_ranges
from gpushrink.dicom.scan import Scan
from gpushrink.dicom.series import Frame, Volume
from gpushrink.dicom.walk import Found
from gpushrink.model import EntryKind, Role, Target

__all__ = ["BatchJob", "BytesJob", "HashJob", "Job", "Piece", "SlabJob", "plan_jobs"]

# Headers coded together: enough to share all that slices have in common, little enough to hold in memory.
HEADER_BYTES = 8 << 20
BLOCK_BYTES = 8 << 20
# A block of headers ends between two of them: what a header shares with the one before is lost where it is cut.
HEADER_BLOCK_BYTES = 16 << 20
# A volume smaller than this costs less among other bytes than with a block and a model of its own.
TINY_VOLUME = 2 << 10
# Each piece has as many targets as its file has copies, up to 1024; the format's limit is 2^19.
BLOCK_TARGETS = 1 << 17
_HASH_FILES = 64
# Slabs up to the first size may be coded together with others, up to the second in all.
SMALL_SLAB = 256 << 10
SOLID_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Name a run of bytes of a file."""

    file_id: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class BytesJob:
    """Code runs of bytes together."""

    role: Role
    pieces: tuple[Piece, ...]
    targets: tuple[Target, ...]

    @property
    def size(self) -> int:
        """Return the decoded size in bytes."""
        return sum(piece.length for piece in self.pieces)

    def part(self, chosen: Sequence[int]) -> BytesJob:
        """Return the job over some of the pieces alone."""
        moved: dict[int, int] = {}
        begin = at = 0
        wanted = set(chosen)
        for place, piece in enumerate(self.pieces):
            if place in wanted:
                moved[begin] = at
                at += piece.length
            begin += piece.length
        targets = tuple(
            replace(target, source_offset=moved[target.source_offset])
            for target in self.targets
            if target.source_offset in moved
        )
        return BytesJob(self.role, tuple(self.pieces[k] for k in chosen), targets)


@dataclass(frozen=True, slots=True)
class SlabJob:
    """Code frames of a volume together.

    Parameters
    ----------
    whole
        For each frame, whether it is the only one of its file: then the file is read as a whole, and hashed, with it.
    """

    volume: Volume
    frames: tuple[Frame, ...]
    targets: tuple[Target, ...]
    whole: tuple[bool, ...]

    @property
    def is_first(self) -> bool:
        """Tell whether this is the first slab of its volume."""
        return self.frames[0] == self.volume.frames[0]

    @property
    def has_pattern(self) -> bool:
        """Tell whether a reference pattern is chosen for it: one that the volume codec takes."""
        return self.volume.sample.item_bytes <= 2

    @property
    def size(self) -> int:
        """Return the decoded size in bytes."""
        return len(self.frames) * self.volume.frame_bytes


@dataclass(frozen=True, slots=True)
class HashJob:
    """Hash files whose last bytes are in the block before: groups of identical files, each read once.

    Parameters
    ----------
    known
        The files, first of their groups, that a slab's job has hashed already.
    """

    groups: tuple[tuple[int, ...], ...]
    known: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class BatchJob:
    """Code jobs each by itself, or all their bytes together as `solid`, whichever comes out smaller.

    Small odd files often repeat each other (the same image in other encodings): a dictionary stage over all of them
    can win there over codecs that look at one volume at a time.
    """

    jobs: tuple[BytesJob | SlabJob, ...]
    solid: BytesJob

    @property
    def targets(self) -> tuple[Target, ...]:
        """Return where the bytes belong, by their place in `solid`."""
        return self.solid.targets

    @property
    def size(self) -> int:
        """Return the decoded size in bytes."""
        return self.solid.size


Job = BytesJob | SlabJob | BatchJob | HashJob


@dataclass(slots=True)
class _Chapter:
    headers: list[Piece] = field(default_factory=list)
    slabs: list[SlabJob] = field(default_factory=list)
    small: list[Piece] = field(default_factory=list)
    encapsulated: list[Piece] = field(default_factory=list)
    header_bytes: int = 0
    other_bytes: int = 0


class _Planner:
    def __init__(self, found: Sequence[Found], scan: Scan) -> None:
        self._found = found
        self._scan = scan
        self._missing = [item.entry.size for item in found]
        self._ready: list[int] = []
        self._known: set[int] = set()
        self._first_of = {other: first for first, others in scan.copies.items() for other in others}

    def jobs(self) -> Iterator[Job]:
        empty = tuple(
            i for i, item in enumerate(self._found) if item.entry.kind is EntryKind.FILE and not item.entry.size
        )
        if empty:
            yield HashJob((empty,))
        chapter, seen = _Chapter(), set[int]()
        for volume in self._scan.volumes:
            tiny = len(volume.frames) * volume.frame_bytes < TINY_VOLUME
            # For the whole volume: what the first slab finds, the others wait for.
            small = tiny and not any(frame in self._scan.frame_copies for frame in volume.frames)
            for frames in self._slabs(volume):
                for frame in frames:
                    for one in (frame, *self._scan.frame_copies.get(frame, ())):
                        if one.file_id not in seen:
                            seen.add(one.file_id)
                            self._add_header(chapter, one.file_id)
                if small:
                    chapter.small += [Piece(f.file_id, f.offset, volume.frame_bytes) for f in frames]
                else:
                    chapter.slabs.append(self._slab(volume, frames))
                chapter.other_bytes += len(frames) * volume.frame_bytes
                if chapter.header_bytes > HEADER_BYTES:
                    yield from self._close(chapter)
                    chapter = _Chapter()
        for file_id, file in self._scan.dicom.items():
            if file_id in seen:
                continue
            self._add_header(chapter, file_id)
            if file.encapsulated:
                chapter.encapsulated.append(Piece(file_id, *file.encapsulated))
                chapter.other_bytes += file.encapsulated[1]
            if chapter.header_bytes > HEADER_BYTES:
                yield from self._close(chapter)
                chapter = _Chapter()
        yield from self._close(chapter)
        # Files of one kind side by side: they have most in common.
        kind_of = {i: self._found[i].entry.path.rpartition(b".")[2].lower() for i in self._scan.opaque}
        opaque = sorted(self._scan.opaque, key=lambda i: (kind_of[i], i))
        whole = [Piece(i, 0, self._found[i].entry.size) for i in opaque if self._found[i].entry.size]
        yield from self._bytes(Role.OPAQUE, whole)
        yield from self._hash(0)

    def _add_header(self, chapter: _Chapter, file_id: int) -> None:
        """Add all bytes of a file outside its pixel data."""
        file, size = self._scan.dicom[file_id], self._found[file_id].entry.size
        start, end = size, size
        if file.native is not None:
            start, end = file.native.offset, file.native.end
        elif file.encapsulated is not None:
            start, end = file.encapsulated[0], sum(file.encapsulated)
        for offset, length in ((0, start), (end, size - end)):
            if length:
                chapter.headers.append(Piece(file_id, offset, length))
                chapter.header_bytes += length

    def _slabs(self, volume: Volume) -> Iterator[tuple[Frame, ...]]:
        """Split a volume's frames so that neither bytes nor targets of a slab are too many."""
        for start, stop in slab_ranges(len(volume.frames), volume.frame_bytes):
            first, targets = start, 0
            for k in range(start, stop):
                frame = volume.frames[k]
                more = sum(
                    1 + len(self._scan.copies.get(one.file_id, ()))
                    for one in (frame, *self._scan.frame_copies.get(frame, ()))
                )
                if targets + more > BLOCK_TARGETS and k > first:
                    yield volume.frames[first:k]
                    first, targets = k, 0
                targets += more
            yield volume.frames[first:stop]

    def _slab(self, volume: Volume, frames: tuple[Frame, ...]) -> SlabJob:
        targets, size = [], volume.frame_bytes
        whole = tuple(self._is_whole(frame) for frame in frames)
        self._known.update(frame.file_id for frame, alone in zip(frames, whole, strict=True) if alone)
        for k, frame in enumerate(frames):
            for one in (frame, *self._scan.frame_copies.get(frame, ())):
                targets += self._targets(k * size, Piece(one.file_id, one.offset, size))
        return SlabJob(volume, frames, tuple(targets), whole)

    def _is_whole(self, frame: Frame) -> bool:
        span = self._scan.dicom[frame.file_id].native
        return span is not None and span.frames == 1

    def _targets(self, source: int, piece: Piece) -> list[Target]:
        """Aim a run at its file and at every identical file."""
        ids = (piece.file_id, *self._scan.copies.get(piece.file_id, ()))
        return [Target(source, piece.length, i, piece.offset) for i in ids]

    def _close(self, chapter: _Chapter) -> Iterator[Job]:
        yield from self._bytes(Role.HEADER, chapter.headers)
        yield from self._bytes(Role.PIXELS, chapter.small)
        for job in _batch_small(chapter.slabs):
            yield job
            yield from self._done(job.targets)
        yield from self._bytes(Role.ENCAPSULATED, chapter.encapsulated)
        yield from self._hash(0)

    def _bytes(self, role: Role, pieces: Sequence[Piece]) -> Iterator[Job]:
        """Code pieces together in blocks of bounded size, splitting large ones."""
        batch: list[Piece] = []
        size = targets = 0
        most = HEADER_BLOCK_BYTES if role is Role.HEADER else BLOCK_BYTES
        for piece in pieces:
            at, left = piece.offset, piece.length
            targets += 1 + len(self._scan.copies.get(piece.file_id, ()))
            if batch and (targets > BLOCK_TARGETS or (role is Role.HEADER and size + left > most)):
                yield from self._block(role, batch)
                batch, size, targets = [], 0, 0
            while left:
                part = min(left, most - size)
                batch.append(Piece(piece.file_id, at, part))
                at, left, size = at + part, left - part, size + part
                if size == most:
                    yield from self._block(role, batch)
                    batch, size = [], 0
        if batch:
            yield from self._block(role, batch)

    def _block(self, role: Role, batch: Sequence[Piece]) -> Iterator[Job]:
        targets: list[Target] = []
        source = 0
        for piece in batch:
            targets += self._targets(source, piece)
            source += piece.length
        yield BytesJob(role, tuple(batch), tuple(targets))
        yield from self._done(targets)

    def _done(self, targets: Sequence[Target]) -> Iterator[Job]:
        """Note which files are complete now."""
        for target in targets:
            self._missing[target.file_id] -= target.length
            if not self._missing[target.file_id]:
                self._ready.append(target.file_id)
        yield from self._hash(_HASH_FILES)

    def _hash(self, at_least: int) -> Iterator[Job]:
        if len(self._ready) > at_least:
            groups: dict[int, list[int]] = {}
            for file_id in self._ready:
                groups.setdefault(self._first_of.get(file_id, file_id), []).append(file_id)
            known = self._known.intersection(groups)
            yield HashJob(tuple(tuple(sorted(ids)) for ids in groups.values()), frozenset(known))
            self._known -= known
            self._ready = []


def _batch_small(slabs: Sequence[SlabJob]) -> Iterator[SlabJob | BatchJob]:
    """Put runs of small slabs together; the slabs of a volume keep their order, since later ones wait for the first."""
    run: list[SlabJob] = []
    for slab in slabs:
        if slab.size <= SMALL_SLAB and len(slab.targets) <= BLOCK_TARGETS:
            run.append(slab)
        else:
            if any(one.volume is slab.volume for one in run):
                yield from _together(run)
                run = []
            yield slab
        if sum(one.size for one in run) > SOLID_BYTES or sum(len(one.targets) for one in run) > BLOCK_TARGETS:
            yield _batch(Role.PIXELS, run)
            run = []
    yield from _together(run)


def _together(run: Sequence[SlabJob]) -> Iterator[SlabJob | BatchJob]:
    if len(run) > 1:
        yield _batch(Role.PIXELS, run)
    else:
        yield from run


def _batch(role: Role, jobs: Sequence[BytesJob | SlabJob | BatchJob]) -> BatchJob:
    parts = tuple(part for job in jobs for part in (job.jobs if isinstance(job, BatchJob) else (job,)))
    return BatchJob(parts, _join(role, parts))


def _join(role: Role, jobs: Sequence[BytesJob | SlabJob]) -> BytesJob:
    """Return one job over the bytes of several."""
    pieces: list[Piece] = []
    targets: list[Target] = []
    base = 0
    for job in jobs:
        if isinstance(job, SlabJob):
            pieces += [Piece(frame.file_id, frame.offset, job.volume.frame_bytes) for frame in job.frames]
        else:
            pieces += job.pieces
        targets += [replace(target, source_offset=base + target.source_offset) for target in job.targets]
        base += job.size
    return BytesJob(role, tuple(pieces), tuple(targets))


def plan_jobs(found: Sequence[Found], scan: Scan) -> Iterator[Job]:
    """Yield the jobs in archive order.

    Parameters
    ----------
    found
        The walk; file ids are positions in it.
    """
    planned = _Planner(found, scan).jobs()
    if sum(item.entry.size for item in found) > SOLID_BYTES:
        return planned
    jobs = list(planned)
    coded = [job for job in jobs if not isinstance(job, HashJob)]
    if len(coded) < 2 or sum(len(job.targets) for job in coded) > BLOCK_TARGETS:
        return iter(jobs)
    hashed = [job for job in jobs if isinstance(job, HashJob)]
    groups = tuple(group for job in hashed for group in job.groups)
    return iter((_batch(Role.OPAQUE, coded), HashJob(groups, frozenset().union(*(job.known for job in hashed)))))
