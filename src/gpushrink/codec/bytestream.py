"""General-purpose stages for bytes that are no samples: stored, Zstandard, LZMA, matched.

Source: docs/format.md#codecs. The kinds are the ids of data blocks' codecs; packed fields know the first three.
"""

from __future__ import annotations

import lzma
from typing import Any

import numpy as np
import zstandard

from gpushrink.codec.entropy.cost import FRACTION_BITS, histogram_cost
from gpushrink.errors import CorruptError

__all__ = ["LZMA", "MATCHED", "STORED", "ZSTD", "expand", "lzma_compress", "squeeze", "zstd_compress", "zstd_expand"]

STORED = 0
ZSTD = 1
LZMA = 2
MATCHED = 5

_MAX_WINDOW = 1 << 27
_DICT_BITS_MIN = 12
_DICT_BITS_MAX = 27
# LZMA codes a few megabytes a second (headers of a series, which repeat, 20) and comes out 2-30 % below
# Zstandard's best level; past this size the time is not worth it.
LZMA_LIMIT = 16 << 20
_TINY = 4096
_TRY_ALL = 1 << 17
_LONG = 1 << 20
_SMALL = 1 << 18
# Where the matched stage leaves less than one part in so many, long repeats are all there is: LZMA finds more of them,
# and is fast there.
_REPEATS = 32
# Streams of arithmetic coders keep 99.6 % and more of their order-0 size; those of Huffman coders less.
_EVEN = 0.9925
_NOTHING = 0.99


def squeeze(data: bytes | memoryview, *, effort: int = 2) -> tuple[int, bytes]:
    """Code bytes with the kind that comes out smallest among those that `effort` allows.

    Parameters
    ----------
    data
        What to code; may be empty.
    effort
        0: the matched stage, Zstandard where that may win; 1: Zstandard at a strong level; 2: LZMA;
        3: the matched stage with more trials, LZMA where that is fast; 4: both, and every way of LZMA.

    Returns
    -------
    tuple of int and bytes
        The kind and the coded bytes; never longer than `data`. With efforts 1 and 2, a kind that packed fields know.
    """
    choices = [(STORED, bytes(data))]
    if data:
        choices += _choices(bytes(data), effort)
    return min(choices, key=lambda choice: len(choice[1]))


def _choices(data: bytes, effort: int) -> list[tuple[int, bytes]]:
    """Code bytes with each kind worth trying."""
    size = len(data)
    if effort == 1 or (effort == 2 and size > LZMA_LIMIT):
        return [(ZSTD, zstd_compress(data, level=12, long=size > _LONG))]
    if effort == 2 or size < _TINY:
        return _choices_of_lzma(data, effort)
    if not _gives_way(data):
        return []
    from gpushrink.codec import matched  # here: what needs no more than Zstandard need not wait for it

    found = [(MATCHED, matched.encode(data, effort=1 if effort > 2 else 0))]
    least = len(found[0][1])
    if effort == 0:
        # Where literals are most of it, it codes them better than Zstandard does.
        return found if 2 * least > size else [*found, (ZSTD, zstd_compress(data, level=3))]
    if size <= LZMA_LIMIT and (effort > 3 or size <= _SMALL or _REPEATS * least < size):
        found += _choices_of_lzma(data, effort)
    return found


def _choices_of_lzma(data: bytes, effort: int) -> list[tuple[int, bytes]]:
    """Code bytes with LZMA, in the way that does best on a sample, and tiny ones with Zstandard."""
    size = len(data)
    found: list[tuple[int, bytes]] = []
    # LZMA beats Zstandard's best level on all but tiny inputs; there its head of two bytes counts.
    if size < _TINY:
        found.append((ZSTD, zstd_compress(data, level=19 if effort else 3)))
        if effort == 0:
            return found
    choices = list(_LZMA_CHOICES)
    if size > _TRY_ALL and effort < 4:
        step = size // 4
        probe = b"".join(data[k * step : k * step + _TRY_ALL // 4] for k in range(4))
        choices = [min(choices, key=lambda one: len(_lzma_compress(probe, *one)))]
    return found + [(LZMA, _lzma_compress(data, *one)) for one in choices]


def _gives_way(data: bytes) -> bool:
    """Tell whether bytes are uneven enough, or repeat enough, for the matched stage to gain something."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    bits = int(histogram_cost(counts[None])[0]) >> FRACTION_BITS
    return bits < _EVEN * 8 * len(data) or len(zstd_compress(data, level=1)) < _NOTHING * len(data)


def expand(kind: int, coded: bytes | memoryview, *, size: int = -1, limit: int) -> bytes | memoryview:
    """Invert `squeeze`.

    Parameters
    ----------
    size
        The decoded size where the caller knows it, else -1; LZMA and the matched stage need it.
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
    elif kind == MATCHED and size >= 0:
        from gpushrink.codec import matched

        return matched.decode(coded, size)
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


# A match of so many bytes is taken without looking for a longer one; 64 is quicker by a sixth and 0.15 % larger.
_NICE_LENGTH = 128


def _filters(lc: int, lp: int, pb: int, dict_bits: int) -> list[dict[str, Any]]:
    return [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9,
            "dict_size": 1 << dict_bits,
            "lc": lc,
            "lp": lp,
            "pb": pb,
            "nice_len": _NICE_LENGTH,
        }
    ]


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
