"""Volumes of an archive as arrays: `gpushrink.open(path).volume(series)`."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType

from gpushrink.archive.block_file import BlockFile
from gpushrink.errors import AmbiguousSeriesError, UsageError
from gpushrink.model import EntryKind
from gpushrink.pipeline.fetching import CACHE_BYTES, BlockCache
from gpushrink.pipeline.files import default_threads
from gpushrink.pipeline.space import Array, ArraySpace, open_space
from gpushrink.pipeline.volume_reader import Part, VolumeReader
from gpushrink.pipeline.volumes import VolumeInfo, list_volumes

__all__ = ["Archive", "open_volumes"]

_ALL = slice(None)


def open_volumes(
    archive: str | os.PathLike[str], *, threads: int | None = None, cache_bytes: int = CACHE_BYTES
) -> Archive:
    """Open an archive to compute on its volumes.

    Parameters
    ----------
    archive
        A file; a pipe has no way back to a block.
    threads
        How many decode; None for one per processor.
    cache_bytes
        How many decoded bytes to keep on the host for the next call; 0 for none.

    Raises
    ------
    InputError
        If the file cannot be opened.
    ArchiveError
        If it is no archive, or its index or tree is damaged.

    Examples
    --------
    >>> with gpushrink.open("study.gsz") as archive:  # doctest: +SKIP
    ...     ct = archive.volume("1.2.840.113619.2.55", slices=slice(10, 20))
    """
    if threads is not None and threads < 1:
        raise UsageError("threads must be at least 1")
    return Archive(Path(archive), threads=threads or default_threads(), cache_bytes=cache_bytes)


class Archive:
    """Hold an archive open for random access to its volumes. A context manager; safe for threads."""

    def __init__(self, path: Path, *, threads: int, cache_bytes: int) -> None:
        self._file = BlockFile(path)
        self._threads = threads
        self._cache = BlockCache(cache_bytes)
        self._reader = VolumeReader(self._file, threads=threads, cache=self._cache)
        self._volumes: tuple[VolumeInfo, ...] | None = None
        self._spaces: dict[tuple[str, int | None], ArraySpace] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gpushrink archive {str(self._file.path)!r}>"

    def close(self) -> None:
        """Close the file. Arrays that were given out stay."""
        self._file.close()
        self._cache.clear()
        self._spaces.clear()

    def series(self) -> tuple[VolumeInfo, ...]:
        """List the volumes, in order of their files' names; times and echoes of a series follow one another.

        The first call decodes and reads all headers.

        Raises
        ------
        CorruptError
            If a block that holds headers is damaged.
        """
        with self._lock:
            if self._volumes is None:
                self._volumes = tuple(list_volumes(self._file, threads=self._threads))
            return self._volumes

    def find(self, series: VolumeInfo | str | int | None = None, *, which: int | None = None) -> VolumeInfo:
        """Find one volume.

        Parameters
        ----------
        series
            What `series` lists, its index there, a SeriesInstanceUID, or the beginning of one that no other series
            shares. None where the archive holds one volume only.
        which
            Of a series of several volumes (echoes, times, image types), which one, counted from 0.

        Raises
        ------
        AmbiguousSeriesError
            If several volumes fit; its `choices` are these.
        UsageError
            If none does.
        """
        volumes = self.series()
        if isinstance(series, VolumeInfo):
            if series not in volumes[series.index : series.index + 1]:
                raise UsageError(f"{series} is a volume of another archive")
            return volumes[series.index]
        if isinstance(series, int):
            if not -len(volumes) <= series < len(volumes):
                raise UsageError(f"the archive holds {len(volumes)} volumes; there is no volume {series}")
            return volumes[series]
        fits = [one for one in volumes if series is None or one.series == series]
        fits = fits or [one for one in volumes if series and one.series.startswith(series)]
        if not fits:
            held = "; ".join(sorted({one.series for one in volumes})[:5]) or "none"
            raise UsageError(f"the archive holds no volume of series {series!r}; its series: {held}")
        alone = len({one.series for one in fits}) == 1
        if which is not None and alone:
            if not 0 <= which < len(fits):
                raise UsageError(f"series {fits[0].series} has {len(fits)} volumes; there is no volume {which} of it")
            return fits[which]
        if len(fits) > 1:
            how = "give which=0 and so on, or one of" if alone else "give one of"
            listed = "".join(f"\n  {one}" for one in fits[:20]) + ("\n  ..." if len(fits) > 20 else "")
            raise AmbiguousSeriesError(f"{len(fits)} volumes fit {series!r}; {how}{listed}", fits)
        return fits[0]

    def volume(
        self,
        series: VolumeInfo | str | int | None = None,
        *,
        which: int | None = None,
        device: str = "cpu",
        device_memory: int | None = None,
        slices: slice = _ALL,
        rows: slice = _ALL,
        columns: slice = _ALL,
        verify: bool = False,
    ) -> Array:
        """Decode a volume, or a part of it, into one new array.

        Only the blocks that hold wanted slices are read, and each one's checksum is proven. Samples are those stored,
        in the machine's byte order: the BitsStored bits of each, whatever lies in the others of its container (retired
        overlays, say; `read` has the file as it is). Nothing is rescaled (see `VolumeInfo.rescale`).

        Parameters
        ----------
        series, which
            As for `find`.
        device
            "cpu" gives a numpy array. "cuda" or "cuda:N" gives a CuPy array: slabs of the volume codec are decoded on
            the card and stay there, and others are copied there. "auto" is the CPU.
        device_memory
            The most bytes of the device's memory to use, the array among them.
        slices, rows, columns
            Which part, by the rules of Python's slices.
        verify
            Prove the SHA-256 of every file that is read from, too. For that all bytes of these files are decoded.

        Returns
        -------
        numpy.ndarray or cupy.ndarray
            [slice, row, column], or [slice, row, column, component]; C-contiguous, and the caller's own. Slices go
            along the normal, frames of a multi-frame object in stored order.

        Raises
        ------
        AmbiguousSeriesError, UsageError
            If `series` names no single volume, or an argument is of the wrong kind.
        CorruptError
            If a block that is needed is damaged, or with `verify` a hash does not hold.
        InputError
            If the pixel data of a file is cut off, or cannot be decoded.
        MissingCodecError
            If the pixel data is compressed and no decoder for it is installed.
        DeviceUnavailableError
            If the device cannot be had.
        """
        info = self.find(series, which=which)
        part = Part.of(info, slices, rows, columns)
        space = self._space(device, device_memory)
        # A device's arrays and kernels are in one order: one call at a time.
        with self._lock if space.decodes else contextlib.nullcontext():
            return self._reader.read_part(part, space, verify=verify)

    def read(self, name: str) -> bytes:
        """Return one file of the archive, proven by its SHA-256.

        Raises
        ------
        UsageError
            If the archive holds no such file.
        CorruptError
            If it cannot be proven.
        """
        path = os.fsencode(name)
        for file_id, entry in self._file.catalogue.entries.items():
            if entry.path == path and entry.kind is EntryKind.FILE:
                return self._reader.read_file(file_id)
        raise UsageError(f"the archive holds no file {name!r}; `gpushrink list` shows what it holds")

    def _space(self, device: str, device_memory: int | None) -> ArraySpace:
        """Open a device once: what is compiled for it is worth keeping."""
        with self._lock:
            if (device, device_memory) not in self._spaces:
                self._spaces[device, device_memory] = open_space(device, device_memory=device_memory)
            return self._spaces[device, device_memory]
