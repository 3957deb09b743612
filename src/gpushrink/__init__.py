"""Lossless compression for DICOM studies: one archive, every byte given back.

The verbs of the command line as typed functions. Nothing heavy is imported before a verb is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpushrink.archive.reader import Catalogue
    from gpushrink.pipeline.api import catalogue, describe_archive, pack, unpack, verify
    from gpushrink.pipeline.demo import DemoReport, run_demo
    from gpushrink.pipeline.describing import ArchiveInfo
    from gpushrink.pipeline.packing import PackReport
    from gpushrink.pipeline.unpacking import RestoreReport

__all__ = [
    "ArchiveInfo",
    "Catalogue",
    "DemoReport",
    "PackReport",
    "RestoreReport",
    "catalogue",
    "describe_archive",
    "pack",
    "run_demo",
    "unpack",
    "verify",
]

_HOME = {
    "ArchiveInfo": "pipeline.describing",
    "Catalogue": "archive.reader",
    "DemoReport": "pipeline.demo",
    "PackReport": "pipeline.packing",
    "RestoreReport": "pipeline.unpacking",
    "catalogue": "pipeline.api",
    "describe_archive": "pipeline.api",
    "pack": "pipeline.api",
    "run_demo": "pipeline.demo",
    "unpack": "pipeline.api",
    "verify": "pipeline.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import gpushrink`` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'gpushrink' has no attribute {name!r}")
    return getattr(import_module(f"gpushrink.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
