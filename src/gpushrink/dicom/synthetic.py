"""Make a small CT series that looks like one, for the demo and for tests where no real data is at hand.

A chest of ellipses with smooth tissue, noise correlated as a reconstruction kernel leaves it, and padding outside the
field of view. It flatters no codec on purpose; real series are what counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["make_volume", "write_series"]

_PADDING = -2000
_ROOT_UID = "2.25.20240229"


def make_volume(slices: int, rows: int, columns: int, *, seed: int = 1) -> NDArray[np.int16]:
    """Return stored values [slice, row, column] of a chest phantom."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    volume = np.empty((slices, rows, columns), np.int16)
    kernel = np.exp(-((np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None] ** 2) / (2 * 0.16**2)))
    texture = _smooth(rng.standard_normal((rows, columns)), 0.01) * 12
    for k in range(slices):
        z = k / max(1, slices - 1)
        body = (x / 0.85) ** 2 + (y / 0.62) ** 2
        lung = ((np.abs(x) - 0.38) / (0.26 + 0.05 * z)) ** 2 + (y / (0.38 + 0.06 * np.sin(3 * z))) ** 2
        heart = ((x - 0.1) / 0.2) ** 2 + ((y + 0.12 - 0.1 * z) / 0.22) ** 2
        spine = (x / 0.09) ** 2 + ((y - 0.42) / 0.1) ** 2
        image = np.full((rows, columns), -1000.0)
        image[body < 1] = 40
        image[body > 0.9] -= 100 * (body[body > 0.9] < 1)
        image[(lung < 1) & (body < 0.85)] = -850
        image[heart < 1] = 45
        image[spine < 1] = 350 + 150 * np.cos(40 * z)
        vessels = np.sin(31 * x + 9 * z) * np.sin(27 * y - 7 * z) > 0.97
        image[vessels & (lung < 1)] = -200
        noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((rows, columns))) * kernel, s=(rows, columns))
        image = _smooth(image + texture, 0.2) + noise * 45
        image[x**2 + y**2 > 1] = _PADDING
        volume[k] = np.rint(image).astype(np.int16)
    return volume


def write_series(folder: Path, *, slices: int = 24, rows: int = 512, columns: int = 512, seed: int = 1) -> int:
    """Write the phantom as a series of DICOM files and return the bytes written.

    Parameters
    ----------
    folder
        Must exist; the files are named ``IM0001.dcm`` and so on.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    volume = make_volume(slices, rows, columns, seed=seed)
    written = 0
    for k, image in enumerate(volume):
        uid = UID(f"{_ROOT_UID}.{seed}.1.{k + 1}")
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = uid
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.ImplementationClassUID = UID(f"{_ROOT_UID}.0")
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid
        data.StudyDate, data.SeriesDate, data.Modality = "20240229", "20240229", "CT"
        data.Manufacturer, data.SeriesDescription = "gpushrink", "synthetic chest"
        data.PatientName, data.PatientID = "Phantom^Chest", "PHANTOM"
        data.SliceThickness, data.KVP = "1.25", "120"
        data.StudyInstanceUID, data.SeriesInstanceUID = f"{_ROOT_UID}.{seed}", f"{_ROOT_UID}.{seed}.1"
        data.FrameOfReferenceUID = f"{_ROOT_UID}.{seed}.2"
        data.SeriesNumber, data.InstanceNumber = "1", str(k + 1)
        data.ImagePositionPatient = ["-175", "-175", f"{-100 + 1.25 * k:.2f}"]
        data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        data.PixelSpacing = [f"{350 / rows:.6f}"] * 2
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = rows, columns
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleIntercept, data.RescaleSlope = "0", "1"
        data.PixelData = image.astype("<i2").tobytes()
        path = folder / f"IM{k + 1:04d}.dcm"
        data.save_as(path, enforce_file_format=True)
        written += path.stat().st_size
    return written


def _smooth(image: NDArray[np.float64], cutoff: float) -> NDArray[np.float64]:
    """Filter by a Gaussian in the frequency domain; `cutoff` is in cycles per sample."""
    rows, columns = image.shape
    squared = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None] ** 2
    out: NDArray[np.float64] = np.fft.irfft2(np.fft.rfft2(image) * np.exp(-squared / (2 * cutoff**2)), s=image.shape)
    return out
