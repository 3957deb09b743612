"""The closed table of block codecs: from decoded bytes to coded bytes and back.

Source: docs/format.md#codecs. Everything that codes a data block goes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec import bytestream, planes
from gpushrink.codec.buffers import Buffer, Parts
from gpushrink.codec.headers import decode_headers
from gpushrink.codec.parallel import Threads
from gpushrink.codec.varint import Cursor, pack_varint
from gpushrink.errors import CorruptError, NewerVersionError
from gpushrink.model import BlockCodec, SampleFormat, SlabShape

__all__ = [
    "CPU",
    "MAX_AXIS",
    "CodedSlab",
    "CpuSlabCodec",
    "Likely",
    "References",
    "SlabCodec",
    "choose_slab_references",
    "decode_block",
    "decode_samples",
    "encode_slab_as_planes",
    "frames_as_samples",
    "pack_slab_head",
    "parse_slab",
    "parse_slab_head",
    "samples_as_frames",
]

MAX_AXIS = 1 << 24

References = Sequence[tuple[int, int]]
"""For each plane of a pattern that repeats: the distances back to its two reference planes."""
Likely = tuple[References, ...]


class SlabCodec(Protocol):
    """Code stacks of planes with the volume codec on some device; all give the same bytes, in parts of their own."""

    @property
    def name(self) -> str:
        """Name the engine or device, for reports."""

    def encode(
        self, stack: NDArray[Any], *, level: str, references: Sequence[tuple[int, int]], threads: Threads = 1
    ) -> Parts:
        """Encode planes [plane, row, column] of 8 or 16 bit integers, on at most so many processors."""

    def decode(
        self, payload: Buffer, *, shape: tuple[int, int, int], dtype: np.dtype[Any], threads: Threads = 1
    ) -> NDArray[Any]:
        """Invert `encode`; a damaged payload raises CorruptError."""


class CpuSlabCodec:
    """Code with the numba engine, or with the reference where numba is missing."""

    @property
    def name(self) -> str:
        """Name the engine."""
        from gpushrink.codec import volume  # here: what needs no samples need not wait for it

        return volume.name_engine("auto")

    def encode(
        self, stack: NDArray[Any], *, level: str, references: Sequence[tuple[int, int]], threads: Threads = 1
    ) -> Parts:
        """Encode; see `SlabCodec`."""
        from gpushrink.codec import volume

        return volume.encode_slab_parts(stack, level=level, references=references, threads=threads)

    def decode(
        self, payload: Buffer, *, shape: tuple[int, int, int], dtype: np.dtype[Any], threads: Threads = 1
    ) -> NDArray[Any]:
        """Decode; see `SlabCodec`."""
        from gpushrink.codec import volume

        return volume.decode_slab(payload, shape=shape, dtype=dtype, threads=threads)


CPU: SlabCodec = CpuSlabCodec()

_MAX_COMPONENTS = 4


def decode_block(
    codec: BlockCodec, coded: memoryview, decoded: int, *, slab_codec: SlabCodec = CPU, threads: Threads = 1
) -> bytes | memoryview:
    """Decode the coded bytes of a data block.

    Parameters
    ----------
    decoded
        The decoded size in bytes that the block claims; the result has it exactly.
    threads
        How many processors a slab may use.

    Raises
    ------
    CorruptError
        If the bytes do not decode to that size.
    """
    if codec in (BlockCodec.STORED, BlockCodec.ZSTD, BlockCodec.LZMA, BlockCodec.MATCHED):
        return bytestream.expand(codec, coded, size=decoded, limit=decoded)
    if codec == BlockCodec.HEADERS:
        return decode_headers(coded, decoded)
    slab = parse_slab(codec, coded, decoded)
    return samples_as_frames(decode_samples(slab, slab_codec=slab_codec, threads=threads), slab.sample)


@dataclass(frozen=True, slots=True)
class CodedSlab:
    """Hold a slab whose head was read and fits its block; `payload` is what its stage wrote."""

    codec: BlockCodec
    shape: SlabShape
    sample: SampleFormat
    payload: memoryview

    @property
    def stack(self) -> tuple[int, int, int]:
        """Return the shape that the volume codec sees: each component is a plane of its own."""
        return self.shape.slices * self.sample.components, self.shape.rows, self.shape.columns

    @property
    def axes(self) -> tuple[int, int, int, int]:
        """Return the sizes of slice, component, row and column."""
        return self.shape.slices, self.sample.components, self.shape.rows, self.shape.columns

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        """Return the type of its samples in the machine's byte order; floats as unsigned integers."""
        return _integer_type(self.sample)


def parse_slab(codec: BlockCodec, coded: memoryview, decoded: int) -> CodedSlab:
    """Read the head of a block that holds a slab (codec "planes" or "volume").

    Raises
    ------
    CorruptError
        If the head is damaged or is not that of a slab of `decoded` bytes.
    """
    cursor = Cursor(coded, "a slab")
    shape, sample = parse_slab_head(cursor)
    if shape.byte_size(sample) != decoded:
        raise CorruptError(f"a slab of {shape} does not have the {decoded} bytes its block claims")
    if codec == BlockCodec.VOLUME:
        from gpushrink.codec.volume.payload import MOST_AREA, MOST_PLANES

        if sample.item_bytes > 2:
            raise CorruptError("a slab of the volume codec has samples of more than 16 bits")
        if shape.slices * sample.components > MOST_PLANES or shape.rows * shape.columns > MOST_AREA:
            raise CorruptError(f"a slab of the volume codec has more planes or larger ones than its limits: {shape}")
    return CodedSlab(codec, shape, sample, cursor.rest())


def decode_samples(slab: CodedSlab, *, slab_codec: SlabCodec = CPU, threads: Threads = 1) -> NDArray[Any]:
    """Decode a slab to integers [slice, component, row, column] in the machine's byte order.

    Raises
    ------
    CorruptError
        If its payload does not decode to that shape.
    """
    if slab.codec == BlockCodec.PLANES:
        return planes.decode(slab.payload, slab.axes, slab.sample.item_bytes)
    return slab_codec.decode(slab.payload, shape=slab.stack, dtype=slab.dtype, threads=threads).reshape(slab.axes)


def encode_slab_as_planes(
    data: bytes | memoryview, shape: SlabShape, sample: SampleFormat, axes: int, fold: int
) -> bytes:
    """Code frames with the simple stage; see `planes.encode`."""
    return pack_slab_head(shape, sample) + planes.encode(frames_as_samples(data, shape, sample), axes=axes, fold=fold)


def choose_slab_references(
    data: bytes | memoryview,
    shape: SlabShape,
    sample: SampleFormat,
    known: Callable[[Likely], References | None] = lambda likely: None,
) -> tuple[Likely, References]:
    """Return which planes look good to predict the planes of a slab from, and which are best.

    Parameters
    ----------
    known
        Tells what is best of what looks good, where a slab like this one has been through the trials; None to try.
    """
    from gpushrink.codec import volume

    stack = _stack(data, shape, sample)
    likely = volume.find_likely_references(stack, components=sample.components)
    return likely, known(likely) or volume.try_references(stack, likely)


def encode_slab_as_volume(
    data: bytes | memoryview,
    shape: SlabShape,
    sample: SampleFormat,
    level: str,
    *,
    references: References,
    slab_codec: SlabCodec = CPU,
    threads: Threads = 1,
) -> Parts:
    """Code frames of 8 or 16 bits with the volume codec; each component is a plane of its own."""
    stack = _stack(data, shape, sample)
    payload = slab_codec.encode(stack, level=level, references=references, threads=threads)
    return pack_slab_head(shape, sample), *payload


def _stack(data: bytes | memoryview, shape: SlabShape, sample: SampleFormat) -> NDArray[np.integer[Any]]:
    """View frames as the volume codec takes them, [plane, row, column]."""
    samples = frames_as_samples(data, shape, sample)
    return np.ascontiguousarray(samples).reshape(-1, shape.rows, shape.columns).view(_integer_type(sample))


def frames_as_samples(data: bytes | memoryview, shape: SlabShape, sample: SampleFormat) -> planes.Samples:
    """View frames as unsigned samples [slice, component, row, column] in the machine's byte order.

    The result is a view where the stored layout allows one.
    """
    order = ">" if sample.big_endian else "<"
    array = np.frombuffer(data, f"{order}u{sample.item_bytes}")
    if sample.planar or sample.components == 1:
        array = array.reshape(shape.slices, sample.components, shape.rows, shape.columns)
    else:
        array = array.reshape(shape.slices, shape.rows, shape.columns, sample.components).transpose(0, 3, 1, 2)
    native: planes.Samples = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _integer_type(sample: SampleFormat) -> np.dtype[np.integer[Any]]:
    return np.dtype(f"{'i' if sample.signed else 'u'}{sample.item_bytes}")


def samples_as_frames(array: NDArray[Any], sample: SampleFormat) -> memoryview:
    """Invert `frames_as_samples`: lay samples out as a file stores them.

    The result is a view where the stored layout allows one.
    """
    if not sample.planar and sample.components > 1:
        array = array.transpose(0, 2, 3, 1)
    order = ">" if sample.big_endian else "<"
    stored = np.ascontiguousarray(array).astype(f"{order}u{sample.item_bytes}", copy=False)
    return memoryview(stored.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # numpy's stubs lack the protocol before 3.12


def pack_slab_head(shape: SlabShape, sample: SampleFormat) -> bytes:
    """Return a slab head. Source: docs/format.md#slab-head."""
    bits = sample.item_bytes.bit_length() - 1
    bits |= sample.signed << 2 | sample.big_endian << 3 | sample.planar << 4
    axes = (shape.slices, shape.rows, shape.columns, sample.components)
    return b"".join(map(pack_varint, axes)) + bytes([bits])


def parse_slab_head(cursor: Cursor) -> tuple[SlabShape, SampleFormat]:
    """Take a slab head apart.

    Raises
    ------
    CorruptError
        If an axis is out of range.
    NewerVersionError
        If a reserved bit is set.
    """
    slices, rows, columns = (cursor.varint(MAX_AXIS) for _ in range(3))
    components = cursor.varint(_MAX_COMPONENTS)
    bits = cursor.byte()
    if bits & 0xE0 or bits & 3 == 3:
        raise NewerVersionError(f"a slab uses the reserved sample format {bits}; update gpushrink")
    sample = SampleFormat(1 << (bits & 3), bool(bits & 4), bool(bits & 8), components, bool(bits & 16))
    if min(slices, rows, columns, components) < 1:
        raise CorruptError("a slab has an empty axis")
    if (sample.planar and components == 1) or (sample.big_endian and sample.item_bytes == 1):
        raise CorruptError("a slab has a contradictory sample format")
    return SlabShape(slices, rows, columns), sample
