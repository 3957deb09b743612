"""Code streams to frames, by more than one implementation, so that a writer need not vouch for itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpushrink.convert.encoders import PIP_LINE
from gpushrink.convert.frames import Frame, PixelLayout, canonical
from gpushrink.convert.readers import (
    Reader,
    ffmpeg_jpeg2000,
    inflate_libdeflate,
    inflate_zlib,
    jxl_oxide,
    through_imagecodecs,
    through_inflate,
    through_pydicom,
)
from gpushrink.convert.report import KeepSourceError
from gpushrink.errors import MissingCodecError

__all__ = ["Decoder", "decoders_for", "provers_for", "working_decoders"]


@dataclass(frozen=True)
class Decoder:
    """Name a reader of one syntax; `frames` yields every frame of a data set in container words."""

    name: str
    implementation: str
    modules: str
    read: Reader
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


def provers_for(uid: str, writer: str) -> tuple[tuple[Decoder, ...], bool]:
    """List the readers that share no code with `writer`, or one that does; the flag says which it is."""
    found = decoders_for(uid)
    independent = tuple(d for d in found if d.implementation != writer)
    return (independent, True) if independent else (found[-1:], False)


_JPEG = (
    Decoder("imagecodecs jpegsof3", "jpg_0XC3", "imagecodecs", through_imagecodecs("jpegsof3")),
    Decoder("imagecodecs ljpeg", "liblj92", "imagecodecs", through_imagecodecs("ljpeg")),
    Decoder("pydicom pylibjpeg-libjpeg", "libjpeg (Richter)", "pylibjpeg libjpeg", through_pydicom("pylibjpeg")),
    Decoder("imagecodecs jpeg8", "libjpeg-turbo", "imagecodecs", through_imagecodecs("jpeg8")),
)
_HTJ2K = (
    Decoder("pydicom pylibjpeg-openjpeg", "OpenJPEG", "pylibjpeg openjpeg", through_pydicom("pylibjpeg")),
    Decoder("imagecodecs htj2k", "OpenJPH", "imagecodecs", through_imagecodecs("htj2k")),
)
_READERS: dict[str, tuple[Decoder, ...]] = {
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": (
        Decoder("pydicom pylibjpeg-libjpeg", "libjpeg (Richter)", "pylibjpeg libjpeg", through_pydicom("pylibjpeg")),
        Decoder("pydicom pyjpegls", "CharLS", "jpeg_ls", through_pydicom("pyjpegls")),
        # The same code base in another build: weaker proof, and reported as not independent.
        Decoder("imagecodecs jpegls", "CharLS", "imagecodecs", through_imagecodecs("jpegls")),
    ),
    "1.2.840.10008.1.2.4.90": (
        Decoder("pydicom pylibjpeg-openjpeg", "OpenJPEG", "pylibjpeg openjpeg", through_pydicom("pylibjpeg")),
        Decoder("av jpeg2000", "FFmpeg", "av", ffmpeg_jpeg2000),
        Decoder("imagecodecs jpeg2k", "OpenJPEG", "imagecodecs", through_imagecodecs("jpeg2k")),
    ),
    "1.2.840.10008.1.2.4.201": _HTJ2K,
    "1.2.840.10008.1.2.4.202": _HTJ2K,
    "1.2.840.10008.1.2.4.110": (
        Decoder("imagecodecs jpegxl", "libjxl", "imagecodecs", through_imagecodecs("jpegxl")),
        Decoder("micro-reader-codecs jxl", "jxl-oxide", "micro_reader_codecs", jxl_oxide),
    ),
    "1.2.840.10008.1.2.5": (
        Decoder("pydicom", "pydicom", "pydicom", through_pydicom("pydicom"), whole_words=True),
        Decoder(
            "pydicom pylibjpeg-rle", "pylibjpeg-rle", "pylibjpeg rle", through_pydicom("pylibjpeg"), whole_words=True
        ),
    ),
    "1.2.840.10008.1.2.8.1": (
        Decoder(
            "imagecodecs deflate", "libdeflate", "imagecodecs", through_inflate(inflate_libdeflate), whole_words=True
        ),
        Decoder("zlib", "zlib", "zlib", through_inflate(inflate_zlib), whole_words=True),
    ),
}
