"""The way there: walk, scan, plan, code in parallel, write in order, prove, rename."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gpushrink.archive import blocks
from gpushrink.archive.writer import ArchiveWriter, ByteSink
from gpushrink.codec import bytestream
from gpushrink.codec.headers import encode_headers
from gpushrink.codec.slab import LEVELS, encode_slab, slab_ranges
from gpushrink.codec.table import CPU, SlabCodec
from gpushrink.dicom.scan import Scan, scan_files
from gpushrink.dicom.source import hash_file, read_ranges
from gpushrink.dicom.walk import Found, Walk, walk_sources
from gpushrink.model import BlockCodec, EntryKind, Role, SlabShape
from gpushrink.pipeline.plan import BatchJob, BytesJob, HashJob, Job, SlabJob, plan_jobs
from gpushrink.pipeline.progress import ProgressFactory, silent

__all__ = ["PackReport", "RoleSizes", "pack_to_sink"]

# Source bytes on their way: each costs several while it is coded, whatever the number of threads.
_FLIGHT_BYTES = 256 << 20
# Jobs are tried together where Zstandard makes them this much smaller so; its lowest levels look back too little.
_PROBE_LEVEL = 3
_CLEARLY = 0.98
_LARGE = 2 << 20  # volumes below this are no work to share
# Headers that come out so many times smaller do share: as any bytes they would be larger, and take long to code.
_SHARED = 24
_BLOCK_COST = 32  # a block's header and its share of the index, in bytes


@dataclass(slots=True)
class RoleSizes:
    """Count the bytes of one role before and after."""

    source: int = 0
    stored: int = 0


@dataclass(slots=True)
class PackReport:
    """Say what a pack did.

    Parameters
    ----------
    source_bytes, archive_bytes
        Sum of the file sizes; size of the archive.
    roles
        Per role, bytes in the sources (copies counted once) and bytes in the archive.
    opaque
        Files kept as plain bytes with the reason.
    skipped
        What has no bytes to keep, or will be refused by unpack, with the reason.
    verified
        The archive was decoded again and gave every file's hash.
    """

    source_bytes: int = 0
    archive_bytes: int = 0
    files: int = 0
    folders: int = 0
    links: int = 0
    dicom_files: int = 0
    copied_files: int = 0
    copied_frames: int = 0
    volumes: int = 0
    seconds: float = 0.0
    verify_seconds: float = 0.0
    verified: bool = False
    threads: int = 1
    engine: str = ""
    level: str = ""
    roles: dict[Role, RoleSizes] = field(default_factory=lambda: {role: RoleSizes() for role in Role})
    codecs: dict[BlockCodec, int] = field(default_factory=dict)
    opaque: list[tuple[bytes, str]] = field(default_factory=list)
    skipped: list[tuple[bytes, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return the report as values that JSON can hold."""
        return {
            "source_bytes": self.source_bytes,
            "archive_bytes": self.archive_bytes,
            "ratio": round(self.source_bytes / self.archive_bytes, 4) if self.archive_bytes else None,
            "files": self.files,
            "folders": self.folders,
            "links": self.links,
            "dicom_files": self.dicom_files,
            "copied_files": self.copied_files,
            "copied_frames": self.copied_frames,
            "volumes": self.volumes,
            "seconds": round(self.seconds, 4),
            "verify_seconds": round(self.verify_seconds, 4),
            "verified": self.verified,
            "threads": self.threads,
            "engine": self.engine,
            "level": self.level,
            "roles": {
                role.name.lower(): {"source_bytes": sizes.source, "stored_bytes": sizes.stored}
                for role, sizes in self.roles.items()
            },
            "codecs": {codec.name.lower(): count for codec, count in sorted(self.codecs.items())},
            "opaque": [{"path": _text(path), "reason": reason} for path, reason in self.opaque],
            "skipped": [{"path": _text(path), "reason": reason} for path, reason in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class _Coded:
    """Hold a finished job, ready to be written."""

    payload: bytes = b""
    codec: BlockCodec = BlockCodec.STORED
    role: Role = Role.OPAQUE
    decoded: int = 0
    file_ids: tuple[int, ...] = ()
    hashes: tuple[tuple[tuple[int, ...], bytes], ...] = ()


def pack_to_sink(
    sources: Sequence[Path],
    sink: ByteSink,
    *,
    level: str,
    threads: int,
    slab_codec: SlabCodec = CPU,
    progress: ProgressFactory = silent,
) -> PackReport:
    """Write the archive of the sources to a sink, front to back.

    Raises
    ------
    InputError
        If a source cannot be read, vanishes or changes meanwhile.
    """
    began = time.perf_counter()
    walk = walk_sources(sources)
    scan = scan_files(walk.found)
    report = _first_lines(walk, scan)
    report.threads, report.level, report.engine = threads, level, slab_codec.name
    writer = ArchiveWriter(sink)
    with progress(report.source_bytes, 0) as bar, ThreadPoolExecutor(threads) as pool:
        writer.begin([item.entry for item in walk.found])
        done = 0
        share = _threads_within(scan, threads)
        jobs = plan_jobs(walk.found, scan)
        for coded in _in_order(pool, jobs, walk.found, level, slab_codec, share, ahead=2 * threads):
            if coded.hashes:
                writer.hashes(coded.hashes)
                continue
            record = writer.data(
                coded.payload, codec=coded.codec, role=coded.role, decoded=coded.decoded, file_ids=coded.file_ids
            )
            sizes = report.roles[coded.role]
            sizes.source += coded.decoded
            sizes.stored += record.length
            report.codecs[coded.codec] = report.codecs.get(coded.codec, 0) + 1
            done += coded.decoded
            bar.advance_to(done)
        report.archive_bytes = writer.finish()
    report.seconds = time.perf_counter() - began
    return report


def _first_lines(walk: Walk, scan: Scan) -> PackReport:
    kinds = [item.entry.kind for item in walk.found]
    return PackReport(
        source_bytes=sum(item.entry.size for item in walk.found),
        files=kinds.count(EntryKind.FILE),
        folders=kinds.count(EntryKind.FOLDER),
        links=kinds.count(EntryKind.LINK),
        dicom_files=len(scan.dicom) + sum(len(scan.copies.get(i, ())) for i in scan.dicom),
        copied_files=sum(map(len, scan.copies.values())),
        copied_frames=sum(map(len, scan.frame_copies.values())),
        volumes=len(scan.volumes),
        opaque=[(walk.found[i].entry.path, reason) for i, reason in scan.opaque.items()],
        skipped=list(walk.skipped),
    )


def _threads_within(scan: Scan, threads: int) -> int:
    """Return how many threads a slab gets: one where there are slabs enough to go round, else all.

    Threads of one slab wait for each other now and then, so slabs side by side are faster.
    """
    slabs = sum(
        len(slab_ranges(len(volume.frames), volume.frame_bytes))
        for volume in scan.volumes
        if len(volume.frames) * volume.frame_bytes > _LARGE
    )
    return threads if slabs < 4 * threads and slabs % threads else 1


def _in_order(
    pool: ThreadPoolExecutor,
    jobs: Iterator[Job],
    found: Sequence[Found],
    level: str,
    slab_codec: SlabCodec,
    share: int,
    *,
    ahead: int,
) -> Iterator[_Coded]:
    """Run jobs in parallel, each on `share` threads, and yield their results in order.

    At most `ahead` of them and `_FLIGHT_BYTES` wait.
    """
    window: deque[tuple[_Promise, int]] = deque()
    flight = 0
    try:
        for job in jobs:
            size = 0 if isinstance(job, HashJob) else job.size
            while window and (len(window) >= ahead or flight + size > _FLIGHT_BYTES):
                promise, done = window.popleft()
                flight -= done
                yield from promise.result()
            window.append((_submit(pool, job, found, level, slab_codec, share), size))
            flight += size
        while window:
            yield from window.popleft()[0].result()
    finally:
        for promise, _ in window:
            promise.cancel()


@dataclass(frozen=True, slots=True)
class _Promise:
    """Wait for the parts of a job, and for what they may be together."""

    apart: tuple[Future[list[_Coded]], ...]
    solid: Future[list[_Coded]] | None = None

    def result(self) -> list[_Coded]:
        """Return what is smaller."""
        apart = [coded for future in self.apart for coded in future.result()]
        together = self.solid.result() if self.solid else []
        if not together:
            return apart
        return min(apart, together, key=lambda some: sum(len(one.payload) + _BLOCK_COST for one in some))

    def cancel(self) -> None:
        """Forget what has not begun."""
        for future in (*self.apart, *((self.solid,) if self.solid else ())):
            future.cancel()


def _submit(
    pool: ThreadPoolExecutor, job: Job, found: Sequence[Found], level: str, slab_codec: SlabCodec, share: int
) -> _Promise:
    """Begin a job; those of a batch each by itself, and where levels allow the time, all their bytes together."""
    if not isinstance(job, BatchJob):
        return _Promise((pool.submit(_run, job, found, level, slab_codec, share),))
    # Headers are coded together in any case: what is left must be several to have something in common.
    several = sum(isinstance(one, SlabJob) or one.role is not Role.HEADER for one in job.jobs) > 1
    solid = pool.submit(_run_together, job, found, level) if several and level != "fast" else None
    return _Promise(tuple(pool.submit(_run, one, found, level, slab_codec, share) for one in job.jobs), solid)


def _run(
    job: BytesJob | SlabJob | HashJob, found: Sequence[Found], level: str, slab_codec: SlabCodec, threads: int
) -> list[_Coded]:
    if isinstance(job, HashJob):
        return [_Coded(hashes=tuple((ids, hash_file(found[ids[0]])) for ids in job.groups))]
    if isinstance(job, SlabJob):
        volume = job.volume
        frames = [read_ranges(found[f.file_id], [(f.offset, volume.frame_bytes)])[0] for f in job.frames]
        data = b"".join(frames)
        shape = SlabShape(len(frames), volume.rows, volume.columns)
        codec, coded = encode_slab(data, shape, volume.sample, level=level, slab_codec=slab_codec, threads=threads)
        return [_finish(job, codec, coded, len(data))]
    pieces = _gather(job, found)
    if job.role == Role.ENCAPSULATED:
        return [_encode(part, content, _effort(job.role, level)) for part, content in _split_streams(job, pieces)]
    if job.role == Role.HEADER:
        return [_encode_headers(job, pieces, level)]
    return [_encode(job, b"".join(pieces), _effort(job.role, level))]


def _split_streams(job: BytesJob, pieces: Sequence[bytes]) -> Iterator[tuple[BytesJob, bytes]]:
    """Give a job for each kind of stream in a job, with its bytes: compressed images of one kind are alike."""
    from gpushrink.codec.matched import group_streams  # here: native studies need it not

    groups = group_streams([memoryview(piece) for piece in pieces])
    for group in range(max(groups) + 1):
        chosen = [k for k in range(len(groups)) if groups[k] == group]
        part = job if len(chosen) == len(groups) else job.part(chosen)
        yield part, b"".join(pieces[k] for k in chosen)


def _encode(job: BytesJob, data: bytes, effort: int) -> _Coded:
    """Code bytes that are no samples; see `bytestream.squeeze`."""
    kind, coded = bytestream.squeeze(data, effort=effort)
    return _finish(job, BlockCodec(kind), coded, len(data))


def _finish(job: BytesJob | SlabJob, codec: BlockCodec, coded: bytes, decoded: int) -> _Coded:
    role = job.role if isinstance(job, BytesJob) else Role.PIXELS
    ids = tuple(sorted({target.file_id for target in job.targets}))
    return _Coded(blocks.pack_data(decoded, job.targets, coded), codec, role, decoded, ids)


def _run_together(job: BatchJob, found: Sequence[Found], level: str) -> list[_Coded]:
    """Code the bytes of a batch together, if a fast stage finds that its jobs repeat each other."""
    data, apart, at = b"".join(_gather(job.solid, found)), 0, 0
    for one in job.jobs:
        apart += len(bytestream.zstd_compress(data[at : at + one.size], level=_PROBE_LEVEL))
        at += one.size
    if len(bytestream.zstd_compress(data, level=_PROBE_LEVEL)) > _CLEARLY * apart:
        return []
    return [_encode(job.solid, data, 4 if level == "max" else 2)]


def _gather(job: BytesJob, found: Sequence[Found]) -> list[bytes]:
    """Read the pieces of a job, opening each file once for neighbouring pieces."""
    parts: list[bytes] = []
    at = 0
    while at < len(job.pieces):
        file_id, ranges = job.pieces[at].file_id, []
        while at < len(job.pieces) and job.pieces[at].file_id == file_id:
            ranges.append((job.pieces[at].offset, job.pieces[at].length))
            at += 1
        parts += read_ranges(found[file_id], ranges)
    return parts


def _encode_headers(job: BytesJob, headers: Sequence[bytes], level: str) -> _Coded:
    """Code headers by what they share or, where that is little, as any bytes."""
    size = sum(map(len, headers))
    coded = encode_headers(headers, effort=LEVELS.index(level))
    if coded is not None and len(coded) * _SHARED < size:
        return _finish(job, BlockCodec.HEADERS, coded, size)
    kind, plain = bytestream.squeeze(b"".join(headers), effort=_effort(job.role, level))
    if coded is not None and len(coded) < len(plain):
        return _finish(job, BlockCodec.HEADERS, coded, size)
    return _finish(job, BlockCodec(kind), plain, size)


def _effort(role: Role, level: str) -> int:
    """Return how hard to try bytes of a role."""
    if role == Role.HEADER:
        return 1 if level == "fast" else 2
    return {"fast": 0, "default": 3}.get(level, 4)


def _text(path: bytes) -> str:
    return os.fsdecode(path).encode("utf-8", "replace").decode()
