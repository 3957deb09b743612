"""Read what computing on an image needs to know from what stands before its pixel data.

`gpushrink.dicom.spans` asks the same of files that are packed; here only the first bytes of a file are at hand.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gpushrink.dicom.elements import LONG_VRS, UNDEFINED
from gpushrink.dicom.geometry import Plane, Vector, normal_of
from gpushrink.dicom.spans import DEFLATED, GE_PRIVATE, may_be_dicom

__all__ = ["ImageHeader", "PixelLayout", "parse_header"]

_TAGS = [
    "TransferSyntaxUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "Modality", "ImageType", "InstanceNumber", "TemporalPositionIdentifier", "AcquisitionNumber",
    "EchoNumbers", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "Units", "DoseUnits", "DoseGridScaling", "GridFrameOffsetVector",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
]  # fmt: skip
_MOST_FRAMES = 1 << 20
_MOST_COMPONENTS = 64
_FLOATS = {0x0008: "float32", 0x0009: "float64"}  # by element of group 7FE0
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420")


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """Say how samples lie in a file.

    Parameters
    ----------
    dtype
        numpy's name for the type of a sample: what BitsAllocated and PixelRepresentation say.
    bits_stored, high_bit
        Which bits of its container hold a sample; the others mean nothing (PS3.5 8.1.1).
    native
        Frames lie one after another from `offset` on, whole bytes a sample. If not (compressed, single bits,
        subsampled colour, bytes swapped in words), a decoder is needed.
    length
        Of the pixel data element, in bytes; None where it is not told.
    """

    frames: int
    rows: int
    columns: int
    components: int
    planar: bool
    dtype: str
    bits_stored: int
    high_bit: int
    big_endian: bool
    native: bool
    offset: int
    length: int | None
    photometric: str
    syntax: str


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Hold what the header of one image says.

    Parameters
    ----------
    times
        EchoNumbers, TemporalPositionIdentifier, AcquisitionNumber: what may tell volumes of one series apart.
    planes, slopes
        For each frame: its place in the patient, if told; rescale slope and intercept, if told.
    """

    instance: str
    study: str
    series: str
    series_number: int
    description: str
    modality: str
    image_type: str
    number: int
    times: tuple[int, int, int]
    pixels: PixelLayout
    planes: tuple[Plane | None, ...]
    slopes: tuple[tuple[float, float] | None, ...]
    unit: str


def parse_header(head: bytes) -> ImageHeader | None:
    """Read the first bytes of a file, up to the value of its pixel data or farther.

    Returns
    -------
    ImageHeader or None
        None where the bytes begin no DICOM image.
    """
    from pydicom import dcmread  # here: importing it takes longer than reading many a file

    if not may_be_dicom(head):
        return None
    stream = io.BytesIO(head)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            pixels = _pixels(dataset, head, stream.tell())
            return None if pixels is None else _summary(dataset, pixels)
    except Exception:  # anything at all: what surprises is no image
        return None


def _pixels(dataset: Any, head: bytes, at: int) -> PixelLayout | None:
    syntax = str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ""))
    rows, columns = _integer(dataset.get("Rows")), _integer(dataset.get("Columns"))
    bits = _integer(dataset.get("BitsAllocated"))
    components = _integer(dataset.get("SamplesPerPixel"), 1)
    frames = max(1, _integer(dataset.get("NumberOfFrames"), 1))
    # What no image has, and what would make a reader of hostile headers hold more than it should.
    if not (rows >= 1 and columns >= 1 and 1 <= components <= _MOST_COMPONENTS and 0 <= bits <= 64):
        return None
    if frames > _MOST_FRAMES:
        return None
    deflated = syntax == DEFLATED
    implicit, little = dataset.original_encoding
    element, length, offset = (0x0010, None, 0) if deflated else _element(head[at : at + 12], at, implicit, little)
    if element not in (0x0008, 0x0009, 0x0010):
        return None
    photometric = str(dataset.get("PhotometricInterpretation", "") or "").strip()
    signed = _integer(dataset.get("PixelRepresentation")) == 1
    bits = {0x0008: 32, 0x0009: 64}.get(element, bits)
    dtype = _FLOATS.get(element) or f"{'' if signed else 'u'}int{max(8, 1 << (max(1, bits) - 1).bit_length())}"
    whole = element != 0x0010 or bits in (8, 16, 32, 64)
    swapped = bits == 8 and not little and head[at + 4 : at + 6] == b"OW"
    stored = _integer(dataset.get("BitsStored"), bits)
    high = _integer(dataset.get("HighBit"), stored - 1)
    if element != 0x0010 or not (1 <= stored <= bits and stored - 1 <= high < bits):
        stored, high = bits, bits - 1
    return PixelLayout(
        frames=frames,
        rows=rows,
        columns=columns,
        components=components,
        planar=components > 1 and _integer(dataset.get("PlanarConfiguration")) == 1,
        dtype=dtype,
        bits_stored=stored,
        high_bit=high,
        big_endian=not little or syntax == GE_PRIVATE,
        native=whole
        and length is not None
        and not swapped
        and photometric not in _SUBSAMPLED
        and not _compressed(syntax),
        offset=offset,
        length=length,
        photometric=photometric,
        syntax=syntax,
    )


def _element(raw: bytes, at: int, implicit: bool, little: bool) -> tuple[int, int | None, int]:
    """Read the head of the element at `at`: its number if of group 7FE0, its length if told, where its value begins."""
    order: Any = "little" if little else "big"
    if int.from_bytes(raw[:2], order) != 0x7FE0:
        return 0, None, 0
    element = int.from_bytes(raw[2:4], order)
    if implicit or not raw[4:6].isalpha():
        length, size = int.from_bytes(raw[4:8], order), 8
    elif raw[4:6] in LONG_VRS:
        length, size = int.from_bytes(raw[8:12], order), 12
    else:
        length, size = int.from_bytes(raw[6:8], order), 8
    return element, None if length == UNDEFINED else length, at + size


def _compressed(syntax: str) -> bool:
    from pydicom.uid import UID

    try:
        return bool(UID(syntax).is_encapsulated)
    except ValueError:  # a private syntax, or none
        return False


def _summary(dataset: Any, pixels: PixelLayout) -> ImageHeader:
    frames = list(_frames(dataset, pixels.frames))
    kinds = dataset.get("ImageType") or ()
    image_type = "/".join((kinds,) if isinstance(kinds, str) else map(str, kinds))
    mosaic = "MOSAIC" in image_type  # one image that holds many slices: its one position is none of theirs
    return ImageHeader(
        instance=_text(dataset, "SOPInstanceUID"),
        study=_text(dataset, "StudyInstanceUID"),
        series=_text(dataset, "SeriesInstanceUID"),
        series_number=_integer(dataset.get("SeriesNumber")),
        description=_text(dataset, "SeriesDescription"),
        modality=_text(dataset, "Modality"),
        image_type=image_type,
        number=_integer(dataset.get("InstanceNumber")),
        times=(
            _integer(dataset.get("EchoNumbers")),
            _integer(dataset.get("TemporalPositionIdentifier")),
            _integer(dataset.get("AcquisitionNumber")),
        ),
        pixels=pixels,
        planes=tuple(None if mosaic else plane for plane, _ in frames),
        slopes=tuple(pair for _, pair in frames),
        unit=_text(dataset, "RescaleType") or _text(dataset, "Units") or _text(dataset, "DoseUnits"),
    )


def _frames(dataset: Any, count: int) -> Iterator[tuple[Plane | None, tuple[float, float] | None]]:
    """Give the plane and the rescale of each frame, from the functional groups where there are such."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(groups) != count:
        # What stands outside the groups places one frame; a cine loop's frames share no grid, a dose's do.
        first, slope = _plane(dataset.get), _slope(dataset.get)
        steps = (0.0,) if count == 1 else _numbers(dataset.get("GridFrameOffsetVector"), count)
        for k in range(count):
            yield _moved(first, steps[k] - steps[0]) if first and steps else None, slope
        return
    shared: Any = (dataset.get("SharedFunctionalGroupsSequence") or ({},))[0]
    for group in groups:

        def find(keyword: str, group: Any = group) -> Any:
            sequence = _HOME.get(keyword, "")
            items = sequence and (group.get(sequence) or shared.get(sequence))
            return items[0].get(keyword) if items else None

        yield _plane(find), _slope(find)


_HOME = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


def _plane(find: Any) -> Plane | None:
    position, orientation, spacing = (
        _numbers(find(name), count)
        for name, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    )
    if position is None or orientation is None:
        return None
    thickness = _numbers(find("SpacingBetweenSlices"), 1) or _numbers(find("SliceThickness"), 1) or (0.0,)
    u, v = _vector(orientation[:3]), _vector(orientation[3:])
    right = abs(sum(a * b for a, b in zip(u, v, strict=True))) < 1e-2
    if not (right and abs(math.hypot(*u) - 1) < 1e-2 and abs(math.hypot(*v) - 1) < 1e-2):
        return None
    gaps = (spacing[0], spacing[1]) if spacing is not None and min(spacing) > 0 else None
    return Plane(_vector(position), u, v, gaps, max(0.0, thickness[0]))


def _moved(plane: Plane, distance: float) -> Plane:
    """Return a plane moved along its normal."""
    x, y, z = (at + distance * along for at, along in zip(plane.position, normal_of(plane), strict=True))
    return replace(plane, position=(x, y, z))


def _slope(find: Any) -> tuple[float, float] | None:
    dose = _numbers(find("DoseGridScaling"), 1)
    if dose is not None:
        return dose[0], 0.0
    slope, intercept = _numbers(find("RescaleSlope"), 1), _numbers(find("RescaleIntercept"), 1)
    return None if slope is None or intercept is None else (slope[0], intercept[0])


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        found = tuple(map(float, [value] if count == 1 else value))
    except Exception:
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _vector(values: tuple[float, ...]) -> Vector:
    return values[0], values[1], values[2]


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _integer(value: Any, default: int = 0) -> int:
    try:
        return int(value)
    except Exception:
        return default
