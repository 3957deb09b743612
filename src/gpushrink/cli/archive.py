"""The commands around archives: pack, unpack, verify, list, info."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import typer

from gpushrink.cli.output import exit_codes, print_json, progress_bar, say, shown, size_text

__all__ = ["register"]

_ARCHIVE = (5, 6, 7, 8)
_THREADS = typer.Option(None, "--threads", min=1, help="How many threads; all processors by default.")
_PROCESSES = typer.Option(
    None,
    "--processes",
    min=0,
    help="Over how many helping processes to spread the threads; by default some for several GB on many processors.",
)
_DEVICE = typer.Option(
    "auto",
    "--device",
    metavar="DEVICE",
    help="auto (the CPU, and cards for large studies), cpu, cuda, cuda:N,M or cuda:all; with ,cpu behind it the CPU "
    "takes what no card has memory for.",
)
_DEVICE_MEMORY = typer.Option(
    None, "--device-memory", min=1, metavar="MB", help="The most memory to use of each device, in MB."
)
_JSON = typer.Option(False, "--json", help="Print the result as JSON on standard output.")
_INPUT = typer.Argument(..., metavar="ARCHIVE", help="The archive; - is standard input.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog=exit_codes(3, 4, 9, 10))(pack)
    app.command(epilog=exit_codes(3, 4, 10, 11, *_ARCHIVE))(unpack)
    app.command(epilog=exit_codes(3, 11, *_ARCHIVE))(verify)
    app.command("list", epilog=exit_codes(3, *_ARCHIVE))(list_)
    app.command(epilog=exit_codes(3, *_ARCHIVE))(info)


def pack(
    sources: list[Path] = typer.Argument(..., metavar="SOURCE...", help="Folders and files, of any kind."),
    output: str = typer.Option(..., "-o", "--output", metavar="ARCHIVE", help="The archive; - is standard output."),
    level: str = typer.Option("default", "--level", help="fast, default or max: time against size; all lossless."),
    verify: bool = typer.Option(True, help="Decode what was written and compare it with the sources' hashes."),
    force: bool = typer.Option(False, "--force", help="Replace the archive if it exists."),
    crop: str | None = typer.Option(
        None, "--crop", metavar="BOX", help="Pack the series cropped to x0:x1,y0:y1[,z0:z1] (see crop --help)."
    ),
    accept_burned_in: bool = typer.Option(
        False, "--accept-burned-in", help="With --crop: images with burned-in annotation, or that may have it, too."
    ),
    transcode: str | None = typer.Option(
        None, "--transcode", metavar="SYNTAX", help="Pack the images in another lossless syntax (see transcode --help)."
    ),
    device: str = _DEVICE,
    device_memory: int | None = _DEVICE_MEMORY,
    threads: int | None = _THREADS,
    processes: int | None = _PROCESSES,
    as_json: bool = _JSON,
) -> None:
    """Pack folders and files into one archive that gives every byte back.

    One source folder: paths are stored relative to it, so that unpacking gives the same folder. Several sources: each
    under its own name. DICOM slices are grouped by series and coded together; anything else in the folder is kept too.

    \b
    Examples:
      gpushrink pack STUDY -o study.gsz
      gpushrink pack STUDY -o - | ssh host gpushrink unpack - DEST
    """
    from gpushrink.errors import UsageError
    from gpushrink.pipeline import api

    if as_json and output == "-":
        raise UsageError("standard output cannot take both the archive and the report; leave --json out")
    if crop is None and transcode is None:
        report = api.pack(
            sources,
            output,
            level=level,
            device=device,
            device_memory=_in_bytes(device_memory),
            verify=verify,
            force=force,
            threads=threads,
            processes=processes,
            progress=progress_bar,
        )
    else:
        from gpushrink.convert import pack_converted

        report, cropped, transcoded = pack_converted(
            sources,
            output,
            box=crop,
            accept_burned_in=accept_burned_in,
            to=transcode,
            level=level,
            device=device,
            device_memory=_in_bytes(device_memory),
            verify=verify,
            force=force,
            threads=threads,
            processes=processes,
            progress=progress_bar,
        )
        for what, converted in (("crop", cropped), ("transcode", transcoded)):
            if converted is not None:
                counts = Counter(outcome.action for outcome in converted.files)
                say(f"{what}: " + ", ".join(f"{count} {action}" for action, count in sorted(counts.items())))
    for path, reason in report.skipped:
        say(f"note: {shown(path)}: {reason}")
    if as_json:
        print_json(report.as_json())
        return
    seconds = report.seconds + report.verify_seconds
    ratio = report.source_bytes / report.archive_bytes
    say(
        f"{report.files} files, {size_text(report.source_bytes)} -> {size_text(report.archive_bytes)} "
        f"({ratio:.2f} : 1) in {seconds:.1f} s"
        + (", decoded again and proven" if report.verified else ", not verified")
    )
    for role, sizes in report.roles.items():
        if sizes.source:
            say(
                f"  {role.name.lower():<13}{size_text(sizes.source):>12} -> {size_text(sizes.stored):>10}"
                f"  ({sizes.source / max(1, sizes.stored):.2f} : 1)"
            )
    if report.copied_files or report.copied_frames:
        say(f"  stored once: {report.copied_files} identical files, {report.copied_frames} identical frames")


def unpack(
    archive: str = _INPUT,
    destination: Path = typer.Argument(..., metavar="DEST", help="The folder to restore into; made if missing."),
    paths: list[str] | None = typer.Argument(None, metavar="[PATH]...", help="Only these files and folders."),
    force: bool = typer.Option(False, "--force", help="Replace files that exist."),
    device: str = _DEVICE,
    device_memory: int | None = _DEVICE_MEMORY,
    threads: int | None = _THREADS,
    processes: int | None = _PROCESSES,
    as_json: bool = _JSON,
) -> None:
    """Bring the files of an archive back, each proven by its SHA-256 before it gets its name.

    A damaged archive gives back every file that can still be proven; the others are named, and the exit code tells.
    """
    from gpushrink.pipeline import api

    began = time.perf_counter()
    report = api.unpack(
        archive,
        destination,
        paths=paths or (),
        force=force,
        device=device,
        device_memory=_in_bytes(device_memory),
        threads=threads,
        processes=processes,
        progress=progress_bar,
    )
    if as_json:
        print_json(report.as_json())
    for path, failure in report.failures:
        say(f"not restored: {shown(path)}: {failure}")
    if not as_json:
        say(f"{report.files} files, {size_text(report.size)} restored in {time.perf_counter() - began:.1f} s")
    if error := report.worst():
        raise error


def verify(
    archive: str = _INPUT,
    threads: int | None = _THREADS,
    processes: int | None = _PROCESSES,
    as_json: bool = _JSON,
) -> None:
    """Decode a whole archive and prove every file's SHA-256; nothing is written."""
    from gpushrink.pipeline import api

    began = time.perf_counter()
    report = api.verify(archive, threads=threads, processes=processes, progress=progress_bar)
    if as_json:
        print_json(report.as_json())
    for path, failure in report.failures:
        say(f"not proven: {shown(path)}: {failure}")
    if error := report.worst():
        raise error
    if not as_json:
        say(f"{report.files} files, {size_text(report.size)} proven in {time.perf_counter() - began:.1f} s")


def list_(
    archive: str = _INPUT,
    series: bool = typer.Option(False, "--series", help="List the volumes instead, as the Python API numbers them."),
    as_json: bool = _JSON,
) -> None:
    """List what an archive holds: mode, size, time, SHA-256 (JSON only), path; or the volumes in it."""
    from gpushrink.model import EntryKind
    from gpushrink.pipeline import api

    if series:
        _list_series(archive, as_json=as_json)
        return
    catalogue = api.catalogue(archive)
    if as_json:
        print_json(
            [
                {
                    "path": shown(entry.path),
                    "kind": entry.kind.name.lower(),
                    "size": entry.size,
                    "mode": f"{entry.mode:04o}",
                    "mtime_ns": entry.mtime_ns,
                    "sha256": catalogue.digests[i].hex() if i in catalogue.digests else None,
                    "link": shown(entry.link) if entry.kind is EntryKind.LINK else None,
                }
                for i, entry in sorted(catalogue.entries.items())
            ]
        )
        return
    letters = {EntryKind.FILE: "-", EntryKind.FOLDER: "d", EntryKind.LINK: "l"}
    for _, entry in sorted(catalogue.entries.items()):
        when = _time_text(entry.mtime_ns)
        tail = f" -> {shown(entry.link)}" if entry.kind is EntryKind.LINK else ""
        print(f"{letters[entry.kind]}{entry.mode:04o} {entry.size:>12} {when} {shown(entry.path)}{tail}")


def _list_series(archive: str, *, as_json: bool) -> None:
    from gpushrink.errors import UsageError
    from gpushrink.pipeline.arrays import open_volumes

    if archive == "-":
        raise UsageError("--series reads single blocks, which a pipe cannot give; name a file")
    with open_volumes(archive) as opened:
        volumes = opened.series()
    if as_json:
        print_json([one.as_json() for one in volumes])
        return
    for one in volumes:
        size = " x ".join(map(str, one.shape))
        files = "1 file" if len(one.files) == 1 else f"{len(one.files)} files"
        print(
            f"{one.index:>4}  {one.series}  {one.modality:<4} {size} {one.dtype}, {files}  {one.description}".rstrip()
        )


def info(archive: str = _INPUT, as_json: bool = _JSON) -> None:
    """Say what an archive is made of: sizes, what was stored how, ratio."""
    from gpushrink.pipeline import api

    values = api.describe_archive(archive)
    if as_json:
        print_json(values.as_json())
        return
    print(f"format version  {values.version}")
    print(f"entries         {values.files} files, {values.folders} folders, {values.links} links")
    print(f"contents        {size_text(values.source_bytes)}")
    print(f"archive         {size_text(values.archive_bytes)} ({values.ratio:.2f} : 1)")
    for row in values.rows:
        print(
            f"  {row.role:<13} {row.codec:<8} {row.blocks:>6} blocks {size_text(row.decoded):>12} -> "
            f"{size_text(row.stored):>10}"
        )


def _in_bytes(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes * 1_000_000


def _time_text(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns // 10**9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{mtime_ns // 10**9:>19}"
