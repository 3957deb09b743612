"""Read what is wanted of a volume from the blocks that hold it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpushrink.archive.block_file import BlockFile
from gpushrink.archive.index import BlockRecord
from gpushrink.dicom.header import ImageHeader
from gpushrink.dicom.pixels import decode_frames
from gpushrink.errors import CorruptError, InputError, UsageError
from gpushrink.pipeline.fetching import BlockCache, Fetched, fetch_blocks
from gpushrink.pipeline.file_proof import FileProof
from gpushrink.pipeline.gather import FrameFormat, FrameSource, Gather
from gpushrink.pipeline.space import Array, ArraySpace, HostSpace
from gpushrink.pipeline.volumes import VolumeInfo

__all__ = ["Part", "VolumeReader"]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Name a frame that is wanted: its file, its number there, and where it goes."""

    file_id: int
    header: ImageHeader
    index: int
    position: int


@dataclass(frozen=True, slots=True)
class Part:
    """Say what of a volume is wanted."""

    info: VolumeInfo
    numbers: range
    rows: slice
    columns: slice
    shape: tuple[int, ...]
    frames: tuple[_Wanted, ...]

    @classmethod
    def of(cls, info: VolumeInfo, slices: slice, rows: slice, columns: slice) -> Part:
        """Resolve slices by the rules of Python's."""
        asked = {"slices": slices, "rows": rows, "columns": columns}
        ranges = [_resolve(name, one, size) for (name, one), size in zip(asked.items(), info.shape, strict=False)]
        lengths = tuple(len(one) for one in ranges)
        frames = []
        if 0 not in lengths:
            files, headers = info.stack.files, info.stack.headers
            for position, number in enumerate(ranges[0]):
                k, index = (0, number) if len(files) == 1 else (number, 0)
                frames.append(_Wanted(files[k], headers[k], index, position))
        return cls(info, ranges[0], rows, columns, (*lengths, *info.shape[3:]), tuple(frames))

    def slice_of(self, position: int) -> int:
        """Return which slice of the volume a position of the result is."""
        return self.numbers[position]


class VolumeReader:
    """Fill arrays from an open archive.

    Parameters
    ----------
    threads, cache
        As `fetch_blocks` takes them.
    """

    def __init__(self, file: BlockFile, *, threads: int, cache: BlockCache) -> None:
        self._file = file
        self._threads = threads
        self._cache = cache

    def read_part(self, part: Part, space: ArraySpace, *, verify: bool) -> Array:
        """Return a part of a volume as an array in a space; see `gpushrink.Archive.volume`."""
        native = part.info.encoding == "native"
        sources = self._locate(part) if native else {}  # before memory is asked for, which a header may lie about
        try:
            target = space.empty(part.shape, part.info.dtype)
        except ValueError:
            raise InputError(f"a header claims a volume of {part.shape}, which no memory holds") from None
        if part.frames and native:
            ids = sorted({one.file_id for one in part.frames})
            gathers = [
                Gather(frames, form, target, space, rows=part.rows, columns=part.columns)
                for form, frames in sources.items()
            ]
            self._fill_native(part, gathers, space, FileProof(self._file, ids) if verify else None)
        elif part.frames:
            self._fill_decoded(part, target, space)
        space.finish()
        return target

    def _locate(self, part: Part) -> dict[FrameFormat, list[FrameSource]]:
        """Find out where the wanted frames lie in their files, by the format they have there."""
        entries = self._file.catalogue.entries
        by_form: dict[FrameFormat, list[FrameSource]] = defaultdict(list)
        for one in part.frames:
            form = _form(one.header)
            offset = one.header.pixels.offset + one.index * form.size
            room = min(entries[one.file_id].size - one.header.pixels.offset, one.header.pixels.length or 0)
            if (one.index + 1) * form.size > room:
                name, there = os.fsdecode(entries[one.file_id].path), max(0, room) // form.size
                raise InputError(f"the pixel data of {name!r} is cut off: {there} of its frames are there")
            by_form[form].append(FrameSource(one.file_id, offset, one.position))
        return by_form

    def _fill_native(self, part: Part, gathers: Sequence[Gather], space: ArraySpace, proof: FileProof | None) -> None:
        """Fill an array from frames that lie in their files as they are."""
        needed, slices = self._find_blocks(part, gathers, every=proof is not None)

        def tell(record: BlockRecord) -> str:
            held = [part.slice_of(position) for position in slices.get(record.offset, ())]
            return f"slices {min(held)} to {max(held)} of series {part.info.series}" if held else ""

        for fetched in fetch_blocks(self._file, needed, space, threads=self._threads, cache=self._cache, tell=tell):
            for gather in gathers:
                _place(gather, fetched, space)
            if proof:
                proof.take(fetched.data, fetched.as_bytes(space))
        for gather in gathers:
            gather.finish()
        if proof:
            proof.finish()

    def _find_blocks(
        self, part: Part, gathers: Sequence[Gather], *, every: bool
    ) -> tuple[list[BlockRecord], dict[int, list[int]]]:
        """List the blocks to read, and by the offset of each which slices of the result it holds bytes of."""
        needed, slices = [], {}
        for record in self._file.concerning({one.file_id for one in part.frames}):
            try:
                data = self._file.peek(record)
            except CorruptError:
                needed.append(record)  # reading it whole will say what is wrong
                continue
            touched = [position for gather in gathers for position in gather.touches(data)]
            if touched:
                slices[record.offset] = touched
            if touched or every:
                needed.append(record)
        return needed, slices

    def _fill_decoded(self, part: Part, target: Array, space: ArraySpace) -> None:
        """Fill an array from frames that a decoder gives, file by file; each file is proven whole."""
        by_file: dict[int, list[_Wanted]] = defaultdict(list)
        for one in part.frames:
            by_file[one.file_id].append(one)
        for file_id, wanted in by_file.items():
            name = os.fsdecode(self._file.catalogue.entries[file_id].path)
            frames = decode_frames(self.read_file(file_id), [one.index for one in wanted], name=name)
            for one, frame in zip(wanted, frames, strict=True):
                if frame.shape != part.info.shape[1:] or frame.dtype.newbyteorder("=") != part.info.dtype:
                    found = f"{frame.shape} {frame.dtype}"
                    raise InputError(f"the pixel data of {name!r} decodes to {found}, not to what its header says")
                native = frame[part.rows, part.columns].astype(part.info.dtype, copy=False)
                space.copy(space.put(native), target[one.position])

    def read_file(self, file_id: int) -> bytes:
        """Return a whole file, proven by its SHA-256."""
        space = HostSpace()
        proof = FileProof(self._file, (file_id,), keep=True)
        for fetched in fetch_blocks(
            self._file, self._file.concerning((file_id,)), space, threads=self._threads, cache=self._cache
        ):
            proof.take(fetched.data, fetched.as_bytes(space))
        return proof.finish()[self._file.catalogue.entries[file_id].path]


def _resolve(name: str, asked: slice, size: int) -> range:
    try:
        found = range(size)[asked]
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, range):
        raise UsageError(f"{name} must be a slice, such as slice(10, 20), not {asked!r}")
    return found


def _form(header: ImageHeader) -> FrameFormat:
    pixels = header.pixels
    dtype = np.dtype(pixels.dtype)
    return FrameFormat(
        rows=pixels.rows,
        columns=pixels.columns,
        components=pixels.components,
        dtype=dtype,
        planar=pixels.planar,
        big_endian=pixels.big_endian and dtype.itemsize > 1,
        above=dtype.itemsize * 8 - 1 - pixels.high_bit,
        below=pixels.high_bit + 1 - pixels.bits_stored,
    )


def _place(gather: Gather, fetched: Fetched, space: ArraySpace) -> None:
    def bring() -> Array:
        return fetched.samples if fetched.on_device else space.put(fetched.samples)

    if fetched.slab is None or not gather.place_samples(fetched.data, fetched.slab, bring):
        gather.place_bytes(fetched.data, fetched.as_bytes(space))
