"""The stage shared with nvCOMP: RAW zstd frames of 64 KiB, level 1, content size named, no checksum.

Source: docs/format-entropy.md#zstd.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import zstandard
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer
from gpushrink.codec.entropy.layout import zstd_chunk_bounds
from gpushrink.codec.parallel import Threads, run_over
from gpushrink.errors import CorruptError

__all__ = ["decode_frames", "encode_frames"]

# Higher levels look for matches that order-0 data has only by chance: measured larger, not smaller.
LEVEL = 1


def encode_frames(symbols: NDArray[np.uint8], *, threads: Threads) -> list[bytes]:
    """Compress uint8 `symbols` as one frame for each 64 KiB."""
    bounds = zstd_chunk_bounds(len(symbols))

    def compress(chunk: int) -> bytes:
        # A compressor object is not safe to share between threads; making one is cheap at level 1.
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True, write_checksum=False)
        return compressor.compress(symbols[bounds[chunk] : bounds[chunk + 1]].tobytes())

    return run_over(compress, range(len(bounds) - 1), threads=threads)


def decode_frames(frames: Sequence[Buffer], count: int, *, threads: Threads) -> NDArray[np.uint8]:
    """Give back `count` symbols.

    Raises
    ------
    CorruptError
        A frame is damaged or does not name the size its place demands.
    """
    bounds = zstd_chunk_bounds(count)
    symbols = np.empty(count, np.uint8)

    def decompress(chunk: int) -> None:
        size = int(bounds[chunk + 1] - bounds[chunk])
        try:
            # The size in the frame bounds what the library allocates, so it is checked first.
            named = zstandard.get_frame_parameters(frames[chunk]).content_size
            if named != size:
                raise CorruptError(f"zstd chunk {chunk} names {named} bytes where {size} belong")
            # Law: a frame is exactly one frame, nothing may follow it.
            block = zstandard.ZstdDecompressor().decompress(frames[chunk], allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptError(f"zstd chunk {chunk} does not decode: {error}") from error
        if len(block) != size:
            raise CorruptError(f"zstd chunk {chunk} holds {len(block)} bytes where {size} belong")
        symbols[bounds[chunk] : bounds[chunk + 1]] = np.frombuffer(block, np.uint8)

    run_over(decompress, range(len(bounds) - 1), threads=threads)
    return symbols
