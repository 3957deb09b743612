"""The way there: walk, scan, plan, code in parallel, write in order, prove, rename."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from gpushrink.archive.writer import ArchiveWriter, ByteSink
from gpushrink.codec.parallel import Team
from gpushrink.codec.table import CPU, SlabCodec
from gpushrink.dicom.scan import Scan, scan_files
from gpushrink.dicom.walk import Walk, walk_sources
from gpushrink.model import BlockCodec, EntryKind, Role
from gpushrink.pipeline.coding import Coder
from gpushrink.pipeline.crew import Crew
from gpushrink.pipeline.ordering import run_in_order
from gpushrink.pipeline.plan import plan_jobs
from gpushrink.pipeline.progress import ProgressFactory, silent
from gpushrink.pipeline.sharing import SharingCoder, spread_over

__all__ = ["PackReport", "RoleSizes", "pack_to_sink"]

_HANDS_A_THREAD = 2


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
    processes
        Helping processes that were there at the end of coding.
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
    processes: int = 0
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
            "processes": self.processes,
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


def pack_to_sink(
    sources: Sequence[Path],
    sink: ByteSink,
    *,
    level: str,
    threads: int,
    slab_codec: SlabCodec = CPU,
    crew: Crew | None = None,
    progress: ProgressFactory = silent,
) -> PackReport:
    """Write the archive of the sources to a sink, front to back.

    Parameters
    ----------
    crew
        Who shares the work, where there is enough of it; None to do it alone.

    Raises
    ------
    InputError
        If a source cannot be read, vanishes or changes meanwhile.
    """
    began = time.perf_counter()
    walk = walk_sources(sources)
    size = sum(item.entry.size for item in walk.found)
    if crew is not None and crew.begin_for(size, opened=False):
        scan = scan_files(walk.found, spread=spread_over(crew))
        crew.open()
    else:
        crew, scan = None, scan_files(walk.found)
    report = _first_lines(walk, scan)
    report.threads, report.level = threads, level
    writer = ArchiveWriter(sink)
    # Who waits for a helper's answer, or for the first slab of a volume, needs no processor.
    hands = threads * (1 if crew is None else _HANDS_A_THREAD)
    # What this process has no job for belongs to the helpers.
    team = Team(threads if crew is None else 1)
    coder = _coder_of(walk, scan, level=level, slab_codec=slab_codec, team=team, crew=crew)
    with (
        progress(report.source_bytes, 0) as bar,
        team,
        ThreadPoolExecutor(hands) as pool,
        # Closed before the pool, which would else finish all that is on its way where writing fails.
        closing(run_in_order(pool, plan_jobs(walk.found, scan), coder, ahead=2 * hands)) as results,
    ):
        done = 0
        # All threads have work now, while the tree is coded here.
        first = list(islice(results, 1))
        writer.begin([item.entry for item in walk.found])
        for coded in chain(first, results):
            if coded.hashes:
                writer.hashes(coded.hashes)
                continue
            record = writer.data(
                coded.parts,
                crc=coded.crc,
                codec=coded.codec,
                role=coded.role,
                decoded=coded.decoded,
                file_ids=coded.file_ids,
            )
            sizes = report.roles[coded.role]
            sizes.source += coded.decoded
            sizes.stored += record.length
            report.codecs[coded.codec] = report.codecs.get(coded.codec, 0) + 1
            done += coded.decoded
            bar.advance_to(done)
        report.archive_bytes = writer.finish()
    report.processes = crew.count if crew is not None else 0
    # Known at the end: cards may have joined.
    report.engine = "; ".join(dict.fromkeys([slab_codec.name, *(crew.engines if crew is not None else ())]))
    report.seconds = time.perf_counter() - began
    return report


def _coder_of(walk: Walk, scan: Scan, *, level: str, slab_codec: SlabCodec, team: Team, crew: Crew | None) -> Coder:
    if crew is None:
        return Coder(walk.found, scan.heads, level=level, slab_codec=slab_codec, team=team)
    return SharingCoder(walk.found, scan.heads, level=level, slab_codec=slab_codec, team=team, crew=crew)


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


def _text(path: bytes) -> str:
    return os.fsdecode(path).encode("utf-8", "replace").decode()
