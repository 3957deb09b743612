"""Conversions whose result is DICOM: lossless transcoding, and a crop with the right geometry."""

from __future__ import annotations

from gpushrink.convert.compose import pack_converted
from gpushrink.convert.crop import crop
from gpushrink.convert.geometry import Box
from gpushrink.convert.region import AutoBody, PatientRegion, parse_around, parse_box, parse_mm
from gpushrink.convert.report import CropOutcome, CropReport, FileOutcome, SeriesChoice, TranscodeReport
from gpushrink.convert.transcode import transcode

__all__ = [
    "AutoBody",
    "Box",
    "CropOutcome",
    "CropReport",
    "FileOutcome",
    "PatientRegion",
    "SeriesChoice",
    "TranscodeReport",
    "crop",
    "pack_converted",
    "parse_around",
    "parse_box",
    "parse_mm",
    "transcode",
]
