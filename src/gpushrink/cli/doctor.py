"""The command ``doctor``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from gpushrink.cli.output import exit_codes, print_json, say
from gpushrink.errors import DeviceUnavailableError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=exit_codes(10))(doctor)


def doctor(as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON.")) -> None:
    """Say what this machine has for CUDA, try it, and name the line that installs each thing it lacks.

    Without any of it gpushrink works on the CPU, and reads and writes the same archives.
    """
    from gpushrink.devices.doctor import examine, is_usable

    findings = examine()
    if as_json:
        print_json({"usable": is_usable(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{finding.status:<8} {finding.what}: {finding.detail}")
            if finding.remedy:
                print(f"         {finding.remedy}")
    if not is_usable(findings):
        if as_json:
            raise typer.Exit(DeviceUnavailableError.exit_code)
        say("The CPU path needs none of this.")
        raise DeviceUnavailableError("no usable CUDA device; see above for what is missing")
