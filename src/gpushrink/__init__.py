"""Lossless compression for DICOM studies."""
