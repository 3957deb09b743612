"""Lossless compression for DICOM studies: one archive, every byte given back.

The verbs of the command line as typed functions. Nothing heavy is imported before a verb is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpushrink.archive.reader import Catalogue
    from gpushrink.dicom.geometry import Geometry, Rescale
    from gpushrink.pipeline.api import catalogue, describe_archive, pack, unpack, verify
    from gpushrink.pipeline.arrays import Archive
    from gpushrink.pipeline.arrays import open_volumes as open
    from gpushrink.pipeline.demo import DemoReport, run_demo
    from gpushrink.pipeline.describing import ArchiveInfo
    from gpushrink.pipeline.packing import PackReport
    from gpushrink.pipeline.restore_report import RestoreReport
    from gpushrink.pipeline.volumes import VolumeInfo

__all__ = [
    "Archive",
    "ArchiveInfo",
    "Catalogue",
    "DemoReport",
    "Geometry",
    "PackReport",
    "Rescale",
    "RestoreReport",
    "VolumeInfo",
    "catalogue",
    "describe_archive",
    "open",
    "pack",
    "run_demo",
    "unpack",
    "verify",
]

# Where each name lives: a module, and its name there if that is another.
_HOME = {
    "Archive": "pipeline.arrays",
    "ArchiveInfo": "pipeline.describing",
    "Catalogue": "archive.reader",
    "DemoReport": "pipeline.demo",
    "Geometry": "dicom.geometry",
    "PackReport": "pipeline.packing",
    "Rescale": "dicom.geometry",
    "RestoreReport": "pipeline.restore_report",
    "VolumeInfo": "pipeline.volumes",
    "catalogue": "pipeline.api",
    "describe_archive": "pipeline.api",
    "open": "pipeline.arrays:open_volumes",
    "pack": "pipeline.api",
    "run_demo": "pipeline.demo",
    "unpack": "pipeline.api",
    "verify": "pipeline.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import gpushrink`` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'gpushrink' has no attribute {name!r}")
    module, _, other = _HOME[name].partition(":")
    return getattr(import_module(f"gpushrink.{module}"), other or name)


def __dir__() -> list[str]:
    return sorted(__all__)
