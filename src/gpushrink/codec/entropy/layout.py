"""The bytes of a payload: what is where, written and read with every size checked.

Source: docs/format-entropy.md#payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts, size_of, view_bytes
from gpushrink.errors import CorruptError, NewerVersionError

__all__ = [
    "FORMAT_VERSION",
    "LARGEST_CHUNK_LOG2",
    "LARGEST_LANES_LOG2",
    "LARGEST_SYMBOLS",
    "SMALLEST_CHUNK_LOG2",
    "ZSTD_CHUNK_BYTES",
    "Sections",
    "chunk_begins",
    "join_ranges",
    "lay_chunk",
    "list_parts",
    "range_chunk_bounds",
    "split_head",
    "split_sections",
    "zstd_chunk_bounds",
]

FORMAT_VERSION = 1

# One warp codes one chunk, so a chunk has at most 32 lanes; short payloads use fewer, since each lane costs 3 bytes.
LARGEST_LANES_LOG2 = 5
SMALLEST_CHUNK_LOG2 = 8
LARGEST_CHUNK_LOG2 = 24

# Bounds every position in 32 bits, signed, and every count times its logarithm in 52 bits.
LARGEST_SYMBOLS = (1 << 31) - 1

# The size of chunk that nvCOMP's batched zstd wants.
ZSTD_CHUNK_BYTES = 1 << 16

# A size of 5 groups of 7 bits covers LARGEST_SYMBOLS.
LONGEST_VARINT = 5


@dataclass(frozen=True)
class Sections:
    """The parts of a payload after its head.

    Attributes
    ----------
    raw
        Bytes of the segments stored as they are, in order.
    frames
        One zstd frame for each 64 KiB of the segments coded by zstd, in order.
    word_counts
        int64, shape (chunks,): how many words each rANS chunk has.
    ranges
        uint16, little-endian, in any number of parts: for each rANS chunk the states in which its lanes start
        decoding, the lower half of each first, then its words.
    """

    raw: Buffer
    frames: Sequence[Buffer]
    word_counts: NDArray[np.int64]
    ranges: Sequence[NDArray[np.uint16]]


def lay_chunk(states: NDArray[np.uint32], words: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Lay out a chunk's states, shape (lanes,), and its words as `Sections.ranges` has them, in new memory."""
    chunk = np.empty(2 * len(states) + len(words), np.dtype("<u2"))
    chunk[: 2 * len(states)] = states.astype("<u4", copy=False).view("<u2")
    chunk[2 * len(states) :] = words
    return chunk


def chunk_begins(word_counts: NDArray[np.int64], lanes: int) -> NDArray[np.int64]:
    """Give where the states of each chunk begin in `Sections.ranges`, and where the last one's words end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(word_counts + 2 * lanes)])


def join_ranges(ranges: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
    """Give ranges in one part that loops can index: aligned, read-only and of the machine's byte order."""
    whole = ranges[0] if len(ranges) == 1 else np.concatenate([np.zeros(0, np.dtype("<u2")), *ranges])
    view = np.require(whole.astype(np.uint16, copy=False), requirements=["A", "C"]).view()
    view.flags.writeable = False
    return view


def range_chunk_bounds(count: int, chunk_log2: int) -> NDArray[np.int64]:
    """Give where rANS chunks begin and end: ``chunks + 1`` positions.

    All have 2^chunk_log2 symbols but the last, which has half as many to half as many again.
    """
    if count == 0:
        return np.zeros(1, np.int64)
    chunks = max(1, (count + (1 << chunk_log2 >> 1)) >> chunk_log2)
    bounds = np.arange(chunks + 1, dtype=np.int64) << chunk_log2
    bounds[-1] = count
    return bounds


def zstd_chunk_bounds(count: int) -> NDArray[np.int64]:
    """Give where zstd chunks begin and end: 64 KiB each, the last what is left."""
    return np.minimum(np.arange(-(-count // ZSTD_CHUNK_BYTES) + 1, dtype=np.int64) * ZSTD_CHUNK_BYTES, count)


def _varint(value: int) -> bytes:
    """Write a number in groups of 7 bits, the lowest first; all but the last have bit 7 set."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _read_varint(payload: Buffer, offset: int) -> tuple[int, int]:
    """Read a number at `offset`; return it and the offset after it."""
    value = 0
    for place in range(LONGEST_VARINT):
        if offset + place >= len(payload):
            raise CorruptError(f"entropy payload ends inside a size, at byte {offset + place}")
        byte = payload[offset + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, offset + place + 1
    raise CorruptError(f"entropy payload has a size of more than {LONGEST_VARINT} bytes at byte {offset}")


def list_parts(*, lanes_log2: int, chunk_log2: int, head: bytes, sections: Sections) -> Parts:
    """Write a payload as the parts that make it, one after another; large ones are views of what they come from."""
    front = bytearray([FORMAT_VERSION << 4 | lanes_log2, chunk_log2])
    front += _varint(len(head)) + head
    for frame in sections.frames:
        front += _varint(len(frame))
    for count in sections.word_counts.tolist():
        front += _varint(count)
    parts = [bytes(front), sections.raw, *sections.frames]
    if len(sections.word_counts) and size_of(parts) % 2:
        parts.append(b"\0")
    return tuple(part for part in (*parts, *map(view_bytes, sections.ranges)) if len(part))


def split_head(payload: Buffer) -> tuple[int, int, bytes, int]:
    """Read the front of a payload: lanes_log2, chunk_log2, the head's bytes, and the offset after them.

    Raises
    ------
    NewerVersionError
        The payload's version is not this one.
    CorruptError
        A field has a value that is never written, or the payload is too short.
    """
    if len(payload) < 3:
        raise CorruptError(f"entropy payload of {len(payload)} bytes is too short for its front")
    version, lanes_log2 = payload[0] >> 4, payload[0] & 15
    if version != FORMAT_VERSION:
        raise NewerVersionError(f"entropy payload has version {version}; this version reads {FORMAT_VERSION}")
    chunk_log2 = payload[1]
    if lanes_log2 > LARGEST_LANES_LOG2 or not SMALLEST_CHUNK_LOG2 <= chunk_log2 <= LARGEST_CHUNK_LOG2:
        raise CorruptError(f"entropy payload names 2^{lanes_log2} lanes in chunks of 2^{chunk_log2} symbols")
    size, offset = _read_varint(payload, 2)
    if size > len(payload) - offset:
        raise CorruptError(f"entropy payload names a head of {size} bytes with {len(payload) - offset} left")
    return lanes_log2, chunk_log2, bytes(payload[offset : offset + size]), offset + size


def _read_sizes(payload: Buffer, offset: int, chunks: int) -> tuple[list[int], int]:
    """Read one size for each chunk; their number is bounded by the bytes left before anything is allocated."""
    if chunks > len(payload) - offset:
        raise CorruptError(f"entropy payload has {len(payload) - offset} bytes left for {chunks} chunk sizes")
    sizes = []
    for _ in range(chunks):
        size, offset = _read_varint(payload, offset)
        sizes.append(size)
    return sizes, offset


def split_sections(
    payload: Buffer, offset: int, *, lanes: int, raw_bytes: int, zstd_chunks: int, range_chunks: Sequence[int]
) -> Sections:
    """Read what follows the head; the sizes in symbols are known from the head and the segments' lengths.

    Parameters
    ----------
    range_chunks
        Symbols in each rANS chunk; no symbol takes more than one word.

    Raises
    ------
    CorruptError
        The parts do not fill the payload exactly, or a size cannot be.
    """
    frame_sizes, offset = _read_sizes(payload, offset, zstd_chunks)
    word_counts, offset = _read_sizes(payload, offset, len(range_chunks))
    if any(words > symbols for words, symbols in zip(word_counts, range_chunks, strict=True)):
        raise CorruptError("entropy payload has a chunk with more words than symbols")
    ranges_begin = offset + raw_bytes + sum(frame_sizes)
    padding = ranges_begin % 2 if range_chunks else 0
    states_bytes = 4 * lanes
    end = ranges_begin + padding + states_bytes * len(range_chunks) + 2 * sum(word_counts)
    if end != len(payload):
        raise CorruptError(f"entropy payload has {len(payload)} bytes, its sizes add up to {end}")
    raw = payload[offset : offset + raw_bytes]
    offset += raw_bytes
    frames = []
    for size in frame_sizes:
        frames.append(payload[offset : offset + size])
        offset += size
    if padding and payload[offset] != 0:
        raise CorruptError(f"entropy payload has a padding byte that is not 0 at byte {offset}")
    offset += padding
    ranges = np.frombuffer(payload, np.dtype("<u2"), (end - offset) // 2, offset)
    return Sections(raw, frames, np.array(word_counts, np.int64), (ranges,))
