"""Find out which volumes an archive holds, from the headers in it alone."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpushrink.archive.block_file import BlockFile
from gpushrink.archive.layout import BlockType
from gpushrink.dicom.geometry import Geometry, Rescale, Vector, lay_grid
from gpushrink.dicom.header import ImageHeader, parse_header
from gpushrink.dicom.spans import may_be_dicom
from gpushrink.dicom.stacks import Stack, arrange_stacks
from gpushrink.errors import CorruptError
from gpushrink.model import Role, Target
from gpushrink.pipeline.fetching import BlockCache, fetch_blocks
from gpushrink.pipeline.space import HostSpace

__all__ = ["VolumeInfo", "list_volumes"]

# Headers that wait for their last piece: a chapter of an archive has 8 MiB of them, so this is far away.
_MOST_HELD = 1 << 30
_JUDGED = 132  # bytes that tell whether a file may be DICOM


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """Describe one volume of an archive: what `Archive.volume` gives for it.

    Attributes
    ----------
    index
        Its place in `Archive.series`.
    series, study, modality, description, series_number, image_type, photometric
        What the headers say: SeriesInstanceUID, StudyInstanceUID, and so on.
    shape
        (slices, rows, columns), with components last where there are several.
    dtype
        Of the stored samples, in the machine's byte order.
    bits_stored
        How many bits of a sample mean something; the others are zero, or repeat the sign.
    files
        The names of its files in the order of the slices; one alone for a multi-frame object.
    geometry
        Where its voxels lie in the patient; None where the headers place no even grid.
    positions
        The centre of the first voxel of each slice, LPS in mm; None where a header does not tell.
    rescale
        What the samples mean; None where the headers do not say. It is not applied.
    encoding
        "native", or the transfer syntax that must be decoded first.
    """

    index: int
    series: str
    study: str
    modality: str
    description: str
    series_number: int
    image_type: str
    photometric: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bits_stored: int
    files: tuple[str, ...]
    geometry: Geometry | None
    positions: tuple[Vector, ...] | None
    rescale: Rescale | None
    encoding: str
    stack: Stack = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Return the size of the whole array in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        name = f" {self.description!r}" if self.description else ""
        return f"[{self.index}] {self.series} {self.modality}{name} {size} {self.dtype} {self.image_type}".rstrip()

    def as_json(self) -> dict[str, object]:
        """Return it as values that JSON can hold."""
        return {
            "index": self.index,
            "series": self.series,
            "study": self.study,
            "modality": self.modality,
            "description": self.description,
            "series_number": self.series_number,
            "image_type": self.image_type,
            "photometric": self.photometric,
            "shape": self.shape,
            "dtype": self.dtype.name,
            "bits_stored": self.bits_stored,
            "bytes": self.nbytes,
            "encoding": self.encoding,
            "geometry": self.geometry.as_json() if self.geometry else None,
            "rescale": self.rescale.as_json() if self.rescale else None,
            "files": self.files,
        }


def list_volumes(file: BlockFile, *, threads: int) -> list[VolumeInfo]:
    """List the volumes of an archive in order of their files' names; times and echoes follow one another.

    Raises
    ------
    CorruptError
        If a block that holds headers is damaged: which slices a volume has could not be told any more.
    """
    entries, digests = file.catalogue.entries, file.catalogue.digests
    headers = _read_headers(file, threads=threads)
    names = {i: os.fsdecode(entries[i].path).encode("utf-8", "backslashreplace").decode() for i in headers}
    return [_describe(index, stack, names) for index, stack in enumerate(arrange_stacks(headers, digests))]


def _describe(index: int, stack: Stack, names: Mapping[int, str]) -> VolumeInfo:
    first = stack.headers[0]
    pixels = first.pixels
    planes = [plane for header in stack.headers for plane in header.planes]
    pairs = [pair for header in stack.headers for pair in header.slopes]
    told = [pair for pair in pairs if pair is not None]
    places = [plane.position for plane in planes if plane is not None]
    shape = (len(planes), pixels.rows, pixels.columns)
    return VolumeInfo(
        index=index,
        series=first.series,
        study=first.study,
        modality=first.modality,
        description=first.description,
        series_number=first.series_number,
        image_type=first.image_type,
        photometric=pixels.photometric,
        shape=shape if pixels.components == 1 else (*shape, pixels.components),
        dtype=np.dtype(pixels.dtype),
        bits_stored=max(header.pixels.bits_stored for header in stack.headers),
        files=tuple(names[i] for i in stack.files),
        geometry=lay_grid(planes),
        positions=tuple(places) if len(places) == len(planes) else None,
        rescale=Rescale(tuple(s for s, _ in told), tuple(b for _, b in told), first.unit)
        if len(told) == len(pairs)
        else None,
        encoding="native" if all(header.pixels.native for header in stack.headers) else pixels.syntax or "unknown",
        stack=stack,
    )


class _Heads:
    """Collect the bytes that files begin with, as far as they come without a gap from blocks that may hold headers."""

    def __init__(self) -> None:
        self.headers: dict[int, ImageHeader] = {}
        self._runs: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # file offset, length, which block
        self._left: dict[int, int] = {}
        self._pieces: dict[int, dict[int, bytes]] = defaultdict(dict)
        self._held = 0

    def announce(self, target: Target, block: int) -> None:
        """Note that a block holds some bytes of a file."""
        self._runs[target.file_id].append((target.file_offset, target.length, block))

    def settle(self) -> dict[int, set[int]]:
        """Forget what comes after a gap; return, by block, the files of which it holds something still."""
        files_of: dict[int, set[int]] = defaultdict(set)
        for file_id, runs in self._runs.items():
            end = 0
            for offset, length, block in sorted(runs):
                if offset != end:
                    break
                end += length
                files_of[block].add(file_id)
            if end:
                self._left[file_id] = end
        self._runs.clear()
        return files_of

    def awaits(self, files: Iterable[int]) -> bool:
        """Tell whether any of these files is still to be read."""
        return any(file_id in self._left for file_id in files)

    def take(self, target: Target, content: memoryview) -> None:
        """Take bytes of a block that was read; read the header once its last byte came."""
        file_id, offset = target.file_id, target.file_offset
        if file_id not in self._left or offset in self._pieces[file_id]:
            return
        piece = bytes(content[target.source_offset : target.source_offset + target.length])
        # Where a block ended within its first bytes, it cannot be told yet.
        enough = len(piece) >= min(_JUDGED, self._left[file_id])
        if offset == 0 and enough and not may_be_dicom(piece[:_JUDGED]):
            del self._left[file_id]  # no DICOM: what else comes of it is not worth decoding
            return
        self._pieces[file_id][offset] = piece
        self._held += len(piece)
        self._left[file_id] -= len(piece)
        if self._held > _MOST_HELD:
            raise CorruptError("the archive scatters the headers of its files farther than the limit")
        if self._left[file_id] <= 0:
            del self._left[file_id]
            pieces = self._pieces.pop(file_id)
            self._held -= sum(map(len, pieces.values()))
            header = parse_header(b"".join(piece for _, piece in sorted(pieces.items())))
            if header is not None:
                self.headers[file_id] = header


def _read_headers(file: BlockFile, *, threads: int) -> dict[int, ImageHeader]:
    """Decode the blocks that may hold headers, and read each header as soon as it is whole."""
    heads = _Heads()
    records = [
        record
        for record in file.catalogue.records
        if record.type == BlockType.DATA and record.role not in (Role.PIXELS, Role.ENCAPSULATED)
    ]
    for k, record in enumerate(records):
        for target in file.peek(record).targets():
            heads.announce(target, k)
    files_of = heads.settle()
    # Asked when a block's turn comes: by then it may be known that its files are no DICOM.
    wanted = (record for k, record in enumerate(records) if heads.awaits(files_of.get(k, ())))
    space = HostSpace()
    for fetched in fetch_blocks(file, wanted, space, threads=threads, cache=BlockCache(0)):
        content = memoryview(fetched.as_bytes(space))
        for target in fetched.data.targets():
            if target.file_id in file.catalogue.entries:
                heads.take(target, content)
    return heads.headers
