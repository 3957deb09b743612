"""Find where the pixel data of a DICOM file lies and how it is laid out.

pydicom reads the data set, or `plain` where that is sure to agree; nothing here changes a byte. Whatever surprises
makes the file opaque: that costs ratio and nothing else. Source: docs/format.md, DICOM PS3.5 8.1-8.2, PS3.10 7.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Protocol

from gpushrink.dicom.elements import UNDEFINED
from gpushrink.dicom.plain import HEAD_BYTES, Plain, PlainReader
from gpushrink.model import SampleFormat

__all__ = [
    "DEFLATED",
    "GE_PRIVATE",
    "DicomFile",
    "PixelSpan",
    "describe",
    "describe_by_pydicom",
    "describe_plainly",
    "may_be_dicom",
]

_TAGS = [
    "TransferSyntaxUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "EchoNumbers",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelRepresentation",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
]
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
DEFLATED = "1.2.840.10008.1.2.1.99"
GE_PRIVATE = "1.2.840.113619.5.2"  # implicit little endian with big-endian pixel data
_DEFER = 1024  # values longer than this stay on disk while the data set is read
_MAX_AXIS = 1 << 24
# A frame must fit a block, and several must fit memory; a file of more frames than this is better taken as bytes.
_MAX_FRAME_BYTES = 1 << 26
_MAX_FRAMES = 1 << 18


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """Say where native frames lie: `frames` runs of `frame_bytes` from `offset` on."""

    offset: int
    frames: int
    rows: int
    columns: int
    sample: SampleFormat

    @property
    def frame_bytes(self) -> int:
        """Return the size of one frame in bytes."""
        return self.rows * self.columns * self.sample.components * self.sample.item_bytes

    @property
    def end(self) -> int:
        """Return the offset of the first byte after the frames."""
        return self.offset + self.frames * self.frame_bytes


@dataclass(frozen=True, slots=True)
class DicomFile:
    """Say what a DICOM file holds.

    Parameters
    ----------
    native
        The frames of native pixel data, if any.
    encapsulated
        Offset and length of pixel data that is compressed already, or no samples of 8, 16 or 32 bits, if any.
    series
        What slices must share to be coded together, beside their pixel format.
    image_type
        ImageType: magnitude and phase, say, are volumes of their own.
    position
        Along the slice normal, in mm.
    number
        InstanceNumber.
    time
        What tells volumes of one series apart: temporal position, acquisition, echo.
    """

    native: PixelSpan | None
    encapsulated: tuple[int, int] | None
    series: str
    modality: str
    image_type: str
    position: float
    number: int
    time: tuple[int, ...]


class _Values(Protocol):
    """Give the value of an attribute by its keyword."""

    def __contains__(self, key: str, /) -> bool:
        """Tell whether the attribute is there."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return a value, or the default where there is none."""


def describe(stream: BinaryIO, size: int, head: bytes = b"", *, reader: PlainReader | None = None) -> DicomFile | str:
    """Read a file's data set and find its pixel data.

    Parameters
    ----------
    stream
        The file; its position is moved.
    size
        Its size in bytes.
    head
        Its first bytes, where they have been read already.
    reader
        What to read many alike files with, one after another; never changes what is found.

    Returns
    -------
    DicomFile or str
        What was found, or why the file is kept as plain bytes.
    """
    found = describe_plainly(stream, size, head, reader=reader)
    return describe_by_pydicom(stream, size) if found is None else found


def describe_plainly(
    stream: BinaryIO, size: int, head: bytes = b"", *, reader: PlainReader | None = None
) -> DicomFile | str | None:
    """Do what `describe` does, where pydicom need not look; None where it must.

    What pydicom finds depends on its settings, which are a process's own; what is found here on the file alone.
    """
    if size < 8:
        return "too small for DICOM"
    if not head:
        stream.seek(0)
        head = stream.read(min(size, HEAD_BYTES))
    if not may_be_dicom(head):
        return "not DICOM"
    plain = (reader or PlainReader()).read(stream, size, head)
    return None if plain is None else _describe_plain(plain, size)


def describe_by_pydicom(stream: BinaryIO, size: int) -> DicomFile | str:
    """Do what `describe` does for a file that begins as DICOM does, by pydicom alone: the meaning of `describe`."""
    from pydicom import dcmread  # here: importing it takes longer than reading many a file

    stream.seek(0)
    if isinstance(stream, io.RawIOBase):
        buffered = io.BufferedReader(stream)
        try:
            return describe_by_pydicom(buffered, size)
        finally:
            buffered.detach()  # the caller closes the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = dcmread(stream, defer_size=_DEFER, force=True, specific_tags=_TAGS)
            except Exception:
                return _describe_head(stream, size)
            return _describe(dataset, size)
    except Exception as error:  # anything at all: a file that surprises is kept as bytes
        return f"not readable as DICOM ({type(error).__name__}: {error})"


def may_be_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes whether a file is worth parsing.

    Without the preamble a data set may begin at byte 0: group 2 or 8, little or big endian, a plausible element.
    """
    if head[128:132] == b"DICM":
        return True
    return head[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02") and head[2:4] != b"\xff\xff"


def _describe_plain(plain: Plain, size: int) -> DicomFile | str:
    """Describe what was read without pydicom."""
    if plain.pixels is None:
        return _lay_out(plain.values, None, size)
    return _lay_out(plain.values, _Pixels("PixelData", *plain.pixels, big_endian=False), size)


def _describe(dataset: Any, size: int) -> DicomFile | str:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax == DEFLATED:
        return "a deflated data set"
    name = next((keyword for keyword in _PIXELS if keyword in dataset), None)
    if name is None:
        return _lay_out(dataset, None, size)
    element = dataset.get_item(name, keep_deferred=True)
    big_endian = not element.is_little_endian or syntax == GE_PRIVATE
    return _lay_out(dataset, _Pixels(name, int(element.value_tell), int(element.length), big_endian), size)


class _Pixels(NamedTuple):
    """Say where the value of a pixel data element lies; its length may be `UNDEFINED`."""

    name: str
    offset: int
    length: int
    big_endian: bool


def _lay_out(values: _Values, pixels: _Pixels | None, size: int) -> DicomFile | str:
    native, encapsulated = None, None
    if pixels is None:
        if "SOPInstanceUID" not in values and "SeriesInstanceUID" not in values:
            return "no DICOM object"
    else:
        name, offset, length, big_endian = pixels
        if not 0 < offset <= size:
            return "its pixel data lies outside the file"
        if length == UNDEFINED:
            encapsulated = (offset, size - offset)
        else:
            length = min(length, size - offset)
            native = _native_span(values, name, offset, length, big_endian)
            if native is None and length > _DEFER:
                encapsulated = (offset, length)
    return _summary(values, native, encapsulated)


def _summary(dataset: _Values, native: PixelSpan | None, encapsulated: tuple[int, int] | None) -> DicomFile:
    return DicomFile(
        native=native,
        encapsulated=encapsulated,
        series=str(dataset.get("SeriesInstanceUID", "")),
        modality=str(dataset.get("Modality", "") or ""),
        image_type="/".join(map(str, dataset.get("ImageType") or ())),
        position=_position(dataset),
        number=_integer(dataset.get("InstanceNumber")),
        time=tuple(
            _integer(dataset.get(key)) for key in ("TemporalPositionIdentifier", "AcquisitionNumber", "EchoNumbers")
        ),
    )


def _describe_head(stream: BinaryIO, size: int) -> DicomFile | str:
    """Read what stands before a pixel data element that is itself broken, and take it to reach the file's end."""
    from pydicom import dcmread

    stream.seek(0)
    dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
    at = stream.tell()
    little = bool(dataset.is_little_endian)
    head = stream.read(12)
    tag = (
        int.from_bytes(head[:2], "little" if little else "big"),
        int.from_bytes(head[2:4], "little" if little else "big"),
    )
    if tag != (0x7FE0, 0x0010):
        return "its pixel data cannot be found"
    offset = at + (12 if head[4:6] in (b"OB", b"OW") else 8)
    native = _native_span(dataset, "PixelData", offset, size - offset, not little)
    return _summary(dataset, native, None)


def _native_span(dataset: _Values, name: str, offset: int, length: int, big_endian: bool) -> PixelSpan | None:
    """Lay frames over the bytes that are really there; None where nothing fits."""
    rows, columns = _integer(dataset.get("Rows")), _integer(dataset.get("Columns"))
    components = _integer(dataset.get("SamplesPerPixel"), 1)
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(name) or _integer(dataset.get("BitsAllocated"))
    if bits not in (8, 16, 32) or not 1 <= components <= 4:
        return None
    if not (0 < rows <= _MAX_AXIS and 0 < columns <= _MAX_AXIS):
        return None
    sample = SampleFormat(
        item_bytes=bits // 8,
        signed=_integer(dataset.get("PixelRepresentation")) == 1,
        big_endian=big_endian and bits > 8,
        components=components,
        planar=components > 1 and _integer(dataset.get("PlanarConfiguration")) == 1,
    )
    # The length counts, not NumberOfFrames: truncated pixel data has fewer, padded has bytes left over.
    frame_bytes = rows * columns * components * sample.item_bytes
    frames = length // frame_bytes
    if frame_bytes > _MAX_FRAME_BYTES or not 1 <= frames <= _MAX_FRAMES:
        return None
    return PixelSpan(offset, frames, rows, columns, sample)


def _position(dataset: _Values) -> float:
    """Return the position along the slice normal in mm; 0 where the file does not tell. PS3.3 C.7.6.2.1.1."""
    try:
        at = [float(value) for value in dataset.get("ImagePositionPatient")]
        row = [float(value) for value in dataset.get("ImageOrientationPatient")]
        u, v = row[:3], row[3:]
        normal = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
        position = sum(a * b for a, b in zip(at, normal, strict=True))
    except Exception:
        try:
            position = float(dataset.get("SliceLocation"))
        except Exception:
            return 0.0
    return position if math.isfinite(position) else 0.0


def _integer(value: Any, default: int = 0) -> int:
    try:
        return int(value)
    except Exception:
        return default
