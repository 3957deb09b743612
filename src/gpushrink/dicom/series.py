"""Put slices into volumes, in an order that lets each be predicted from the one before.

A wrong order costs ratio and nothing else, so no tag is trusted further than that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gpushrink.dicom.spans import DicomFile
from gpushrink.model import SampleFormat

__all__ = ["Frame", "Volume", "group_volumes"]


class Frame(NamedTuple):
    """Say where one frame lies: in which file, from which byte on. A tuple, since scans hash many thousands."""

    file_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class Volume:
    """Hold frames of one size and format in coding order."""

    series: str
    modality: str
    rows: int
    columns: int
    sample: SampleFormat
    frames: tuple[Frame, ...]

    @property
    def frame_bytes(self) -> int:
        """Return the size of one frame in bytes."""
        return self.rows * self.columns * self.sample.components * self.sample.item_bytes


def group_volumes(files: Mapping[int, DicomFile]) -> list[Volume]:
    """Group native frames by series, image type and pixel format.

    Multi-frame objects are volumes of their own. Slices are ordered by what tells volumes of one series apart
    (time, acquisition, echo), then position along the normal, then instance number, then id (that is, name).

    Returns
    -------
    list of Volume
        In order of the smallest file id of each.
    """
    slices: dict[tuple[object, ...], list[int]] = defaultdict(list)
    volumes: list[tuple[int, Volume]] = []
    for file_id, file in files.items():
        span = file.native
        if span is None:
            continue
        if span.frames > 1:
            frames = tuple(Frame(file_id, span.offset + k * span.frame_bytes) for k in range(span.frames))
            volumes.append((file_id, Volume(file.series, file.modality, span.rows, span.columns, span.sample, frames)))
        else:
            slices[(file.series, file.image_type, span.rows, span.columns, span.sample)].append(file_id)
    for ids in slices.values():
        ids.sort(key=lambda i: (files[i].time, files[i].position, files[i].number, i))
        first = files[ids[0]]
        if first.native is None:
            continue
        frames = tuple(Frame(i, span.offset) for i in ids if (span := files[i].native) is not None)
        span = first.native
        volumes.append((min(ids), Volume(first.series, first.modality, span.rows, span.columns, span.sample, frames)))
    return [volume for _, volume in sorted(volumes, key=lambda pair: pair[0])]
