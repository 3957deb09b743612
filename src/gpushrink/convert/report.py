"""What a conversion did, file by file: frozen, printable, and ready for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["CropOutcome", "CropReport", "FileOutcome", "KeepSourceError", "SeriesChoice", "TranscodeReport"]


class KeepSourceError(Exception):
    """Stop the conversion of one file: its bytes are copied as they are.

    Parameters
    ----------
    reason
        One clause for the report.
    unproven
        True when the conversion was wanted but could not be proven right; False when the file
        is not of the kind that is converted (not an image, compressed already, lossy).
    """

    def __init__(self, reason: str, *, unproven: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unproven = unproven


@dataclass(frozen=True)
class FileOutcome:
    """Tell what became of one source file.

    ``action`` is ``"transcoded"``, ``"passed"`` (byte for byte, by intent) or ``"unproven"`` (byte for
    byte, because no proof of equality could be had). ``prover`` names the decoder that read the result;
    ``independent`` says that it shares no code with the writer.
    """

    path: str
    action: str
    reason: str = ""
    source_syntax: str = ""
    target_syntax: str = ""
    frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    writer: str = ""
    prover: str = ""
    independent: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeriesChoice:
    """Tell which syntax ``smallest`` took for one series, and the sample sizes it compared (bytes)."""

    series: str
    chosen: str
    sampled_files: int
    sizes: tuple[tuple[str, int], ...]
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TranscodeReport:
    """Hold the outcome of one `transcode` run."""

    source: str
    dest: str
    requested: str
    device: str
    threads: int
    seconds: float
    files: tuple[FileOutcome, ...]
    choices: tuple[SeriesChoice, ...] = ()

    @property
    def bytes_in(self) -> int:
        """Sum the source sizes."""
        return sum(f.bytes_in for f in self.files)

    @property
    def bytes_out(self) -> int:
        """Sum the destination sizes."""
        return sum(f.bytes_out for f in self.files)

    def count(self, action: str) -> int:
        """Count the files with this action."""
        return sum(f.action == action for f in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers, totals first."""
        return {
            "totals": {
                "files": len(self.files),
                **{a: self.count(a) for a in ("transcoded", "passed", "unproven")},
                "bytes_in": self.bytes_in,
                "bytes_out": self.bytes_out,
            },
            **asdict(self),
        }


@dataclass(frozen=True)
class CropOutcome:
    """Tell what became of one source file: ``action`` is ``"cropped"``, ``"outside"`` or ``"refused"``."""

    path: str
    action: str
    reason: str = ""
    written: str = ""
    old_uid: str = ""
    new_uid: str = ""
    frames: int = 0


@dataclass(frozen=True)
class CropReport:
    """Hold the outcome of one `crop` run.

    ``boxes`` maps a new series UID to its box ``((x0, x1), (y0, y1), (z0, z1))``, half-open, in pixels of
    the old series; ``shapes`` to the new (slices, rows, columns).
    """

    source: str
    dest: str
    region: str
    seed: str
    files: tuple[CropOutcome, ...]
    boxes: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    previews: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def count(self, action: str) -> int:
        """Count the files with this action."""
        return sum(f.action == action for f in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers, totals first."""
        totals = {"files": len(self.files), **{a: self.count(a) for a in ("cropped", "outside", "refused")}}
        return {"totals": totals, **asdict(self)}
