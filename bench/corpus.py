"""Read the corpus: which sets there are, which files they have, which series of slices lie in them."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.series import Volume
from gpushrink.dicom.source import read_ranges
from gpushrink.dicom.walk import Found, walk_sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["LEAST_SLICES", "Series", "StudySet", "find_data", "load_corpus", "load_series"]

LEAST_SLICES = 16
_CORPUS = Path(__file__).with_name("corpus.toml")


@dataclass(frozen=True)
class StudySet:
    """Name a folder of the corpus and say what it takes part in."""

    name: str
    kind: str
    folder: Path
    leave_out: tuple[str, ...]
    speed: bool
    quick: bool

    def files(self) -> list[Path]:
        """Return the files, in order of path."""
        return sorted(
            path
            for path in self.folder.rglob("*")
            if path.is_file() and path.relative_to(self.folder).as_posix() not in self.leave_out
        )

    def sources(self) -> list[Path]:
        """Return what to hand to pack: the folder, or its entries where some file is left out."""
        if not self.leave_out:
            return [self.folder]
        return sorted(path for path in self.folder.iterdir() if path.name not in self.leave_out)


@dataclass(frozen=True)
class Series:
    """Hold the native frames of one series in coding order.

    Parameters
    ----------
    frames
        As stored, one after another in the order that pack codes them in; frames that repeat are left out.
    """

    name: str
    modality: str
    volume: Volume
    frames: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of the pixel data."""
        return len(self.frames) * self.volume.frame_bytes

    @property
    def samples(self) -> int:
        """Return the number of samples."""
        return self.size_bytes // self.volume.sample.item_bytes

    def images(self) -> list[NDArray[Any]]:
        """Return the slices as unsigned images, the series' least value moved to 0.

        Image codecs have no signed samples, or lose several per cent on padding that wraps: this is what suits them.
        """
        sample = self.volume.sample
        order = ">" if sample.big_endian else "<"
        kind = np.dtype(f"{order}{'i' if sample.signed else 'u'}{sample.item_bytes}")
        stack = np.stack([np.frombuffer(frame, kind) for frame in self.frames]).astype(np.int64)
        unsigned = np.dtype(f"u{sample.item_bytes}")
        stack = (stack - (stack.min() if sample.signed else 0)).astype(unsigned)
        return [np.ascontiguousarray(image) for image in stack.reshape(-1, self.volume.rows, self.volume.columns)]


def find_data(given: str | None) -> Path | None:
    """Return the data folder that was named, or that GPUSHRINK_DATA names; None where there is none."""
    name = given or os.environ.get("GPUSHRINK_DATA")
    folder = Path(name) if name else None
    return folder if folder is not None and folder.is_dir() else None


def load_corpus(data: Path, only: str = "") -> list[StudySet]:
    """Return the sets of the corpus that are there; `only` keeps those with this text in their names."""
    with _CORPUS.open("rb") as stream:
        table = tomllib.load(stream)
    sets = [
        StudySet(
            name=row["name"],
            kind=row["kind"],
            folder=data / row["name"],
            leave_out=tuple(row.get("leave_out", ())),
            speed=row.get("speed", False),
            quick=row.get("quick", False),
        )
        for row in table["set"]
    ]
    return [one for one in sets if one.folder.is_dir() and only in one.name]


def load_series(study: StudySet, *, least_slices: int = LEAST_SLICES) -> list[Series]:
    """Return the series of a set that have enough slices of 8 or 16 bits and one component.

    A series whose frames are all in an earlier one (a converted copy) is left out: it would count twice.
    """
    found = walk_sources(study.sources()).found
    out: list[Series] = []
    seen: set[bytes] = set()
    for volume in scan_files(found).volumes:
        if len(volume.frames) < least_slices or volume.sample.item_bytes > 2 or volume.sample.components > 1:
            continue
        frames = tuple(read_ranges(found[f.file_id], [(f.offset, volume.frame_bytes)])[0] for f in volume.frames)
        marks = {hashlib.sha256(frame).digest() for frame in frames}
        if marks <= seen:
            continue
        seen |= marks
        out.append(Series(_name(study, found, volume), volume.modality, volume, frames))
    return out


def _name(study: StudySet, found: tuple[Found, ...], volume: Volume) -> str:
    """Name a series after its set and the folder or, where several series share one, the file it begins in."""
    path = Path(os.fsdecode(found[volume.frames[0].file_id].entry.path))
    several = len({frame.file_id for frame in volume.frames}) == 1
    inner = path.with_suffix("").as_posix() if several else path.parent.as_posix()
    return study.name if inner == "." else f"{study.name}/{inner}"
