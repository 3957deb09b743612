"""Conversions ahead of a pack: crop, then transcode, then one archive of the result."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpushrink.convert.crop import crop
from gpushrink.convert.region import parse_box
from gpushrink.convert.report import CropReport, TranscodeReport
from gpushrink.convert.transcode import transcode
from gpushrink.errors import UsageError
from gpushrink.pipeline import api
from gpushrink.pipeline.packing import PackReport
from gpushrink.pipeline.progress import ProgressFactory, silent

__all__ = ["pack_converted"]


def pack_converted(
    sources: Sequence[str | os.PathLike[str]],
    archive: str | os.PathLike[str],
    *,
    box: str | None = None,
    to: str | None = None,
    seed: str | None = None,
    accept_burned_in: bool = False,
    level: str = "default",
    device: str = "auto",
    device_memory: int | None = None,
    verify: bool = True,
    force: bool = False,
    threads: int | None = None,
    processes: int | None = None,
    progress: ProgressFactory = silent,
) -> tuple[PackReport, CropReport | None, TranscodeReport | None]:
    """Crop and transcode a folder into a temporary one, then pack that.

    The archive gives back the converted files, not the sources: a crop is a derived series with UIDs of its own.

    Parameters
    ----------
    box
        As `parse_box` takes it; None to leave the crop out.
    to
        A transfer syntax as `transcode` takes it; None to leave the transcode out.
    seed
        For the crop: the same seed gives the same UIDs.
    accept_burned_in
        For the crop: take images with burned-in annotation, or that may have it, too.
    device, device_memory, processes
        For the pack, as `gpushrink.pack` takes them.

    Raises
    ------
    UsageError
        If there is not exactly one source.
    InputError
        If the crop refuses an image.
    """
    if len(sources) != 1:
        raise UsageError("a conversion ahead of packing takes one source folder")
    source = Path(sources[0])
    cropped, transcoded = None, None
    with tempfile.TemporaryDirectory(prefix="gpushrink-convert-") as temporary:
        if box is not None:
            folder = Path(temporary) / "cropped"
            cropped = crop(source, folder, region=parse_box(box), seed=seed, accept_burned_in=accept_burned_in)
            source = folder
        if to is not None:
            folder = Path(temporary) / "transcoded"
            transcoded = transcode(source, folder, to=to, threads=threads)
            source = folder
        packed = api.pack(
            source,
            archive,
            level=level,
            device=device,
            device_memory=device_memory,
            verify=verify,
            force=force,
            threads=threads,
            processes=processes,
            progress=progress,
        )
    return packed, cropped, transcoded
