"""DICOM and the file system: what lies where. The only place that knows pydicom."""
