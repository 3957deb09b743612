"""General-purpose stages for bytes that are no samples: stored, Zstandard, LZMA.

Source: docs/format.md#codecs. The same three kinds code data blocks (codec ids 0 to 2) and packed fields.
"""

from __future__ import annotations

import lzma
from typing import Any

import zstandard

from gpushrink.errors import CorruptError

__all__ = ["LZMA", "STORED", "ZSTD", "expand", "lzma_compress", "squeeze", "zstd_compress", "zstd_expand"]

STORED = 0
ZSTD = 1
LZMA = 2

_MAX_WINDOW = 1 << 27
_DICT_BITS_MIN = 12
_DICT_BITS_MAX = 27
# LZMA codes a few megabytes a second (headers of a series, which repeat, 20) and comes out 2-30 % below
# Zstandard's best level; past this size the time is not worth it.
LZMA_LIMIT = 16 << 20
_TINY = 4096
_TRY_ALL = 1 << 17
_LONG = 1 << 20


def squeeze(data: bytes | memoryview, *, effort: int = 2) -> tuple[int, bytes]:
    """Code bytes with the kind that comes out smallest.

    Parameters
    ----------
    data
        What to code; may be empty.
    effort
        0: Zstandard at a fast level; 1: at a strong level; 2: LZMA too.

    Returns
    -------
    tuple of int and bytes
        The kind and the coded bytes; never longer than `data`.
    """
    best, coded = STORED, bytes(data)
    if not data:
        return best, coded
    if effort < 2 or len(data) > LZMA_LIMIT:
        squeezed = zstd_compress(data, level=3 if effort == 0 else 12, long=len(data) > _LONG)
        return (ZSTD, squeezed) if len(squeezed) < len(coded) else (best, coded)
    # LZMA beats Zstandard's best level on all but tiny inputs; there its head of two bytes counts.
    if len(data) < _TINY:
        squeezed = zstd_compress(data, level=19)
        if len(squeezed) < len(coded):
            best, coded = ZSTD, squeezed
    choices = list(_LZMA_CHOICES)
    if len(data) > _TRY_ALL:
        step = len(data) // 4
        probe = b"".join(data[k * step : k * step + _TRY_ALL // 4] for k in range(4))
        choices = [min(choices, key=lambda one: len(_lzma_compress(probe, *one)))]
    smallest = min((_lzma_compress(data, *one) for one in choices), key=len)
    return (LZMA, smallest) if len(smallest) < len(coded) else (best, coded)


def expand(kind: int, coded: bytes | memoryview, *, size: int = -1, limit: int) -> bytes:
    """Invert `squeeze`.

    Parameters
    ----------
    size
        The decoded size where the caller knows it, else -1; LZMA needs it.
    limit
        The most bytes that may come out.

    Raises
    ------
    CorruptError
        If the bytes are no such stream, or its size is not `size`, or over `limit`.
    """
    if size > limit:
        raise CorruptError(f"a stream claims {size} bytes; the limit is {limit}")
    if kind == STORED:
        out = bytes(coded)
    elif kind == ZSTD:
        out = zstd_expand(coded, size=size, limit=limit)
    elif kind == LZMA:
        out = _lzma_expand(coded, size)
    else:
        raise CorruptError(f"kind {kind} is no byte stage")
    if len(out) > limit or (size >= 0 and len(out) != size):
        raise CorruptError(f"a stream gave {len(out)} bytes where {size if size >= 0 else limit} were expected")
    return out


def zstd_compress(data: bytes | memoryview, *, level: int, long: bool = False) -> bytes:
    """Code bytes as one Zstandard frame with content size and without checksum.

    `long` searches matches over the whole of `data`, up to the window every reader grants.
    """
    if long:
        window = min(27, max(17, (len(data) - 1).bit_length()))
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, source_size=len(data), window_log=window, enable_ldm=True, write_content_size=True
        )
        return zstandard.ZstdCompressor(compression_params=parameters).compress(data)
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)


def zstd_expand(coded: bytes | memoryview, *, size: int, limit: int) -> bytes:
    """Decode one Zstandard frame that fills `coded`.

    Raises
    ------
    CorruptError
        If it is no such frame, lacks its content size, or that is not `size` (where not -1) or over `limit`.
    """
    try:
        frame = zstandard.get_frame_parameters(coded)
        known = frame.content_size
        if known in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) or frame.dict_id:
            raise CorruptError("a Zstandard frame lacks its content size or wants a dictionary")
        if known > limit or (size >= 0 and known != size):
            raise CorruptError(f"a Zstandard frame claims {known} bytes where {size if size >= 0 else limit} belong")
        if frame.window_size > _MAX_WINDOW:
            raise CorruptError(f"a Zstandard frame wants a window of {frame.window_size} bytes")
        # In one pass, into a buffer of the size that was just checked: a stream decoder gives out more than the
        # frame claims before it notices.
        if known:
            return zstandard.ZstdDecompressor().decompress(coded, allow_extra_data=False)
        reader = zstandard.ZstdDecompressor().decompressobj()  # decompress() looks at no empty frame
        if reader.decompress(coded) or not reader.eof or reader.unused_data:
            raise CorruptError("an empty Zstandard frame is not empty")
    except (zstandard.ZstdError, MemoryError) as error:
        raise CorruptError(f"a Zstandard frame does not decode: {error}") from None
    return b""


# (lc, lp, pb): headers; 16-bit values; bytes without alignment; a mixture.
_LZMA_CHOICES = ((3, 0, 0), (0, 1, 1), (4, 0, 0), (3, 0, 1))


def _filters(lc: int, lp: int, pb: int, dict_bits: int) -> list[dict[str, Any]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << dict_bits, "lc": lc, "lp": lp, "pb": pb}]


def _lzma_compress(data: bytes | memoryview, lc: int, lp: int, pb: int) -> bytes:
    dict_bits = min(_DICT_BITS_MAX, max(_DICT_BITS_MIN, (len(data) - 1).bit_length()))
    stream = lzma.compress(data, format=lzma.FORMAT_RAW, filters=_filters(lc, lp, pb, dict_bits))
    return bytes([(pb * 5 + lp) * 9 + lc, dict_bits]) + stream


def lzma_compress(data: bytes | memoryview) -> bytes:
    """Code bytes, at least one, as LZMA with the properties that fit text and structures best."""
    return _lzma_compress(data, *_LZMA_CHOICES[0])


def _lzma_expand(coded: bytes | memoryview, size: int) -> bytes:
    if len(coded) < 2 or size < 0:
        raise CorruptError("an LZMA stream is too short")
    properties, dict_bits = coded[0], coded[1]
    lc, lp, pb = properties % 9, properties // 9 % 5, properties // 45
    if pb > 4 or lc + lp > 4 or not _DICT_BITS_MIN <= dict_bits <= _DICT_BITS_MAX:
        raise CorruptError("an LZMA stream has properties out of range")
    try:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_filters(lc, lp, pb, dict_bits))
        # One byte more than promised, so that a stream which goes on is seen.
        out = decoder.decompress(coded[2:], max_length=size + 1)
    except (lzma.LZMAError, EOFError, ValueError, MemoryError) as error:
        raise CorruptError(f"an LZMA stream does not decode: {error}") from None
    if len(out) != size or not decoder.eof or decoder.unused_data:
        raise CorruptError("an LZMA stream ends too early or too late")
    return out
