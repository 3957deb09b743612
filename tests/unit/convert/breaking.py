"""A conversion that ends its process on one file, as a codec library may: importable by a worker."""

from __future__ import annotations

import os
from typing import Any

from gpushrink.convert.report import FileOutcome
from gpushrink.convert.transcode import _convert


def convert(job: Any) -> FileOutcome:
    """Convert a file, or end the process."""
    if "bad" in job.relative:
        os._exit(11)
    return _convert(job)
