"""Code streams to frames, by more than one implementation, so that a writer need not vouch for itself."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpushrink.convert.encoders import PIP_LINE
from gpushrink.convert.frames import Frame, PixelLayout, canonical
from gpushrink.convert.report import KeepSourceError
from gpushrink.errors import MissingCodecError

__all__ = ["Decoder", "decoders_for", "prover_for", "working_decoders"]


@dataclass(frozen=True)
class Decoder:
    """Name a reader of one syntax; `frames` yields every frame of a data set in container words."""

    name: str
    implementation: str
    modules: str
    read: Callable[[Any, PixelLayout], Iterator[Frame]]
    whole_words: bool = False

    def available(self) -> bool:
        """Tell whether its libraries can be imported."""
        try:
            for name in self.modules.split():
                importlib.import_module(name)
        except ImportError:
            return False
        return True

    def frames(self, ds: Any, layout: PixelLayout) -> Iterator[Frame]:
        """Decode frame after frame, each of `layout.shape` and `layout.dtype`."""
        for frame in self.read(ds, layout):
            yield canonical(frame, layout, whole_words=self.whole_words)


def decoders_for(uid: str) -> tuple[Decoder, ...]:
    """List the readers of a syntax that are installed, the preferred first.

    Raises
    ------
    MissingCodecError
        None is installed.
    """
    found = tuple(d for d in _READERS.get(uid, ()) if d.available())
    if not found:
        raise MissingCodecError(f"no decoder for transfer syntax {uid} is installed: {PIP_LINE}")
    return found


def working_decoders(ds: Any, layout: PixelLayout) -> tuple[Decoder, ...]:
    """List one reader for each implementation that can decode the first frame of this data set.

    Raises
    ------
    KeepSourceError
        None can.
    """
    working: dict[str, Decoder] = {}
    last: Exception | None = None
    for decoder in decoders_for(str(ds.file_meta.TransferSyntaxUID)):
        if decoder.implementation not in working:
            try:
                next(decoder.frames(ds, layout))
                working[decoder.implementation] = decoder
            except Exception as error:  # a decoder may raise anything
                last = error
    if not working:
        raise KeepSourceError(f"no decoder reads the first frame: {type(last).__name__}: {last}")
    return tuple(working.values())


def prover_for(uid: str, writer: str) -> tuple[Decoder, bool]:
    """Choose the reader that shares no code with `writer`; the flag says whether there was one."""
    found = decoders_for(uid)
    for decoder in found:
        if decoder.implementation != writer:
            return decoder, True
    return found[-1], False


def _pydicom(plugin: str) -> Callable[[Any, PixelLayout], Iterator[Frame]]:
    def read(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
        from pydicom.pixels.decoders.base import get_decoder

        decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
        # raw: no colour conversion; unused bits are left alone, or RLE would lose overlays in them.
        options: dict[str, Any] = {"raw": True, "decoding_plugin": plugin, "correct_unused_bits": False}
        for frame, _ in decoder.iter_array(ds, **options):
            yield frame

    return read


def _streams(ds: Any, layout: PixelLayout) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    extended = None
    if "ExtendedOffsetTable" in ds:
        extended = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths)
    yield from generate_frames(ds.PixelData, number_of_frames=layout.frames, extended_offsets=extended)


def _imagecodecs(codec: str) -> Callable[[Any, PixelLayout], Iterator[Frame]]:
    def read(ds: Any, layout: PixelLayout) -> Iterator[Frame]:
        decode = getattr(importlib.import_module("imagecodecs"), f"{codec}_decode")
        for stream in _streams(ds, layout):
            yield np.asarray(decode(stream))

    return read


def _deflated(inflate: Callable[[bytes, int], bytes]) -> Callable[[Any, PixelLayout], Iterator[Frame]]:
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


def _inflate_libdeflate(stream: bytes, size: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.deflate_decode(stream, raw=True, out=size))


def _inflate_zlib(stream: bytes, size: int) -> bytes:
    # One byte more than the frame: a longer stream must be seen, and a bomb must not be inflated.
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream, size + 1)


_JPEG = (
    Decoder("imagecodecs jpegsof3", "jpg_0XC3", "imagecodecs", _imagecodecs("jpegsof3")),
    Decoder("imagecodecs ljpeg", "liblj92", "imagecodecs", _imagecodecs("ljpeg")),
    Decoder("pydicom gdcm", "GDCM", "gdcm", _pydicom("gdcm")),
    Decoder("pydicom pylibjpeg-libjpeg", "libjpeg (Richter)", "pylibjpeg libjpeg", _pydicom("pylibjpeg")),
    Decoder("imagecodecs jpeg8", "libjpeg-turbo", "imagecodecs", _imagecodecs("jpeg8")),
)
_HTJ2K = (
    Decoder("pydicom pylibjpeg-openjpeg", "OpenJPEG", "pylibjpeg openjpeg", _pydicom("pylibjpeg")),
    Decoder("imagecodecs htj2k", "OpenJPH", "imagecodecs", _imagecodecs("htj2k")),
)
_READERS: dict[str, tuple[Decoder, ...]] = {
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": (
        Decoder("pydicom pylibjpeg-libjpeg", "libjpeg (Richter)", "pylibjpeg libjpeg", _pydicom("pylibjpeg")),
        Decoder("pydicom pyjpegls", "CharLS", "jpeg_ls", _pydicom("pyjpegls")),
        # The same code base in another build: weaker proof, and reported as not independent.
        Decoder("imagecodecs jpegls", "CharLS", "imagecodecs", _imagecodecs("jpegls")),
    ),
    "1.2.840.10008.1.2.4.90": (
        Decoder("pydicom pylibjpeg-openjpeg", "OpenJPEG", "pylibjpeg openjpeg", _pydicom("pylibjpeg")),
        Decoder("imagecodecs jpeg2k", "OpenJPEG", "imagecodecs", _imagecodecs("jpeg2k")),
    ),
    "1.2.840.10008.1.2.4.201": _HTJ2K,
    "1.2.840.10008.1.2.4.202": _HTJ2K,
    "1.2.840.10008.1.2.4.110": (Decoder("imagecodecs jpegxl", "libjxl", "imagecodecs", _imagecodecs("jpegxl")),),
    "1.2.840.10008.1.2.5": (
        Decoder("pydicom", "pydicom", "pydicom", _pydicom("pydicom"), whole_words=True),
        Decoder("pydicom pylibjpeg-rle", "pylibjpeg-rle", "pylibjpeg rle", _pydicom("pylibjpeg"), whole_words=True),
    ),
    "1.2.840.10008.1.2.8.1": (
        Decoder("imagecodecs deflate", "libdeflate", "imagecodecs", _deflated(_inflate_libdeflate), whole_words=True),
        Decoder("zlib", "zlib", "zlib", _deflated(_inflate_zlib), whole_words=True),
    ),
}
