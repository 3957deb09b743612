"""The story of a crop: find the series, turn the region into one box, write each image anew within it."""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from gpushrink.convert.derive import Derivation, derive, position_values, renumbered
from gpushrink.convert.files import list_files, prepare_destination, put_bytes
from gpushrink.convert.frames import native_bytes, read_layout
from gpushrink.convert.functional import crop_functional_groups
from gpushrink.convert.geometry import Box, bounding_box
from gpushrink.convert.image import parse, serialize
from gpushrink.convert.planar import crop_overlays, set_extremes, shift_edges, shift_regions
from gpushrink.convert.preview import draw_preview
from gpushrink.convert.region import AutoBody, PatientRegion, Region
from gpushrink.convert.report import CropOutcome, CropReport, KeepSourceError
from gpushrink.convert.stack import SourceImage, Stack, decoded, read_stack, refusal_to_crop
from gpushrink.convert.survey import body_box, project
from gpushrink.convert.syntaxes import TARGETS
from gpushrink.errors import DestinationError, InputError, UsageError, VerifyError

__all__ = ["crop"]

Progress = Callable[[int, int, CropOutcome], None]


def crop(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    region: Region,
    series: str | None = None,
    seed: str | None = None,
    preview: str | os.PathLike[str] | None = None,
    preview_only: bool = False,
    accept_burned_in: bool = False,
    force: bool = False,
    created: datetime | None = None,
    progress: Progress | None = None,
) -> CropReport:
    """Crop the series of a folder to a region and write them as new, derived series.

    Parameters
    ----------
    region
        A `Box` in pixels (one series only), a `PatientRegion` in millimetres (LPS), or `AutoBody`.
    series
        The Series Instance UID to crop, where the folder has several.
    seed
        The same seed, source and region give the same UIDs; None takes a random one.
    preview
        Where to draw the box on three projections (PNG). With several series, their order is appended.
    preview_only
        Draw, and write no images.
    accept_burned_in
        Crop images that say they have burned-in annotation, and ultrasound and captures that do not say; what they
        say stays.
    created
        What to state as time of creation; None takes SOURCE_DATE_EPOCH where it is set, else the clock.

    Raises
    ------
    UsageError
        The region does not fit, no box fits all slices, or a choice between series is needed.
    InputError
        There is no image to crop, or one cannot be decoded: a series is written whole or not at all.
    DestinationError, VerifyError
        The result cannot be written, or does not read back as it was meant.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on odd values are not for this run's user
        return _crop(
            Path(source),
            Path(dest),
            region=region,
            series=series,
            seed=seed if seed is not None else uuid.uuid4().hex,
            preview=Path(preview) if preview else None,
            preview_only=preview_only,
            accept_burned_in=accept_burned_in,
            force=force,
            created=created or _now(),
            progress=progress,
        )


def _crop(
    source: Path,
    dest: Path,
    *,
    region: Region,
    series: str | None,
    seed: str,
    preview: Path | None,
    preview_only: bool,
    accept_burned_in: bool,
    force: bool,
    created: datetime,
    progress: Progress | None,
) -> CropReport:
    began = time.monotonic()
    stacks, refused = _find(source, series, accept_burned_in)
    if isinstance(region, Box) and len(stacks) > 1:
        names = "; ".join(f"{s.uid} ({len(s.images)} files)" for s in stacks)
        raise UsageError(f"a box in pixels fits one series, here are {len(stacks)}: choose with --series: {names}")
    for stack in stacks:
        if not stack.placed and isinstance(region, PatientRegion):
            raise UsageError(f"series {stack.uid} has no position in the patient: use a box in pixels")
    planned = [(stack, _resolve(region, stack)) for stack in stacks]
    if not preview_only:
        prepare_destination(source, dest, force=force)
    drawn = [_preview(stack, box, preview, i, len(planned)) for i, (stack, box) in enumerate(planned) if preview]

    outcomes = list(refused)
    boxes, shapes, said = {}, {}, []
    total = len(refused) + sum(len(stack.images) for stack in stacks)
    written: list[Path] = []
    try:
        for stack, box in planned:
            how = Derivation(box, seed, created)
            z = box.z or (0, stack.slices)
            boxes[how.uid(stack.uid)] = (box.x, box.y, z)
            shapes[how.uid(stack.uid)] = (z[1] - z[0], box.y[1] - box.y[0], box.x[1] - box.x[0])
            said += _warnings(stack)
            for image in stack.images if not preview_only else ():
                outcome = _crop_image(image, stack, how, dest)
                if outcome.written:
                    written.append(dest / outcome.written)
                outcomes.append(outcome)
                if progress:
                    progress(len(outcomes), total, outcome)
    except BaseException:
        for path in written:  # half a series would pass for a whole one
            path.unlink(missing_ok=True)
        raise
    return CropReport(
        source=str(source),
        dest=str(dest),
        region=str(region) if not isinstance(region, Box) else f"box {region}",
        seed=seed,
        files=tuple(outcomes),
        boxes=boxes,
        shapes=shapes,
        previews=tuple(drawn),
        warnings=tuple(dict.fromkeys(said)),
        seconds=round(time.monotonic() - began, 3),
    )


def _now() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now().astimezone()


def _find(source: Path, series: str | None, accept_burned_in: bool) -> tuple[list[Stack], list[CropOutcome]]:
    """Sort the files of a source into stacks to crop and files that are refused, with reasons."""
    members: dict[str, list[tuple[Path, str, Any]]] = defaultdict(list)
    refused = []
    for path, relative in list_files(source):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # not DICOM, or so broken that no parser gets through
            refused.append(CropOutcome(relative, "refused", "not a DICOM file"))
            continue
        if reason := refusal_to_crop(header, accept_burned_in=accept_burned_in):
            refused.append(CropOutcome(relative, "refused", reason))
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        if series and uid != series:
            refused.append(CropOutcome(relative, "refused", "of another series than the one chosen"))
            continue
        members[uid].append((path, relative, header))
    if not members:
        said = "; ".join(dict.fromkeys(o.reason for o in refused))
        raise InputError(f"{source}: no image to crop ({said or 'the folder is empty'})")
    return [read_stack(uid, files) for uid, files in sorted(members.items())], refused


def _resolve(region: Region, stack: Stack) -> Box:
    if isinstance(region, AutoBody):
        box = body_box(stack, region.margin_mm)
    elif isinstance(region, PatientRegion):
        planes = [plane for image in stack.images for plane in image.planes]
        numbers = [number for image in stack.images for number in image.numbers]
        low, high = np.array(region.low), np.array(region.high)
        box = bounding_box(planes, numbers, stack.columns, stack.rows, low, high)
    else:
        box = region
    box = box.within(stack.columns, stack.rows, stack.slices)
    _check_dynamic(stack, box)
    return box


def _check_dynamic(stack: Stack, box: Box) -> None:
    """Refuse to drop slices of a dynamic PET: ImageIndex counts slices and times in one number."""
    kind = [str(v) for v in stack.images[0].header.get("SeriesType") or ()]
    if kind and kind[0] in ("DYNAMIC", "GATED") and box.z != (0, stack.slices):
        raise UsageError(
            f"series {stack.uid}: slices of a {kind[0].lower()} PET series cannot be dropped; give no z range"
        )


def _preview(stack: Stack, box: Box, path: Path, index: int, count: int) -> str:
    place = path if count == 1 else path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
    if place.exists():
        raise DestinationError(f"{place}: exists already")
    put_bytes(place, draw_preview(project(stack), box))
    return str(place)


def _crop_image(image: SourceImage, stack: Stack, how: Derivation, dest: Path) -> CropOutcome:
    box = how.box
    z = box.z or (0, stack.slices)
    kept = [i for i, number in enumerate(image.numbers) if z[0] <= number < z[1]]
    old = str(image.header.SOPInstanceUID)
    if not kept:
        return CropOutcome(image.relative, "outside", old_uid=old)
    ds, frames = decoded(image)
    wanted = set(kept)
    try:
        cut = [
            np.ascontiguousarray(frame[box.y[0] : box.y[1], box.x[0] : box.x[1]])
            for index, frame in enumerate(frames)
            if index in wanted
        ]
    except KeepSourceError as error:
        raise InputError(f"{image.path}: {error.reason}; nothing of this series is written") from error
    except Exception as error:  # a decoder may raise anything
        raise InputError(f"{image.path}: {type(error).__name__}: {error}; nothing of this series is written") from error
    if len(cut) != len(kept):
        raise InputError(f"{image.path}: {len(cut)} frames came back instead of {len(kept)}")

    derive(ds, how)
    if "PerFrameFunctionalGroupsSequence" in ds:
        crop_functional_groups(ds, image, kept, how, old)
    elif image.planes:
        ds.ImagePositionPatient = position_values(image.planes[0], box)
    ds.Rows, ds.Columns = box.y[1] - box.y[0], box.x[1] - box.x[0]
    crop_overlays(ds, box)
    shift_edges(ds, box)
    shift_regions(ds, box)
    set_extremes(ds, cut)
    _count_slices(ds, stack, z)
    if ds.get("SamplesPerPixel", 1) > 1:
        ds.PlanarConfiguration = 0
    layout = read_layout(ds)
    ds.PixelData = native_bytes(cut, layout)
    ds["PixelData"].VR = "OW" if layout.bits_allocated > 8 else "OB"
    ds["PixelData"].is_undefined_length = False
    try:
        data = serialize(ds, TARGETS["explicit"])
        after = parse(data)
    except KeepSourceError as error:
        raise InputError(f"{image.path}: {error.reason}") from error
    if after.PixelData != ds.PixelData or after.SOPInstanceUID != ds.SOPInstanceUID:
        raise VerifyError(f"{image.path}: the cropped image does not read back as it was meant")
    put_bytes(dest / image.relative, data)
    return CropOutcome(image.relative, "cropped", "", image.relative, old, str(ds.SOPInstanceUID), len(cut))


def _count_slices(ds: Any, stack: Stack, z: tuple[int, int]) -> None:
    """Keep PET's slice count and image index right after slices were dropped. Source: PS3.3 C.8.9.1, C.8.9.4."""
    if "NumberOfSlices" not in ds or z == (0, stack.slices):
        return
    ds.NumberOfSlices = z[1] - z[0]
    if "ImageIndex" in ds:
        left = [
            int(image.header.ImageIndex)
            for image in stack.images
            if "ImageIndex" in image.header and z[0] <= image.numbers[0] < z[1]
        ]
        ds.ImageIndex = renumbered(left)[int(ds.ImageIndex)]


def _warnings(stack: Stack) -> list[str]:
    said = []
    first = stack.images[0].header
    if str(first.get("BurnedInAnnotation", "")) == "YES":
        said.append(f"series {stack.uid}: burned-in annotation may be left in the crop; BurnedInAnnotation stays YES")
    elif not first.get("BurnedInAnnotation") and str(first.get("Modality", "")) in ("US", "SC", "OT", "XA", "RF"):
        said.append(f"series {stack.uid}: does not say whether annotation is burned in; look at the crop")
    tags = first.keys()  # iterating the data set itself would decode its values
    if any(tag.group % 2 for tag in tags):
        said.append(f"series {stack.uid}: private elements are kept as they are, and may repeat the old geometry")
    return said
