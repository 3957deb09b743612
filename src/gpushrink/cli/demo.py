"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path

import typer

from gpushrink.cli.output import exit_codes, print_json, say, size_text

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=exit_codes(4, 9))(demo)


def demo(
    keep: Path | None = typer.Option(None, "--keep", metavar="DIR", help="Leave the series and the archive in DIR."),
    slices: int = typer.Option(24, "--slices", min=1, max=999, help="How many slices to make."),
    threads: int | None = typer.Option(None, "--threads", min=1, help="How many threads; all processors by default."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
) -> None:
    """Show the round trip on a synthetic CT series made on the spot, beside zip and xz.

    The series is written, packed, verified, unpacked, and every byte compared.
    """
    from gpushrink.pipeline.demo import run_demo

    report = run_demo(slices=slices, threads=threads, keep=keep, tell=lambda line: say(f"- {line}"))
    if as_json:
        print_json(report.as_json())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.files} files, {size_text(report.source_bytes)}; every byte came back")
    table.add_column("method")
    for name in ("size", "ratio", "compress", "restore"):
        table.add_column(name, justify="right")
    for row in report.rows:
        table.add_row(
            row.method,
            size_text(row.size),
            f"{report.source_bytes / row.size:.2f} : 1",
            f"{row.compress_seconds:.2f} s",
            f"{row.restore_seconds:.2f} s",
        )
    Console().print(table)
    say("gpushrink's compress time includes decoding everything again to prove it. Synthetic noise is hard to")
    say("compress: real series do better. Next: gpushrink pack YOUR_STUDY -o study.gsz")
