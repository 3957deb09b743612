"""Put decoded frames of an archive's blocks where they belong in one array."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.archive.blocks import DataBlock
from gpushrink.codec.table import CodedSlab
from gpushrink.errors import CorruptError
from gpushrink.model import Target
from gpushrink.pipeline.space import Array, ArraySpace

__all__ = ["FrameFormat", "FrameSource", "Gather"]

# A frame of 64 MiB in blocks of 8 comes in nine pieces; each piece is compared with those before it.
_MOST_PIECES = 1024


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """Say how a frame lies in its file: component by component if planar, else pixel by pixel.

    Parameters
    ----------
    above, below
        How many bits of a sample's container lie above and below it, and mean nothing.
    """

    rows: int
    columns: int
    components: int
    dtype: np.dtype[Any]
    planar: bool
    big_endian: bool
    above: int = 0
    below: int = 0

    @property
    def size(self) -> int:
        """Return the size of a frame in bytes."""
        return self.rows * self.columns * self.components * self.dtype.itemsize

    @property
    def bits(self) -> np.dtype[Any]:
        """Return the unsigned type of the same size: what slabs come as, and floats are moved as."""
        return np.dtype(f"u{self.dtype.itemsize}")

    def matches(self, slab: CodedSlab) -> bool:
        """Tell whether the frames of a slab are of this format."""
        sample = slab.sample
        return (slab.shape.rows, slab.shape.columns, sample.components, sample.item_bytes) == (
            self.rows,
            self.columns,
            self.components,
            self.dtype.itemsize,
        ) and (sample.planar, sample.big_endian) == (self.planar, self.big_endian)

    def as_samples(self, frame: bytes | memoryview) -> NDArray[Any]:
        """View a frame's bytes as samples [row, column] or [row, column, component]."""
        array = np.frombuffer(frame, self.bits.newbyteorder(">" if self.big_endian else "<"))
        if self.components == 1:
            return array.reshape(self.rows, self.columns)
        if self.planar:
            return array.reshape(self.components, self.rows, self.columns).transpose(1, 2, 0)
        return array.reshape(self.rows, self.columns, self.components)


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Say where a wanted frame lies, and which slice of the result it is."""

    file_id: int
    offset: int
    position: int


class Gather:
    """Fill an array [slice, row, column] or [slice, row, column, component] frame by frame.

    Every frame must come once, whole; what a block holds besides is passed over.

    Parameters
    ----------
    target
        Where the frames go, in `space`; its type has the size of a sample.
    rows, columns
        Which part of each frame is wanted.
    """

    def __init__(
        self,
        frames: Sequence[FrameSource],
        form: FrameFormat,
        target: Array,
        space: ArraySpace,
        *,
        rows: slice,
        columns: slice,
    ) -> None:
        self._form = form
        self._typed = target
        self._target = target.view(form.bits)
        self._space = space
        self._part = (rows, columns)
        self._missing = {frame.position for frame in frames}
        self._partial: dict[int, _Partial] = {}
        self._wanted: dict[int, tuple[list[int], list[int]]] = {}
        by_file: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for frame in frames:
            by_file[frame.file_id].append((frame.offset, frame.position))
        for file_id, places in by_file.items():
            places.sort()
            self._wanted[file_id] = [offset for offset, _ in places], [position for _, position in places]

    def touches(self, data: DataBlock) -> list[int]:
        """List the slices of the result that a block holds bytes of, in order."""
        return sorted({position for target in data.targets() for _, position in self._frames_in(target)})

    def place_samples(self, data: DataBlock, slab: CodedSlab, bring: Callable[[], Array]) -> bool:
        """Take the wanted frames of a slab.

        Parameters
        ----------
        bring
            Gives its samples [slice, component, row, column] in the space of the result; called only if any is wanted.

        Returns
        -------
        bool
            False where the block's targets are no whole frames of the slab: then `place_bytes` must take it.
        """
        size = self._form.size
        pairs: list[tuple[int, int]] = []
        for target in data.targets():
            for offset, position in self._frames_in(target):
                source, rest = divmod(target.source_offset + offset - target.file_offset, size)
                if rest or offset < target.file_offset or offset + size > target.file_offset + target.length:
                    return False
                pairs.append((source, position))
        if not pairs:
            return True
        if not self._form.matches(slab):
            return False
        samples = bring().view(self._form.bits)
        rows, columns = self._part
        for source, position, count in _runs(pairs):
            self._come(range(position, position + count))
            part = samples[source : source + count, :, rows, columns]
            self._put(position, count, part[:, 0] if self._form.components == 1 else part.transpose(0, 2, 3, 1))
        return True

    def place_bytes(self, data: DataBlock, content: bytes | memoryview) -> None:
        """Take what a block's decoded bytes hold of the wanted frames."""
        size, view = self._form.size, memoryview(content)
        for target in data.targets():
            for offset, position in self._frames_in(target):
                begin, end = max(offset, target.file_offset), min(offset + size, target.file_offset + target.length)
                source = target.source_offset + begin - target.file_offset
                piece = view[source : source + end - begin]
                if len(piece) == size:
                    self._place_frame(position, piece)
                    continue
                partial = self._partial.setdefault(position, _Partial(size))
                partial.place(begin - offset, piece)
                if partial.whole:
                    self._place_frame(position, self._partial.pop(position).content)

    def finish(self) -> None:
        """Insist that every frame came.

        Raises
        ------
        CorruptError
            If one did not.
        """
        if self._missing:
            raise CorruptError(f"the archive holds no bytes for slice {min(self._missing)} of a volume")

    def _place_frame(self, position: int, content: bytes | bytearray | memoryview) -> None:
        frame = self._form.as_samples(memoryview(content))[self._part]
        self._come((position,))
        native = frame.astype(self._form.bits, copy=False)
        self._put(position, 1, self._space.put(native[None]))

    def _put(self, position: int, count: int, frames: Array) -> None:
        """Copy frames to their place, and clear there what is no part of a sample."""
        self._space.copy(frames, self._target[position : position + count])
        if self._form.above or self._form.below:
            self._space.trim(self._typed[position : position + count], self._form.above, self._form.below)

    def _frames_in(self, target: Target) -> Iterator[tuple[int, int]]:
        """Give file offset and position of the wanted frames that a target has bytes of."""
        found = self._wanted.get(target.file_id)
        if found is None:
            return
        offsets, positions = found
        first = bisect_right(offsets, target.file_offset - self._form.size)
        for k in range(first, bisect_left(offsets, target.file_offset + target.length)):
            yield offsets[k], positions[k]

    def _come(self, positions: Iterable[int]) -> None:
        for position in positions:
            if position not in self._missing or position in self._partial:
                raise CorruptError("the archive gives the same bytes of a file twice")
            self._missing.remove(position)


class _Partial:
    """Collect a frame that comes in pieces."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self._pieces: list[tuple[int, int]] = []  # begin and end, in the order they came
        self._left = size

    @property
    def whole(self) -> bool:
        """Tell whether every byte came."""
        return not self._left

    def place(self, offset: int, piece: memoryview) -> None:
        """Take bytes that belong at `offset`."""
        stop = offset + len(piece)
        if any(offset < end and begin < stop for begin, end in self._pieces):
            raise CorruptError("the archive gives the same bytes of a file twice")
        if self._pieces and self._pieces[-1][1] == offset:
            self._pieces[-1] = (self._pieces[-1][0], stop)
        elif len(self._pieces) < _MOST_PIECES:
            self._pieces.append((offset, stop))
        else:
            raise CorruptError("the archive scatters the bytes of a frame in more pieces than the limit")
        self._left -= len(piece)
        self.content[offset:stop] = piece


def _runs(pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Join (source, position) pairs that go on from one another: source, position and length of each run."""
    begin = 0
    for k in range(1, len(pairs) + 1):
        if k == len(pairs) or pairs[k] != (pairs[k - 1][0] + 1, pairs[k - 1][1] + 1):
            yield (*pairs[begin], k - begin)
            begin = k
