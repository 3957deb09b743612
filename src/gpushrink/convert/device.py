"""The CUDA writer of J2K and HTJ2K: nvImageCodec's nvjpeg2k backend with LOSSLESS set.

Written against the names in the nvidia-nvimgcodec wheel (0.9) and not yet run on a card. Nothing rests
on it: each frame it writes is decoded by OpenJPEG on the CPU and compared before the file is named.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from gpushrink.convert.encoders import Encoder
from gpushrink.convert.frames import Frame, PixelLayout
from gpushrink.convert.syntaxes import Target
from gpushrink.errors import DeviceUnavailableError, UsageError

__all__ = ["device_encoder"]


def device_encoder(target: Target) -> Encoder:
    """Find the CUDA writer of a target.

    Raises
    ------
    UsageError
        The target has no CUDA writer.
    DeviceUnavailableError
        nvImageCodec or a device is missing.
    """
    if target.key not in ("j2k", "htj2k"):
        raise UsageError(f"{target.key} has no CUDA encoder: use --device cpu, or --to j2k or htj2k")
    _library()
    return Encoder(
        "nvImageCodec nvjpeg2k", "nvJPEG2000", functools.partial(_encode, high_throughput=target.key == "htj2k")
    )


@functools.lru_cache(maxsize=1)
def _library() -> tuple[Any, Any]:
    try:
        library = importlib.import_module("nvidia.nvimgcodec")
    except ImportError as error:
        raise DeviceUnavailableError(
            "nvImageCodec is not installed: pip install 'nvidia-nvimgcodec-cu12[nvjpeg2k]'"
        ) from error
    try:
        return library, library.Encoder()
    except Exception as error:  # the binding raises plain RuntimeError where there is no driver
        raise DeviceUnavailableError(f"nvImageCodec found no device: {error}") from error


def _encode(frame: Frame, layout: PixelLayout, *, high_throughput: bool) -> bytes:
    library, encoder = _library()
    words = np.ascontiguousarray(frame if frame.ndim == 3 else frame[..., np.newaxis])
    parameters = library.EncodeParams(
        quality_type=library.QualityType.LOSSLESS,
        # RGB goes in and YBR_RCT is named in the file: the reversible transform is the codec's own.
        color_spec=library.ColorSpec.SRGB if layout.samples == 3 else library.ColorSpec.GRAY,
        jpeg2k_encode_params=library.Jpeg2kEncodeParams(
            bitstream_type=library.Jpeg2kBitstreamType.J2K,
            mct_mode=int(layout.photometric == "RGB"),
            ht=high_throughput,
        ),
    )
    coded = encoder.encode(library.as_image(words), codec="jpeg2k", params=parameters)
    return bytes(coded)
