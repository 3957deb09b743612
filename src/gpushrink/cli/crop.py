"""``gpushrink crop``: parse, call `gpushrink.convert.crop`, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpushrink.cli.output import exit_codes
from gpushrink.errors import UsageError

if TYPE_CHECKING:
    from gpushrink.convert import CropReport
    from gpushrink.convert.region import Region

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to an app."""

    @app.command(epilog=exit_codes(3, 4, 12))
    def crop(
        source: Annotated[Path, typer.Argument(help="A folder with one series or more, or one file.")],
        dest: Annotated[Path, typer.Argument(help="The folder to write the cropped series to.")],
        box: Annotated[
            str | None,
            typer.Option("--box", help="x0:x1,y0:y1[,z0:z1] in pixels: columns, rows, slices; half-open, from 0."),
        ] = None,
        mm: Annotated[
            str | None, typer.Option("--mm", help="x0:x1,y0:y1,z0:z1 in millimetres of the patient's axes (LPS).")
        ] = None,
        around: Annotated[str | None, typer.Option("--around", help="x,y,z: a centre in millimetres (LPS).")] = None,
        size: Annotated[
            str | None, typer.Option("--size", help="a,b,c or one number: the size for --around, mm.")
        ] = None,
        auto_body: Annotated[
            bool, typer.Option("--auto-body", help="Crop to the largest connected thing above the background.")
        ] = False,
        margin: Annotated[
            float, typer.Option("--margin", min=0, help="Margin around it, mm (with --auto-body).")
        ] = 5.0,
        series: Annotated[str | None, typer.Option("--series", help="The Series Instance UID to crop.")] = None,
        seed: Annotated[str | None, typer.Option("--seed", help="Any text; the same seed gives the same UIDs.")] = None,
        preview: Annotated[
            Path | None, typer.Option("--preview", help="Draw the box on three projections (PNG).")
        ] = None,
        preview_only: Annotated[bool, typer.Option("--preview-only", help="Draw, and write no images.")] = False,
        accept_burned_in: Annotated[
            bool,
            typer.Option("--accept-burned-in", help="Crop images with burned-in annotation, or that may have it, too."),
        ] = False,
        force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    ) -> None:
        """Crop a series to a region of interest: new UIDs, DERIVED, the right place in the patient.

        The box is the same for every slice. Segmentations, structure sets, reports and whatever else
        points at the uncropped series are left out and named: their references are not re-pointed.
        """
        from gpushrink import convert
        from gpushrink.cli.convert_progress import progress_bar

        region = _region(box, mm, around, size, margin if auto_body else None)
        with progress_bar("cropping", quiet=as_json) as advance:
            report = convert.crop(
                source,
                dest,
                region=region,
                series=series,
                seed=seed,
                preview=preview,
                preview_only=preview_only,
                accept_burned_in=accept_burned_in,
                force=force,
                progress=advance,
            )
        if as_json:
            typer.echo(json.dumps(report.to_json(), indent=2))
        else:
            _print(report)


def _region(box: str | None, mm: str | None, around: str | None, size: str | None, margin: float | None) -> Region:
    from gpushrink import convert

    if sum(given is not None for given in (box, mm, around, margin)) != 1:
        raise UsageError("give one of --box, --mm, --around with --size, --auto-body")
    if (around is None) != (size is None):
        raise UsageError("--around and --size go together")
    if box is not None:
        return convert.parse_box(box)
    if mm is not None:
        return convert.parse_mm(mm)
    if around is not None and size is not None:
        return convert.parse_around(around, size)
    return convert.AutoBody(margin_mm=margin or 0.0)


def _print(report: CropReport) -> None:
    for outcome in report.files:
        if outcome.action == "refused":
            print(f"{outcome.path}: left out: {outcome.reason}", file=sys.stderr)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for uid, (x, y, z) in report.boxes.items():
        slices, rows, columns = report.shapes[uid]
        typer.echo(
            f"series {uid}: columns {x[0]}:{x[1]}, rows {y[0]}:{y[1]}, slices {z[0]}:{z[1]} "
            f"= {columns} x {rows} x {slices}"
        )
    counts = ", ".join(f"{report.count(a)} {a}" for a in ("cropped", "outside", "refused"))
    typer.echo(f"{len(report.files)} files ({counts}), seed {report.seed}, {report.seconds:.1f} s")
