"""A series as a stack: its files and frames in their order along the normal, and their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpushrink.convert.decoders import working_decoders
from gpushrink.convert.endian import to_little_endian
from gpushrink.convert.frames import Frame, PixelLayout, native_frames, read_layout
from gpushrink.convert.geometry import Plane, order_along_normal
from gpushrink.convert.image import compressed_icon, parse
from gpushrink.convert.report import KeepSourceError
from gpushrink.convert.structure import check_whole
from gpushrink.convert.syntaxes import LOSSLESS, NATIVE
from gpushrink.errors import InputError, UsageError

__all__ = ["CROPPABLE", "SourceImage", "Stack", "decoded", "read_stack", "refusal_to_crop"]

_STORAGE = "1.2.840.10008.5.1.4.1.1."
CROPPABLE = frozenset(
    _STORAGE + tail
    for tail in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, MG, intra-oral
        *("2", "2.1", "2.2"),  # CT, Enhanced CT, Legacy Converted Enhanced CT
        *("4", "4.1", "4.4"),  # MR, Enhanced MR, Legacy Converted Enhanced MR
        *("128", "130", "128.1"),  # PET, Enhanced PET, Legacy Converted Enhanced PET
        *("6.1", "3.1", "12.1", "12.2"),  # ultrasound, XA, RF
        *("7", "7.1", "7.2", "7.3", "7.4"),  # secondary capture
    )
)
"""Objects whose geometry this module knows whole. NM, RT Dose, SEG, whole-slide keep theirs elsewhere."""

_OFTEN_ANNOTATED = ("US", "IVUS", "SC", "OT")
_POINTS_AT_PIXELS = {"SEG": "segmentation", "RTSTRUCT": "structure set", "RTDOSE": "dose", "RTPLAN": "plan"}


@dataclass
class SourceImage:
    """Hold one file of a stack: its data set, its planes frame by frame, and their numbers along the normal."""

    path: Path
    relative: str
    header: Any
    layout: PixelLayout
    planes: tuple[Plane, ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stack:
    """Hold the images of one series. `slices` counts places along the normal, 1 where there is no geometry."""

    uid: str
    images: tuple[SourceImage, ...]
    rows: int
    columns: int
    slices: int
    placed: bool


def refusal_to_crop(ds: Any, *, accept_burned_in: bool) -> str:
    """Say why an object is not cropped; empty if it can be."""
    modality = str(ds.get("Modality", ""))
    if modality in _POINTS_AT_PIXELS:
        return f"a {_POINTS_AT_PIXELS[modality]} points at pixels and UIDs of the uncropped series; make it anew"
    if modality in ("SR", "PR", "KO"):
        return "refers to the uncropped series; its references are not re-pointed"
    if str(ds.get("SOPClassUID", "")) not in CROPPABLE:
        return "not an image whose geometry can be cropped"
    if not ds.get("SOPInstanceUID") or not ds.get("SeriesInstanceUID"):
        return "has no SOP or series instance UID"
    if "Rows" not in ds:
        return "has no pixels"
    if "MOSAIC" in [str(v) for v in _values(ds.get("ImageType"))]:
        return "a mosaic: one image that holds many slices has no one plane"
    if "ConcatenationUID" in ds:
        return "part of a concatenation"
    return "" if accept_burned_in else _burned_in(ds, modality)


def _burned_in(ds: Any, modality: str) -> str:
    said = str(ds.get("BurnedInAnnotation") or "")
    if said == "YES":
        return "has burned-in annotation: a crop may keep or lose it, look first, then allow it (--accept-burned-in)"
    if not said and modality in _OFTEN_ANNOTATED:
        return (
            f"does not say whether annotation is burned in, as it often is in {modality}: a crop may keep or lose it, "
            "look first, then allow it (--accept-burned-in)"
        )
    return ""


def _values(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def read_stack(uid: str, files: list[tuple[Path, str, Any]]) -> Stack:
    """Put the files (path, relative path, header) of a series in order.

    Raises
    ------
    UsageError
        The images differ in size or orientation, or only some have a position.
    InputError
        A pixel module cannot be read.
    """
    images = []
    for path, relative, header in files:
        try:
            layout = read_layout(header)
        except KeepSourceError as error:
            raise InputError(f"{path}: {error.reason}") from error
        images.append(SourceImage(path, relative, header, layout, _planes(header, layout)))
    sizes = {(image.layout.rows, image.layout.columns) for image in images}
    if len(sizes) > 1:
        raise UsageError(f"series {uid}: its images have different sizes {sorted(sizes)}; no one box fits them")
    rows, columns = sizes.pop()
    placed = all(image.planes for image in images)
    if not placed and any(image.planes for image in images):
        raise UsageError(f"series {uid}: only some of its images have a position")
    slices = 1
    if placed:
        planes = [plane for image in images for plane in image.planes]
        numbers = iter(order_along_normal(planes))
        for image in images:
            image.numbers = tuple(next(numbers) for _ in image.planes)
        slices = 1 + max(n for image in images for n in image.numbers)
    else:
        for image in images:
            image.numbers = (0,) * image.layout.frames
    return Stack(uid, tuple(images), rows, columns, slices, placed)


def _planes(ds: Any, layout: PixelLayout) -> tuple[Plane, ...]:
    """Read the plane of every frame, from the functional groups where there are such; empty without geometry."""
    if "PerFrameFunctionalGroupsSequence" not in ds:
        if not all(ds.get(k) for k in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
            return ()
        return (_plane(ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing),) * layout.frames
    shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
    planes = []
    for group in ds.PerFrameFunctionalGroupsSequence:
        found = []
        for sequence, keyword in (
            ("PlanePositionSequence", "ImagePositionPatient"),
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
            ("PixelMeasuresSequence", "PixelSpacing"),
        ):
            items = group.get(sequence) or shared.get(sequence)
            if not items or not items[0].get(keyword):
                return ()
            found.append(items[0].get(keyword))
        planes.append(_plane(*found))
    if len(planes) != layout.frames:
        raise UsageError(f"{len(planes)} functional groups for {layout.frames} frames")
    return tuple(planes)


def _plane(position: Any, orientation: Any, spacing: Any) -> Plane:
    place, directions, gaps = ([float(v) for v in values] for values in (position, orientation, spacing))
    if len(place) != 3 or len(directions) != 6 or len(gaps) != 2 or min(gaps) <= 0:
        raise UsageError("a position, orientation or pixel spacing has the wrong number of values")
    row, column = np.array(directions[:3]), np.array(directions[3:])
    if not (abs(row @ row - 1) < 1e-3 and abs(column @ column - 1) < 1e-3 and abs(row @ column) < 1e-3):
        raise UsageError("an orientation does not consist of two unit vectors at right angles")
    return Plane(
        (place[0], place[1], place[2]),
        (directions[0], directions[1], directions[2]),
        (directions[3], directions[4], directions[5]),
        gaps[0],
        gaps[1],
    )


def decoded(image: SourceImage) -> tuple[Any, Iterator[Frame]]:
    """Read the whole file of an image again: its data set in little endian, and its frames.

    A lossy image is decoded once and stored as decoded: cropping adds no further loss, and
    LossyImageCompression, which says what happened before, stays.

    Raises
    ------
    InputError
        The pixels are truncated or cannot be decoded.
    """
    try:
        data = image.path.read_bytes()
        ds = parse(data)
        uid = str(ds.file_meta.TransferSyntaxUID)
        check_whole(data, uid)
        layout = read_layout(ds)
        if uid not in NATIVE and compressed_icon(ds):
            raise KeepSourceError("an image in a sequence is compressed too, which an uncompressed file may not have")
        if uid in NATIVE:
            to_little_endian(ds, uid)
            return ds, native_frames(bytes(ds.PixelData), layout)
        if uid in LOSSLESS:
            if layout.photometric == "YBR_RCT":
                ds.PhotometricInterpretation = "RGB"
            return ds, working_decoders(ds, layout)[0].frames(ds, layout)
        return ds, _lossy_frames(ds)
    except KeepSourceError as error:
        raise InputError(f"{image.path}: {error.reason}; nothing of this series is written") from error
    except Exception as error:  # a decoder may raise anything
        raise InputError(f"{image.path}: {type(error).__name__}: {error}; nothing of this series is written") from error


def _lossy_frames(ds: Any) -> Iterator[Frame]:
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
    failed: Exception = KeepSourceError("no decoder for its transfer syntax is installed")
    # GDCM last: it ends the whole process on some odd files.
    for plugin in sorted(decoder.available_plugins, key=lambda name: name == "gdcm"):
        frames, photometric = [], ""
        options: dict[str, Any] = {"raw": True, "correct_unused_bits": False, "decoding_plugin": plugin}
        try:
            for frame, described in decoder.iter_array(ds, **options):
                frames.append(np.asarray(frame))
                photometric = str(described["photometric_interpretation"])
        except Exception as error:  # a decoder may raise anything
            failed = error
            continue
        # Decoders widen subsampled colour; the attribute must say so.
        ds.PhotometricInterpretation = "YBR_FULL" if photometric == "YBR_FULL_422" else photometric
        return iter(frames)
    raise failed
