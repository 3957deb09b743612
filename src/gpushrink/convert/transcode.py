"""The story of a transcode: every file becomes the same image in another syntax, or stays what it was."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from gpushrink.convert.choose import choose_for_series
from gpushrink.convert.device import device_encoder
from gpushrink.convert.encoders import encoder_for
from gpushrink.convert.files import list_files, prepare_destination, put_bytes, put_copy, remove_parts
from gpushrink.convert.image import Rewritten, parse, rewrite
from gpushrink.convert.report import FileOutcome, KeepSourceError, SeriesChoice, TranscodeReport
from gpushrink.convert.syntaxes import DEFAULT_ALLOWED, TARGETS, Target, target_named
from gpushrink.errors import InputError, UsageError

__all__ = ["transcode"]

_WORTH_A_PROCESS_BYTES = 16_000_000
"""A process takes about a second to start and import; the slower codecs do some 10 MB/s."""

Progress = Callable[[int, int, FileOutcome], None]


@dataclass(frozen=True)
class _Job:
    source: Path
    relative: str
    dest: Path
    to: str
    recompress: bool
    device: str


def transcode(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    to: str,
    threads: int | None = None,
    force: bool = False,
    recompress: bool = False,
    allowed: tuple[str, ...] = DEFAULT_ALLOWED,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TranscodeReport:
    """Write a folder (or file) anew with every image in another lossless transfer syntax.

    Parameters
    ----------
    source, dest
        The destination is a folder apart from the source; it receives the same tree.
    to
        A key of `syntaxes.TARGETS`, or ``"smallest"``: the best of `allowed` for each series.
    threads
        Worker processes; None takes as many cores as the size is worth, 1 works in this process. As with every use
        of processes, a script that calls this keeps its own start behind ``if __name__ == "__main__"``.
    force
        Write into a folder that is not empty, over files of the same names.
    recompress
        Also convert images that are compressed losslessly already. Lossy images are never touched.
    device
        ``"cpu"``, or ``"cuda"`` for j2k and htj2k; every frame is proven on the CPU either way, and a file
        whose frames from the device cannot be proven is written on the CPU, with a warning.
    progress
        Called after each file with (done, total, outcome), in this process.

    Raises
    ------
    UsageError, InputError, DestinationError, MissingCodecError, DeviceUnavailableError
        Nothing was started, or nothing more can be written. A single image that cannot be converted
        raises nothing: it is copied, and named in the report.
    """
    began = time.monotonic()
    source, dest = Path(source), Path(dest)
    if to == "smallest":
        if not allowed:
            raise UsageError("smallest needs at least one allowed syntax")
        candidates = [target_named(key) for key in allowed]
    else:
        candidates = [target_named(to)]
    if device not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}: cpu or cuda")
    for target in candidates:
        if device == "cuda":
            device_encoder(target)
        elif target.encapsulated:
            encoder_for(target)
    listed = list_files(source)
    prepare_destination(source, dest, force=force)
    workers = max(1, min(threads or _worthwhile(listed), len(listed)))

    choices: tuple[SeriesChoice, ...] = ()
    chosen: dict[Path, str] = {}
    if to == "smallest":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            choices, chosen = choose_for_series([path for path, _ in listed], candidates, recompress=recompress)
    jobs = [
        _Job(path, relative, dest / relative, chosen.get(path, candidates[0].key), recompress, device)
        for path, relative in listed
    ]
    outcomes = []
    for outcome in _run(jobs, workers, _convert):
        outcomes.append(outcome)
        if progress:
            progress(len(outcomes), len(jobs), outcome)
    return TranscodeReport(
        source=str(source),
        dest=str(dest),
        requested=to,
        device=device,
        threads=workers,
        seconds=round(time.monotonic() - began, 3),
        files=tuple(sorted(outcomes, key=lambda o: o.path)),
        choices=choices,
    )


def _worthwhile(listed: list[tuple[Path, str]]) -> int:
    """Count the processes that pay for their start: all cores, but not for a few files that one does in a second."""
    size_bytes = sum(path.stat().st_size for path, _ in listed)
    return min(os.cpu_count() or 1, 1 + size_bytes // _WORTH_A_PROCESS_BYTES)


def _run(jobs: list[_Job], workers: int, convert: Callable[[_Job], FileOutcome]) -> Iterator[FileOutcome]:
    if workers == 1:
        yield from map(convert, jobs)
        return
    left = dict(enumerate(jobs))
    try:
        # spawn: a fork of a process with threads (a progress bar is one) may deadlock.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                waiting = {pool.submit(convert, job): number for number, job in left.items()}
                for done in as_completed(waiting):
                    outcome = done.result()
                    del left[waiting[done]]
                    yield outcome
            except BrokenProcessPool:
                pass
            except BaseException:
                # Waits for the files at work: a pool that was once told not to wait never does.
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for job in left.values():  # a worker that was ended did not clear up
            remove_parts(job.dest)
    yield from _run_apart(list(left.values()), convert)


def _run_apart(jobs: list[_Job], convert: Callable[[_Job], FileOutcome]) -> Iterator[FileOutcome]:
    """Go on after a worker ended, one file at a time, to find the file that a codec library breaks off on."""
    while jobs:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                while jobs:
                    outcome = pool.submit(convert, jobs[0]).result()
                    jobs = jobs[1:]
                    yield outcome
            except BrokenProcessPool:
                broken, jobs = jobs[0], jobs[1:]
                remove_parts(broken.dest)
                yield _copied(broken, broken.source.read_bytes(), "unproven", "a codec library breaks off on it")


def _convert(job: _Job) -> FileOutcome:
    """Convert one file, or copy it and say why; pydicom's remarks on odd values are not for this run's user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _convert_or_copy(job)


def _convert_or_copy(job: _Job) -> FileOutcome:
    try:
        data = job.source.read_bytes()
    except OSError as error:
        raise InputError(f"{job.source}: {error.strerror or error}") from error
    target = TARGETS[job.to]
    try:
        done = _rewritten(data, target, job)
    except KeepSourceError as error:
        return _copied(job, data, "unproven" if error.unproven else "passed", error.reason)
    put_bytes(job.dest, done.data)
    return FileOutcome(
        path=job.relative,
        action="transcoded",
        source_syntax=_syntax(data),
        target_syntax=target.uid,
        frames=done.frames,
        bytes_in=len(data),
        bytes_out=len(done.data),
        writer=done.writer,
        prover=done.prover,
        independent=done.independent,
        warnings=done.warnings,
    )


def _rewritten(data: bytes, target: Target, job: _Job) -> Rewritten:
    """Write a file anew, on the CPU where the device's frames cannot be proven."""
    if job.device != "cuda":
        return rewrite(data, target, recompress=job.recompress)
    try:
        return rewrite(data, target, recompress=job.recompress, encoder=device_encoder(target))
    except KeepSourceError as error:
        if not error.unproven:
            raise
        done = rewrite(data, target, recompress=job.recompress)
        said = f"written on the CPU, since the device's frames could not be proven: {error.reason}"
        return replace(done, warnings=(*done.warnings, said))


def _copied(job: _Job, data: bytes, action: str, reason: str) -> FileOutcome:
    put_copy(job.source, job.dest, data)
    return FileOutcome(
        path=job.relative,
        action=action,
        reason=reason,
        source_syntax=_syntax(data),
        target_syntax=_syntax(data),
        bytes_in=len(data),
        bytes_out=len(data),
    )


def _syntax(data: bytes) -> str:
    try:
        return str(parse(data).file_meta.TransferSyntaxUID)
    except KeepSourceError:
        return ""
