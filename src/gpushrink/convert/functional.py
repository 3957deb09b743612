"""The functional groups of a multi-frame image: those of dropped frames go, those that stay move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset

from gpushrink.convert.derive import Derivation, derived_type, position_values, purpose_item, renumbered
from gpushrink.convert.stack import SourceImage

__all__ = ["crop_functional_groups"]

_FRAME_TYPES = (
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "CTPETFrameTypeSequence",
)


def crop_functional_groups(ds: Any, image: SourceImage, kept: Sequence[int], how: Derivation, old_uid: str) -> None:
    """Keep the groups of the frames `kept` (from 0), place them anew and say where each came from.

    Source: PS3.3 C.7.6.16 (indices begin at 1 and have no gaps), C.7.6.16.2.6 (Derivation Image).
    """
    groups = [ds.PerFrameFunctionalGroupsSequence[index] for index in kept]
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for group, index in zip(groups, kept, strict=True):
        position = Dataset()
        position.ImagePositionPatient = position_values(image.planes[index], how.box)
        # Its own position for each frame, also where one was shared: a frame that moved may not share.
        group.PlanePositionSequence = [position]
        group.DerivationImageSequence = [_derivation(ds, how, old_uid, index)]
    for holder in (shared, *groups):
        for keyword in _FRAME_TYPES:
            for item in holder.get(keyword) or ():
                item.FrameType = derived_type(item.get("FrameType"))
    for keyword in ("PlanePositionSequence", "DerivationImageSequence"):
        if keyword in shared:
            delattr(shared, keyword)
    ds.SourceImageEvidenceSequence = [_evidence(ds, image, old_uid)]
    _renumber(groups)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.NumberOfFrames = len(kept)


def _evidence(ds: Any, image: SourceImage, old_uid: str) -> Dataset:
    """Name the source image within its study and series. Source: PS3.3 table 10-4."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = ds.SOPClassUID
    reference.ReferencedSOPInstanceUID = old_uid
    series = Dataset()
    series.SeriesInstanceUID = image.header.SeriesInstanceUID
    series.ReferencedSOPSequence = [reference]
    study = Dataset()
    study.StudyInstanceUID = image.header.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study


def _derivation(ds: Any, how: Derivation, old_uid: str, index: int) -> Dataset:
    code = Dataset()
    code.CodeValue = "113091"
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = "Spatially-related frames extracted from the volume"
    item = Dataset()
    item.DerivationDescription = str(how)
    item.DerivationCodeSequence = [code]
    item.SourceImageSequence = [purpose_item(str(ds.SOPClassUID), old_uid, frame=index + 1)]
    return item


def _renumber(groups: list[Any]) -> None:
    """Close the gaps that dropped frames left in stack positions and dimension indices."""
    contents = [item for group in groups for item in group.get("FrameContentSequence") or ()]
    stacks: dict[str, list[Any]] = {}
    for content in contents:
        if "InStackPositionNumber" in content:
            stacks.setdefault(str(content.get("StackID", "")), []).append(content)
    for members in stacks.values():
        ranks = renumbered([int(m.InStackPositionNumber) for m in members])
        for member in members:
            member.InStackPositionNumber = ranks[int(member.InStackPositionNumber)]
    indexed = [c for c in contents if c.get("DimensionIndexValues") is not None]
    rows = [_numbers(c.DimensionIndexValues) for c in indexed]
    if not rows or len({len(row) for row in rows}) != 1:
        return
    columns = [renumbered(column) for column in zip(*rows, strict=True)]
    for content, row in zip(indexed, rows, strict=True):
        content.DimensionIndexValues = [ranks[value] for ranks, value in zip(columns, row, strict=True)]


def _numbers(value: Any) -> list[int]:
    return [int(value)] if isinstance(value, int) else [int(v) for v in value]
