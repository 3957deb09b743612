"""``gpushrink transcode``: parse, call `gpushrink.convert.transcode`, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpushrink.cli.output import exit_codes

if TYPE_CHECKING:
    from gpushrink.convert import FileOutcome, TranscodeReport

__all__ = ["register"]

_TARGETS = "jpegls, jpeg, j2k, htj2k, jpegxl, rle, deflated, deflated-frame, explicit, implicit, or smallest"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""

    @app.command(epilog=exit_codes(3, 4, 10, 12))
    def transcode(
        source: Annotated[Path, typer.Argument(help="A DICOM file, or a folder with anything in it.")],
        dest: Annotated[Path, typer.Argument(help="The folder to write; it receives the same tree.")],
        to: Annotated[str, typer.Option("--to", help=f"{_TARGETS}. All are lossless.")],
        allow: Annotated[
            str, typer.Option("--allow", help="What smallest may choose from, separated by commas.")
        ] = "jpegls,j2k,jpeg,rle,deflated",
        recompress: Annotated[
            bool, typer.Option("--recompress", help="Also convert images compressed losslessly already.")
        ] = False,
        threads: Annotated[
            int | None, typer.Option("--threads", min=1, help="Processes; all cores if left out.")
        ] = None,
        device: Annotated[str, typer.Option("--device", help="cpu, or cuda for j2k and htj2k.")] = "cpu",
        force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    ) -> None:
        """Write images in another lossless transfer syntax; they stay DICOM, and any viewer opens them.

        Every frame is decoded again, by a second implementation where there is one, and compared before
        a file gets its name. What cannot be proven, lossy images and files that are no images are copied
        byte for byte, and named in the report. SOP Instance UIDs stay. `--to explicit` undoes it.
        """
        from gpushrink import convert
        from gpushrink.cli.convert_progress import progress_bar

        with progress_bar("transcoding", quiet=as_json) as advance:
            report = convert.transcode(
                source,
                dest,
                to=to,
                threads=threads,
                force=force,
                recompress=recompress,
                allowed=tuple(word.strip() for word in allow.split(",") if word.strip()),
                device=device,
                progress=advance,
            )
        if as_json:
            typer.echo(json.dumps(report.to_json(), indent=2))
        else:
            _print(report)


def _print(report: TranscodeReport) -> None:
    for choice in report.choices:
        sizes = ", ".join(f"{key} {size:,}" for key, size in choice.sizes) or "none of the allowed fits"
        typer.echo(
            f"series {choice.series}: {choice.chosen or 'left as it is'} ({choice.sampled_files} sampled: {sizes})"
        )
    for outcome in report.files:
        if outcome.action == "unproven":
            _say(outcome, f"copied unchanged: {outcome.reason}")
        for warning in outcome.warnings:
            _say(outcome, f"warning: {warning}")
    if alone := sum(o.action == "transcoded" and not o.independent for o in report.files):
        print(
            f"{alone} files were proven by the code base that wrote them: pip install 'gpushrink[convert-proof]' "
            "brings a second one",
            file=sys.stderr,
        )
    counts = ", ".join(f"{report.count(a)} {a}" for a in ("transcoded", "passed", "unproven"))
    ratio = report.bytes_in / report.bytes_out if report.bytes_out else 1.0
    typer.echo(
        f"{len(report.files)} files ({counts}), {report.bytes_in:,} -> {report.bytes_out:,} bytes "
        f"({ratio:.2f} : 1), {report.seconds:.1f} s, {report.device}, {report.threads} processes"
    )


def _say(outcome: FileOutcome, text: str) -> None:
    print(f"{outcome.path}: {text}", file=sys.stderr)
