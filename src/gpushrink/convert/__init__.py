"""Conversions whose result is DICOM: lossless transcoding, and a crop with the right geometry."""
