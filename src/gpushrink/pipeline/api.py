"""The verbs of gpushrink as typed functions; the command line calls these and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpushrink.archive.reader import Catalogue, read_catalogue
from gpushrink.archive.writer import ByteSink
from gpushrink.codec.slab import LEVELS
from gpushrink.codec.table import SlabCodec
from gpushrink.errors import UnsafePathError, UsageError, VerifyError
from gpushrink.pipeline.choosing import slab_codec_of
from gpushrink.pipeline.crew import Crew
from gpushrink.pipeline.describing import ArchiveInfo, describe_catalogue
from gpushrink.pipeline.files import NewFile, StandardOutput, default_threads, open_archive
from gpushrink.pipeline.packing import PackReport, pack_to_sink
from gpushrink.pipeline.progress import ProgressFactory, silent
from gpushrink.pipeline.restore_report import RestoreReport
from gpushrink.pipeline.unpacking import unpack_archive, verify_archive
from gpushrink.pipeline.verifying import ProvingTee

__all__ = ["catalogue", "describe_archive", "pack", "unpack", "verify"]

PathLike = str | os.PathLike[str]


def pack(
    sources: PathLike | Sequence[PathLike],
    archive: PathLike,
    *,
    level: str = "default",
    device: str = "auto",
    device_memory: int | None = None,
    verify: bool = True,
    force: bool = False,
    threads: int | None = None,
    processes: int | None = None,
    progress: ProgressFactory = silent,
) -> PackReport:
    """Pack files and folders into one archive that gives every byte back.

    Parameters
    ----------
    sources
        One folder, whose content the archive then holds, or several files and folders, each under its own name.
    archive
        Where to write; ``"-"`` is standard output. The name appears only once the archive is whole, proven and on disk.
    level
        "fast", "default" or "max": how much time to spend on size. All are lossless.
    device, device_memory
        What runs the volume codec: "auto", "cpu", "cuda" or "cuda:N", and the most bytes of its memory to use. Changes
        no byte but those of zstd frames that a card wrote, and what follows from their sizes (docs/design.md). The
        proof is always done by the CPU, on which an archive must open.
    verify
        Decode what was written and compare it with the hashes of the sources.
    force
        Replace an existing archive.
    threads
        How many; None for one per processor. Never changes the archive's bytes.
    processes
        How many processes of their own help, the threads spread over them; None for what suits threads and sources,
        which is none for few of either. Never changes the archive's bytes.

    Raises
    ------
    InputError
        If a source cannot be read, vanishes or changes.
    DestinationError
        If the archive cannot be written.
    VerifyError
        If what was written does not give the sources back; the archive is not kept.
    """
    paths = [Path(sources)] if isinstance(sources, (str, os.PathLike)) else [Path(source) for source in sources]
    count = _checked_threads(threads)
    if level not in LEVELS:
        raise UsageError(f"level {level!r} is none of {', '.join(LEVELS)}")
    with (
        slab_codec_of(device, device_memory=device_memory) as codec,
        Crew(threads=count, level=level, device=device, device_memory=device_memory, processes=processes) as crew,
    ):
        how = _How(codec, crew, level, count, progress)
        if os.fspath(archive) == "-":
            return _pack_to_pipe(paths, how, verify=verify)
        target = Path(archive)
        _refuse_archive_inside(paths, target)
        with NewFile(target, force=force) as output:
            report = how.pack(paths, output)
            if verify:
                began = time.perf_counter()
                _insist(verify_archive(output.reopen(), threads=count, crew=crew, progress=progress), report)
                report.verify_seconds = time.perf_counter() - began
            crew.dismiss()  # they end while the disk takes the rest
            output.commit()
    return report


def unpack(
    archive: PathLike,
    destination: PathLike,
    *,
    paths: Collection[str | bytes] = (),
    force: bool = False,
    device: str = "auto",
    device_memory: int | None = None,
    threads: int | None = None,
    processes: int | None = None,
    progress: ProgressFactory = silent,
) -> RestoreReport:
    """Bring an archive's tree back below a folder.

    Every file is written under a temporary name, compared with its SHA-256, then renamed. On a damaged archive all
    that can still be proven is restored; the report names the rest, and `RestoreReport.worst` is the error to raise.

    Parameters
    ----------
    archive
        The archive; ``"-"`` is standard input.
    paths
        Only these files and folders; empty for all.
    force
        Replace existing files.
    device, device_memory, threads, processes
        As for `pack`.

    Raises
    ------
    NotAnArchiveError, NewerVersionError
        If the archive cannot be read at all.
    DestinationError
        If something is in the way or cannot be written.
    UsageError
        If `paths` names what is not there.
    """
    wanted = [path if isinstance(path, bytes) else os.fsencode(path) for path in paths]
    count = _checked_threads(threads)
    with (
        slab_codec_of(device, device_memory=device_memory) as codec,
        open_archive(archive) as stream,
        Crew(threads=count, device=device, device_memory=device_memory, processes=processes) as crew,
    ):
        return unpack_archive(
            stream,
            Path(destination),
            paths=wanted,
            force=force,
            threads=count,
            slab_codec=codec,
            crew=crew,
            progress=progress,
        )


def verify(
    archive: PathLike,
    *,
    threads: int | None = None,
    processes: int | None = None,
    progress: ProgressFactory = silent,
) -> RestoreReport:
    """Decode a whole archive and prove every file's SHA-256, writing nothing.

    Raises
    ------
    NotAnArchiveError, NewerVersionError
        If the archive cannot be read at all; what is damaged is in the report.
    """
    count = _checked_threads(threads)
    with Crew(threads=count, processes=processes) as crew, open_archive(archive) as stream:
        return verify_archive(stream, threads=count, crew=crew, progress=progress)


def catalogue(archive: PathLike) -> Catalogue:
    """Read what an archive says of itself: entries, hashes, blocks.

    Raises
    ------
    ArchiveError
        If it is no archive, or its index or tree is damaged.
    """
    with open_archive(archive) as stream:
        return read_catalogue(stream)


def describe_archive(archive: PathLike) -> ArchiveInfo:
    """Sum up what an archive is made of, without decoding its data.

    Raises
    ------
    ArchiveError
        If it is no archive, or its index or tree is damaged.
    """
    return describe_catalogue(catalogue(archive))


@dataclass(frozen=True)
class _How:
    """Hold what one call of `pack` goes by."""

    slab_codec: SlabCodec
    crew: Crew
    level: str
    threads: int
    progress: ProgressFactory

    def pack(self, paths: Sequence[Path], sink: ByteSink) -> PackReport:
        return pack_to_sink(
            paths,
            sink,
            slab_codec=self.slab_codec,
            crew=self.crew,
            level=self.level,
            threads=self.threads,
            progress=self.progress,
        )


def _pack_to_pipe(paths: Sequence[Path], how: _How, *, verify: bool) -> PackReport:
    output = StandardOutput()
    if not verify:
        report = how.pack(paths, output)
        output.flush()
        return report
    tee = ProvingTee(output, threads=how.threads, crew=how.crew)
    try:
        report = how.pack(paths, tee)
    except BaseException:
        tee.abandon()
        raise
    output.flush()
    _insist(tee.finish(), report)
    return report


def _insist(proof: RestoreReport, report: PackReport) -> None:
    """Turn anything but a perfect proof into an error; note links and names that unpack will refuse."""
    refusals = [(path, error) for path, error in proof.failures if isinstance(error, UnsafePathError)]
    wrong = [(path, error) for path, error in proof.failures if not isinstance(error, UnsafePathError)]
    entries = proof.files + proof.folders + proof.links + len(refusals)
    if proof.damage or wrong or entries != report.files + report.folders + report.links:
        what = str(proof.damage[0]) if proof.damage else f"{os.fsdecode(wrong[0][0])!r}: {wrong[0][1]}" if wrong else ""
        raise VerifyError(f"the archive does not give the sources back ({what}); nothing was kept; please report this")
    report.skipped += [(path, f"unpack will refuse it: {error}") for path, error in refusals]
    report.verified = True


def _refuse_archive_inside(sources: Sequence[Path], archive: Path) -> None:
    """Keep an archive from becoming its own source."""
    place = archive.resolve().parent
    for source in sources:
        root = source.resolve()
        if archive.resolve() == root or (archive.exists() and root.exists() and archive.samefile(root)):
            raise UsageError(f"the archive {str(archive)!r} is itself the source; write it elsewhere")
        if source.is_dir() and (place == root or root in place.parents):
            raise UsageError(
                f"the archive {str(archive)!r} would lie inside the source {str(source)!r}; write it elsewhere"
            )


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return default_threads()
    if threads < 1:
        raise UsageError("threads must be at least 1")
    return threads
