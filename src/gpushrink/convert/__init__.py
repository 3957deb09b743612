"""Conversions whose result is DICOM: lossless transcoding, and a crop with the right geometry."""

from __future__ import annotations

from gpushrink.convert.report import CropOutcome, CropReport, FileOutcome, SeriesChoice, TranscodeReport
from gpushrink.convert.transcode import transcode

__all__ = ["CropOutcome", "CropReport", "FileOutcome", "SeriesChoice", "TranscodeReport", "transcode"]
