"""What a cropped image must say of itself: new UIDs where they are due, its derivation, its place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from gpushrink.convert.geometry import Box, Plane

__all__ = ["Derivation", "derive", "derived_uid", "position_values", "purpose_item"]

_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
_ORIGINAL_ONLY = (
    "BulkMotionCompensationTechnique",
    "CoverageOfKSpace",
    "EchoPlanarPulseSequence",
    "EchoPulseSequence",
    "GeometryOfKSpaceTraversal",
    "MRAcquisitionType",
    "MultiPlanarExcitation",
    "MultipleSpinEcho",
    "NumberOfKSpaceTrajectories",
    "OversamplingPhase",
    "PhaseContrast",
    "PulseSequenceName",
    "RectilinearPhaseEncodeReordering",
    "SaturationRecovery",
    "SegmentedKSpaceTraversal",
    "SpectrallySelectedSuppression",
    "SteadyStatePulseSequence",
    "TimeOfFlightContrast",
)
"""Top-level attributes of an Enhanced MR image that a DERIVED one may not have; the source keeps them.

Source: PS3.3 C.8.13.4 and C.8.13.3, as dciodvfy checks them.
"""


@dataclass(frozen=True)
class Derivation:
    """Hold what all images of one cropped series share."""

    box: Box
    seed: str
    created: datetime

    def uid(self, old: str) -> str:
        """Derive the UID that stands for `old` in this crop."""
        return derived_uid(self.seed, old, str(self.box))

    def __str__(self) -> str:
        z = "all" if self.box.z is None else f"{self.box.z[0]}:{self.box.z[1]}"
        columns, rows = (f"{a}:{b}" for a, b in (self.box.x, self.box.y))
        return f"Cropped by gpushrink to columns {columns}, rows {rows}, slices {z}; samples unchanged"


def derived_uid(seed: str, old: str, box: str) -> str:
    """Derive a UID from a seed, the old UID and the box: the same three give the same UID on any machine.

    Two boxes of one series differ in their UIDs under one seed, since their pixels differ.
    Source: PS3.5 B.2, UUID version 8 of RFC 9562 from SHA-256.
    """
    digest = bytearray(hashlib.sha256("\0".join(("gpushrink crop", seed, old, box)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"


def derive(ds: Any, how: Derivation) -> None:
    """Turn a data set's identification into that of a cropped image, in place.

    New: SOP Instance UID (in the file meta too) and Series Instance UID. Kept: study, frame of
    reference, and all that describes patient and acquisition. Source: PS3.3 C.7.6.1.1.2, C.7.4.1.
    """
    old = str(ds.SOPInstanceUID)
    ds.SourceImageSequence = [purpose_item(str(ds.SOPClassUID), old)]
    ds.SOPInstanceUID = how.uid(old)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.SeriesInstanceUID = how.uid(str(ds.SeriesInstanceUID))
    ds.ImageType = derived_type(ds.get("ImageType"))
    for keyword in _ORIGINAL_ONLY if str(ds.SOPClassUID) == _ENHANCED_MR else ():
        if keyword in ds:
            delattr(ds, keyword)
    before = str(ds.get("DerivationDescription") or "")
    ds.DerivationDescription = f"{before}; {how}"[-1024:] if before else str(how)  # ST holds 1024 characters
    ds.InstanceCreationDate = how.created.strftime("%Y%m%d")
    ds.InstanceCreationTime = how.created.strftime("%H%M%S")
    ds.SeriesDescription = (str(ds.get("SeriesDescription") or "")[:58] + " crop").strip()  # LO holds 64
    number = ds.get("SeriesNumber")
    if number is not None and abs(int(number)) < 1_000_000:
        ds.SeriesNumber = int(number) + 1000  # a listing keeps it by its source, and does not merge the two
    for keyword in (
        "IconImageSequence",  # shows the uncropped picture
        "DigitalSignaturesSequence",
        "MACParametersSequence",
        "SmallestPixelValueInSeries",
        "LargestPixelValueInSeries",
        "DataSetTrailingPadding",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
    ):
        if keyword in ds:
            delattr(ds, keyword)


def derived_type(value: Any) -> list[str]:
    """Set value 1 of an ImageType or FrameType to DERIVED and keep the others."""
    values = [value] if isinstance(value, str) else [str(v) for v in value or ()]
    return ["DERIVED", *(values[1:] or ["PRIMARY"])]


def purpose_item(sop_class: str, instance: str, *, frame: int | None = None) -> Dataset:
    """Refer to a source image, or one frame of it (from 1), as used for image processing (DCM 121322)."""
    purpose = Dataset()
    purpose.CodeValue = "121322"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = instance
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def position_values(plane: Plane, box: Box) -> list[str]:
    """Give the ImagePositionPatient of the box's first voxel: its centre, as 16-character decimals."""
    return [format_number_as_ds(float(v)) for v in plane.voxel(box.x[0], box.y[0])]


def renumbered(values: Sequence[int]) -> dict[int, int]:
    """Map the values that are left onto 1, 2, 3 ... in their order."""
    return {value: index for index, value in enumerate(sorted(set(values)), start=1)}
