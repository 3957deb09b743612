"""One frame to one code stream: pydicom's encoder plugins where they exist, imagecodecs or zlib elsewhere."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpushrink.convert.frames import Frame, PixelLayout
from gpushrink.convert.syntaxes import Target
from gpushrink.errors import MissingCodecError

__all__ = ["Encoder", "encoder_for", "written_photometric"]

PIP_LINE = "pip install 'gpushrink[convert]'"

EncodeFrame = Callable[[Frame, PixelLayout], bytes]


@dataclass(frozen=True)
class Encoder:
    """Name a writer: ``implementation`` is the code base whose decoder would prove nothing about it."""

    name: str
    implementation: str
    encode: EncodeFrame


def written_photometric(target: Target, layout: PixelLayout) -> str:
    """Give the PhotometricInterpretation after encoding: RGB becomes YBR_RCT where the code stream does so."""
    return "YBR_RCT" if target.key in ("j2k", "htj2k") and layout.photometric == "RGB" else layout.photometric


def encoder_for(target: Target) -> Encoder:
    """Find the writer of an encapsulated target.

    Raises
    ------
    MissingCodecError
        The library is not installed; the message has the pip line.
    """
    module, encoder = _WRITERS[target.key]
    for name in module.split():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingCodecError(f"{target.key} needs {encoder.name}, which is not installed: {PIP_LINE}") from error
    return encoder


def _through_pydicom(uid: str, plugin: str, *, rct: bool = False, whole_words: bool = False) -> EncodeFrame:
    def encode(frame: Frame, layout: PixelLayout) -> bytes:
        from pydicom.pixels.encoders.base import get_encoder

        coded: bytes = get_encoder(uid).encode(
            np.ascontiguousarray(frame).tobytes(),
            encoding_plugin=plugin,
            rows=layout.rows,
            columns=layout.columns,
            number_of_frames=1,
            samples_per_pixel=layout.samples,
            bits_allocated=layout.bits_allocated,
            # RLE keeps whole words, and with them what lies above BitsStored.
            bits_stored=layout.bits_allocated if whole_words else layout.bits_stored,
            pixel_representation=int(layout.signed),
            # YBR_RCT asks the plugin for the reversible colour transform; RGB would forbid it.
            photometric_interpretation="YBR_RCT" if rct and layout.photometric == "RGB" else layout.photometric,
            planar_configuration=0,
        )
        return bytes(coded)

    return encode


def _j2k(frame: Frame, layout: PixelLayout) -> bytes:
    """Encode through pydicom; where its plugin fails (images of fewer than 32 rows or columns), imagecodecs."""
    try:
        return _through_pydicom("1.2.840.10008.1.2.4.90", "pylibjpeg", rct=True)(frame, layout)
    except RuntimeError:
        import imagecodecs

        kind = "i" if layout.signed else "u"
        words = np.ascontiguousarray(frame.astype(f"{kind}{1 if layout.bits_stored <= 8 else 2}"))
        return bytes(
            imagecodecs.jpeg2k_encode(
                words,
                reversible=True,
                codecformat="j2k",
                bitspersample=layout.bits_stored,
                resolutions=1,
                mct=layout.photometric == "RGB",
            )
        )


def _narrow(frame: Frame, layout: PixelLayout) -> Frame:
    """Drop the sign and the empty bits: code streams without a sign hold BitsStored bits."""
    mask = (1 << layout.bits_stored) - 1
    words = frame.view(f"<u{frame.dtype.itemsize}") & np.array(mask, f"<u{frame.dtype.itemsize}")
    return np.ascontiguousarray(words.astype(np.uint8 if layout.bits_stored <= 8 else np.uint16))


def _jpeg(frame: Frame, layout: PixelLayout) -> bytes:
    import imagecodecs

    colour: dict[str, Any] = {"colorspace": "RGB", "outcolorspace": "RGB"} if layout.samples == 3 else {}
    # The colour space is given twice, or libjpeg-turbo would turn RGB into YCC.
    return bytes(
        imagecodecs.jpeg8_encode(
            _narrow(frame, layout), lossless=True, predictor=1, bitspersample=layout.bits_stored, **colour
        )
    )


def _htj2k(frame: Frame, layout: PixelLayout) -> bytes:
    import imagecodecs

    kind = "i" if layout.signed else "u"
    words = np.ascontiguousarray(frame.astype(f"{kind}{1 if layout.bits_stored <= 8 else 2}"))
    colour: dict[str, Any] = {"rgb": layout.photometric == "RGB"} if layout.samples == 3 else {}
    return bytes(imagecodecs.htj2k_encode(words, reversible=True, **colour))


def _jpegxl(frame: Frame, layout: PixelLayout) -> bytes:
    import imagecodecs

    return bytes(
        imagecodecs.jpegxl_encode(
            _narrow(frame, layout), lossless=True, effort=5, bitspersample=layout.bits_stored, numthreads=1
        )
    )


def _deflate(frame: Frame, layout: PixelLayout) -> bytes:
    if layout.bits_allocated == 1:
        raw = np.packbits(frame.astype(np.uint8), bitorder="little").tobytes()
    else:
        raw = np.ascontiguousarray(frame).tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(raw) + packer.flush()


_WRITERS: dict[str, tuple[str, Encoder]] = {
    "jpegls": ("jpeg_ls", Encoder("pyjpegls", "CharLS", _through_pydicom("1.2.840.10008.1.2.4.80", "pyjpegls"))),
    "j2k": (
        "pylibjpeg openjpeg imagecodecs",
        Encoder("pylibjpeg-openjpeg", "OpenJPEG", _j2k),
    ),
    "rle": (
        "pylibjpeg rle",
        Encoder(
            "pylibjpeg-rle", "pylibjpeg-rle", _through_pydicom("1.2.840.10008.1.2.5", "pylibjpeg", whole_words=True)
        ),
    ),
    "jpeg": ("imagecodecs", Encoder("imagecodecs jpeg8", "libjpeg-turbo", _jpeg)),
    "htj2k": ("imagecodecs", Encoder("imagecodecs htj2k", "OpenJPH", _htj2k)),
    "jpegxl": ("imagecodecs", Encoder("imagecodecs jpegxl", "libjxl", _jpegxl)),
    "deflated-frame": ("zlib", Encoder("zlib", "zlib", _deflate)),
}
