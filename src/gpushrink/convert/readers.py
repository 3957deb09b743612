"""Code streams of a data set to frames: one function for each library that reads them."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpushrink.convert.frames import Frame, PixelLayout

__all__ = [
    "Reader",
    "ffmpeg_jpeg2000",
    "inflate_libdeflate",
    "inflate_zlib",
    "jxl_oxide",
    "through_imagecodecs",
    "through_inflate",
    "through_pydicom",
]

Reader = Callable[[Any, PixelLayout], Iterator[Frame]]


def through_pydicom(plugin: str) -> Reader:
    """Read through a decoding plugin of pydicom."""

    def read(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
        from pydicom.pixels.decoders.base import get_decoder

        decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
        # raw: no colour conversion; unused bits are left alone, or RLE would lose overlays in them.
        options: dict[str, Any] = {"raw": True, "decoding_plugin": plugin, "correct_unused_bits": False}
        for frame, _ in decoder.iter_array(ds, **options):
            yield frame

    return read


def through_imagecodecs(codec: str) -> Reader:
    """Read through ``imagecodecs.<codec>_decode``."""

    def read(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
        decode = getattr(importlib.import_module("imagecodecs"), f"{codec}_decode")
        for stream in _streams(ds, layout):
            yield np.asarray(decode(stream))

    return read


def through_inflate(inflate: Callable[[bytes, int], bytes]) -> Reader:
    """Read deflated frames; `inflate` takes a stream and the frame's size in bytes."""

    def read(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
        for stream in _streams(ds, layout):
            raw = inflate(stream, (layout.frame_bits + 7) // 8)
            if layout.bits_allocated == 1:
                bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
                yield bits[: layout.frame_bits].reshape(layout.shape)
            else:
                count = layout.frame_bits // 8 // layout.dtype.itemsize
                yield np.frombuffer(raw, layout.dtype, count=count).reshape(layout.shape)

    return read


def inflate_libdeflate(stream: bytes, size: int) -> bytes:
    """Inflate by libdeflate."""
    import imagecodecs

    return bytes(imagecodecs.deflate_decode(stream, raw=True, out=size))


def inflate_zlib(stream: bytes, size: int) -> bytes:
    """Inflate by zlib."""
    # One byte more than the frame: a longer stream must be seen, and a bomb must not be inflated.
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream, size + 1)


def ffmpeg_jpeg2000(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
    """Read JPEG 2000 by FFmpeg's own decoder, which shares nothing with OpenJPEG."""
    av = importlib.import_module("av")
    codec = av.CodecContext.create("jpeg2000", "r")  # by this name, never the wrapper of OpenJPEG
    codec.thread_count = 1  # the conversion runs in as many processes as there are cores
    for stream in _streams(ds, layout):
        precision, signed = _sample_format(stream)
        (picture,) = codec.decode(av.Packet(stream))
        if picture.format.name not in ("gray", "gray16le", "rgb24", "rgb48le"):
            raise ValueError(f"FFmpeg gave samples as {picture.format.name}")
        # Samples come at the top of 8 or 16 bits, and signed ones lifted to begin at 0.
        words = picture.to_ndarray()
        gap = 8 * words.dtype.itemsize - precision
        if (words & ((1 << gap) - 1)).any():
            raise ValueError(f"FFmpeg gave samples of more than the {precision} bits stated")
        yield (words >> gap).astype(np.int32) - (signed << (precision - 1))


def _sample_format(stream: bytes) -> tuple[int, int]:
    """Read precision and sign of a JPEG 2000 code stream from its SIZ marker. Source: ISO/IEC 15444-1 A.5.1."""
    if bytes(stream[:4]) != b"\xff\x4f\xff\x51":
        raise ValueError("no JPEG 2000 code stream begins here")
    components = int.from_bytes(stream[40:42], "big")
    formats = set(bytes(stream[42 : 42 + 3 * components : 3]))
    if len(formats) != 1:
        raise ValueError("the components differ in their precision or sign")
    (stated,) = formats
    return (stated & 127) + 1, stated >> 7


def jxl_oxide(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
    """Read JPEG XL by jxl-oxide, which shares nothing with libjxl."""
    decode = importlib.import_module("micro_reader_codecs").jxl_decode_into
    for stream in _streams(ds, layout):
        words = np.empty(layout.shape, np.uint8 if layout.bits_stored <= 8 else np.uint16)
        columns, rows, samples, precision = decode(stream, words.reshape(-1).view(np.uint8))
        if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples) or precision != layout.bits_stored:
            raise ValueError(f"jxl-oxide found {columns} x {rows} x {samples} samples of {precision} bits")
        # Samples come stretched to the whole range of 8 or 16 bits; no two of them fall together.
        whole, top = (1 << precision) - 1, (1 << 8 * words.dtype.itemsize) - 1
        yield ((words.astype(np.int64) * whole + top // 2) // top).astype(words.dtype)


def _streams(ds: Any, layout: PixelLayout) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    extended = None
    if "ExtendedOffsetTable" in ds:
        extended = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths)
    yield from generate_frames(ds.PixelData, number_of_frames=layout.frames, extended_offsets=extended)
