"""The container: bytes only, no arrays, no DICOM."""
