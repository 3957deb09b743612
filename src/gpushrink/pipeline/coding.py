"""Code one job of the plan: read its bytes, each once, and give what goes into the archive."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpushrink.archive import blocks
from gpushrink.codec import bytestream
from gpushrink.codec.buffers import Parts, size_of
from gpushrink.codec.headers import encode_headers
from gpushrink.codec.parallel import Team, Threads, run_over
from gpushrink.codec.slab import LEVELS, encode_slab
from gpushrink.codec.table import Likely, References, SlabCodec, choose_slab_references
from gpushrink.dicom.source import hash_file, read_and_hash, read_into, read_ranges
from gpushrink.dicom.walk import Found
from gpushrink.model import BlockCodec, Role, SlabShape
from gpushrink.pipeline.patterns import Patterns
from gpushrink.pipeline.plan import BatchJob, BytesJob, HashJob, SlabJob

__all__ = ["Coded", "Coder", "encode_headers_of"]

# Jobs are tried together where Zstandard makes them this much smaller so; its lowest levels look back too little.
_PROBE_LEVEL = 3
_CLEARLY = 0.98
# Headers that come out so many times smaller do share: as any bytes they would be larger, and take long to code.
_SHARED = 24
_SHARED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Coded:
    """Hold a finished job, ready to be written.

    Parameters
    ----------
    parts, crc
        The payload of a DATA block, to be written one part after another, and its CRC-32.
    hashes
        Instead of these: SHA-256 of files, by the ids of those that have it.
    """

    parts: Parts = ()
    crc: int = 0
    codec: BlockCodec = BlockCodec.STORED
    role: Role = Role.OPAQUE
    decoded: int = 0
    file_ids: tuple[int, ...] = ()
    hashes: tuple[tuple[tuple[int, ...], bytes], ...] = ()

    @property
    def size(self) -> int:
        """Return the size of the payload in bytes."""
        return size_of(self.parts)


class Coder:
    """Run jobs of one plan: safe to call from many threads.

    Parameters
    ----------
    found
        The files of the jobs, by id.
    heads
        The first bytes of some files, by id, as the scan has read them.
    team
        Whose processors the jobs share; never changes their bytes.
    """

    def __init__(
        self,
        found: Sequence[Found] | Mapping[int, Found],
        heads: Mapping[int, bytes],
        *,
        level: str,
        slab_codec: SlabCodec,
        team: Team,
    ) -> None:
        self._found, self._heads, self._level = found, heads, level
        self._slab_codec, self._team = slab_codec, team
        self._digests: dict[int, bytes] = {}
        self._patterns = Patterns()

    def run(self, job: BytesJob | SlabJob) -> list[Coded]:
        """Code a job; where it reads files as a whole, keep their hashes for `take_hashes`."""
        with self._team.at_work():
            return self._run(job)

    def _run(self, job: BytesJob | SlabJob) -> list[Coded]:
        if isinstance(job, SlabJob):
            return [self._run_slab(job)]
        pieces = self._gather(job)
        if job.role == Role.ENCAPSULATED:
            effort = _effort(job.role, self._level)
            return [_encode(part, content, effort) for part, content in _split_streams(job, pieces)]
        if job.role == Role.HEADER:
            return [encode_headers_of(job, pieces, self._level)]
        return [_encode(job, b"".join(pieces), _effort(job.role, self._level))]

    def run_together(self, job: BatchJob) -> list[Coded]:
        """Code the bytes of a batch together, if that is worth the time and a fast stage finds that they repeat."""
        # Headers are coded together in any case: what is left must be several to have something in common.
        several = sum(isinstance(one, SlabJob) or one.role is not Role.HEADER for one in job.jobs) > 1
        if not several or self._level == "fast":
            return []
        with self._team.at_work():
            return _run_together(job, self._gather(job.solid), self._level)

    def hash(self, file_id: int) -> list[Coded]:
        """Hash a whole file for `take_hashes`; nothing else comes of it."""
        with self._team.at_work():
            self._digests[file_id] = hash_file(self._found[file_id])
        return []

    def take_hashes(self, job: HashJob) -> Coded:
        """Give the hashes of a job, all of whose files have been hashed by now."""
        return Coded(hashes=tuple((ids, self._digests.pop(ids[0])) for ids in job.groups))

    def stop(self) -> None:
        """Let no job wait for another that will not run."""
        self._patterns.stop()

    def choose_pattern(self, job: SlabJob) -> tuple[Likely, References]:
        """Choose the reference pattern of a volume's first slab, which the others may take; see `know_pattern`."""
        shape = SlabShape(len(job.frames), job.volume.rows, job.volume.columns)
        return choose_slab_references(self._read_slab(job), shape, job.volume.sample)

    def know_pattern(self, job: SlabJob, found: tuple[Likely, References]) -> None:
        """Take the pattern of the first slab of a job's volume as chosen."""
        self._patterns.know(job.volume.frames[0], found)

    def digests(self) -> dict[int, bytes]:
        """Return the hashes of the files read as a whole so far, by id."""
        return dict(self._digests)

    def size_of(self, file_id: int) -> int:
        """Return the size of a file in bytes."""
        return self._found[file_id].entry.size

    def _run_slab(self, job: SlabJob) -> Coded:
        volume = job.volume
        with self._patterns.turn(volume.frames[0], first=job.is_first) as pattern:
            data = self._read_slab(job)
            shape = SlabShape(len(job.frames), volume.rows, volume.columns)
            references = pattern.choose(data, shape, volume.sample) if job.has_pattern else None
        codec, coded = encode_slab(
            data,
            shape,
            volume.sample,
            level=self._level,
            references=references,
            slab_codec=self._slab_codec,
            threads=self._threads_for(job),
        )
        return _finish(job, codec, coded, len(data))

    def _threads_for(self, job: SlabJob) -> Threads:
        """Return who may work on a slab: of a small one, sharing costs more than it saves."""
        return self._team if job.size >= _SHARED_BYTES else 1

    def _read_slab(self, job: SlabJob) -> memoryview:
        """Read the frames of a slab, and hash the files that hold nothing else."""
        frame_bytes = job.volume.frame_bytes
        # Not a bytearray, which would be filled with zeros first, while all other threads wait.
        samples = np.empty(job.size, np.uint8)
        data = memoryview(samples)  # type: ignore[arg-type]  # numpy's stubs lack the protocol before 3.12

        def read(run: tuple[int, int]) -> None:
            k, stop = run
            frame = job.frames[k]
            view = data[k * frame_bytes : stop * frame_bytes]
            if job.whole[k]:
                self._digests[frame.file_id] = read_and_hash(self._found[frame.file_id], frame.offset, view)
            else:
                read_into(self._found[frame.file_id], frame.offset, view)

        run_over(read, _runs(job), threads=self._threads_for(job))
        return data

    def _gather(self, job: BytesJob) -> list[bytes]:
        """Read the pieces of a job, opening each file once for neighbouring pieces."""
        parts: list[bytes] = []
        at = 0
        while at < len(job.pieces):
            file_id, ranges = job.pieces[at].file_id, []
            while at < len(job.pieces) and job.pieces[at].file_id == file_id:
                ranges.append((job.pieces[at].offset, job.pieces[at].length))
                at += 1
            head = self._heads.get(file_id, b"")
            if all(offset + length <= len(head) for offset, length in ranges):
                parts += [head[offset : offset + length] for offset, length in ranges]
            else:
                parts += read_ranges(self._found[file_id], ranges)
        return parts


def _runs(job: SlabJob) -> Iterator[tuple[int, int]]:
    """Give the first and the end of each run of frames that follow each other in one file."""
    frames, size, k = job.frames, job.volume.frame_bytes, 0
    while k < len(frames):
        first, stop = frames[k], k + 1
        while stop < len(frames) and frames[stop] == (first.file_id, first.offset + (stop - k) * size):
            stop += 1
        yield k, stop
        k = stop


def _split_streams(job: BytesJob, pieces: Sequence[bytes]) -> Iterator[tuple[BytesJob, bytes]]:
    """Give a job for each kind of stream in a job, with its bytes: compressed images of one kind are alike."""
    from gpushrink.codec.matched import group_streams  # here: native studies need it not

    groups = group_streams([memoryview(piece) for piece in pieces])
    for group in range(max(groups) + 1):
        chosen = [k for k in range(len(groups)) if groups[k] == group]
        part = job if len(chosen) == len(groups) else job.part(chosen)
        yield part, b"".join(pieces[k] for k in chosen)


def _encode(job: BytesJob, data: bytes, effort: int) -> Coded:
    """Code bytes that are no samples; see `bytestream.squeeze`."""
    kind, coded = bytestream.squeeze(data, effort=effort)
    return _finish(job, BlockCodec(kind), (coded,), len(data))


def _finish(job: BytesJob | SlabJob, codec: BlockCodec, coded: Parts, decoded: int) -> Coded:
    role = job.role if isinstance(job, BytesJob) else Role.PIXELS
    head = blocks.pack_data_head(decoded, job.targets)
    ids = tuple({target.file_id for target in job.targets})
    parts, crc = (head, *coded), 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return Coded(parts, crc, codec, role, decoded, ids)


def _run_together(job: BatchJob, pieces: Sequence[bytes], level: str) -> list[Coded]:
    """Code the bytes of a batch together, if a fast stage finds that its jobs repeat each other."""
    data, apart, at = b"".join(pieces), 0, 0
    for one in job.jobs:
        apart += len(bytestream.zstd_compress(data[at : at + one.size], level=_PROBE_LEVEL))
        at += one.size
    if len(bytestream.zstd_compress(data, level=_PROBE_LEVEL)) > _CLEARLY * apart:
        return []
    return [_encode(job.solid, data, 4 if level == "max" else 2)]


def encode_headers_of(job: BytesJob, headers: Sequence[bytes], level: str) -> Coded:
    """Code headers by what they share or, where that is little, as any bytes."""
    size = sum(map(len, headers))
    coded = encode_headers(headers, effort=LEVELS.index(level))
    if coded is not None and len(coded) * _SHARED < size:
        return _finish(job, BlockCodec.HEADERS, (coded,), size)
    kind, plain = bytestream.squeeze(b"".join(headers), effort=_effort(job.role, level))
    if coded is not None and len(coded) < len(plain):
        return _finish(job, BlockCodec.HEADERS, (coded,), size)
    return _finish(job, BlockCodec(kind), (plain,), size)


def _effort(role: Role, level: str) -> int:
    """Return how hard to try bytes of a role."""
    if role == Role.HEADER:
        return 1 if level == "fast" else 2
    return {"fast": 0, "default": 3}.get(level, 4)
