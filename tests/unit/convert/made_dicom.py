"""Generators of small DICOM objects with known pixels and places, and the real data where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ROOT = "1.2.826.0.1.3680043.10.1234"


def base_image(pixels: np.ndarray, *, bits_stored: int | None = None, photometric: str = "MONOCHROME2") -> Dataset:
    """Make a CT-like data set around an array (rows, columns[, 3]) or (frames, rows, columns)."""
    colour = photometric in ("RGB", "YBR_FULL")
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CT
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{ROOT}.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.100", f"{ROOT}.200"
    ds.FrameOfReferenceUID = f"{ROOT}.300"
    ds.PatientID, ds.PatientName, ds.Modality = "made-up", "Made^Up", "CT"
    ds.StudyDate, ds.SeriesNumber, ds.InstanceNumber = "20200101", 3, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    shape = pixels.shape[:-1] if colour else pixels.shape
    ds.Rows, ds.Columns = shape[-2:]
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = bits_stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = np.ascontiguousarray(pixels).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return ds


def save(ds: Dataset, path: Path) -> Path:
    """Write a data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def orientation(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give row direction, column direction and the step between slices (mm) of a kind of acquisition."""
    if kind == "axial":
        return np.array([1.0, 0, 0]), np.array([0.0, 1, 0]), np.array([0.0, 0, 2.5])
    if kind == "tilted":  # the gantry leans by 20 degrees, the table moves along z
        angle = np.deg2rad(20)
        return np.array([1.0, 0, 0]), np.array([0, np.cos(angle), np.sin(angle)]), np.array([0.0, 0, 2.5])
    a, b = np.deg2rad(25), np.deg2rad(-15)  # double oblique
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    return turn[:, 0], turn[:, 1], turn[:, 2] * 2.5


SPACING = (0.7, 0.9)  # between rows, between columns
ORIGIN = np.array([-31.5, 12.25, 100.125])
MARK = (5, 17, 23)  # slice, row, column


def mark_place(kind: str) -> np.ndarray:
    """Give the patient coordinates of the marked voxel."""
    row, column, step = orientation(kind)
    return ORIGIN + step * MARK[0] + row * SPACING[1] * MARK[2] + column * SPACING[0] * MARK[1]


def volume(slices: int = 9, rows: int = 40, columns: int = 48) -> np.ndarray:
    """Make a volume of noise with one voxel that stands out."""
    made = np.random.default_rng(7).integers(-1000, 1000, (slices, rows, columns)).astype(np.int16)
    made[MARK] = 3000
    return made


def write_series(folder: Path, kind: str, *, change: Callable[[Dataset, int], Any] | None = None) -> Path:
    """Write a single-frame series, its files in no order."""
    row, column, step = orientation(kind)
    for index, plane in enumerate(volume()):
        ds = base_image(plane, bits_stored=16)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.1.{index}"
        ds.InstanceNumber = index + 1
        ds.ImageOrientationPatient = [f"{v:.9f}" for v in (*row, *column)]
        ds.ImagePositionPatient = [f"{v:.9f}" for v in ORIGIN + step * index]
        ds.PixelSpacing, ds.SliceThickness = list(SPACING), 2.5
        ds.SmallestImagePixelValue, ds.LargestImagePixelValue = int(plane.min()), int(plane.max())
        if change:
            change(ds, index)
        save(ds, folder / f"{(index * 7) % 9:02d}.dcm")
    return folder


def write_enhanced(path: Path, kind: str) -> Path:
    """Write the same volume as one multi-frame object, its frames in reverse order."""
    row, column, step = orientation(kind)
    stack = volume()[::-1]
    ds = base_image(stack)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = ENHANCED_CT
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 2.5
    plane.ImageOrientationPatient = [f"{v:.9f}" for v in (*row, *column)]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for frame in range(len(stack)):
        index = len(stack) - 1 - frame
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [f"{v:.9f}" for v in ORIGIN + step * index]
        content.StackID, content.InStackPositionNumber = "1", index + 1
        content.DimensionIndexValues = [1, index + 1]
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return save(ds, path)


def real_files() -> Iterator[Path]:
    """List the real data: everything in odd folders, a few of each long series; nothing where there are none."""
    root = Path(os.environ.get("GPUSHRINK_DATA") or "/nonexistent")
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size < 8_000_000)
        yield from files if folder.name.startswith(("odd", "codecs")) else files[:: max(1, len(files) // 3)]


def pydicom_files() -> list[Path]:
    """List the test files that are installed with pydicom, without a download."""
    return sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
