"""The CUDA writer of J2K and HTJ2K: nvImageCodec's nvjpeg2k backend with LOSSLESS set.

Written against the nvidia-nvimgcodec wheel (0.9), whose names and arguments the tests check, and not yet run on a card.
Nothing rests on it: each frame it writes is decoded on the CPU by other code and compared before the file gets its
name, and a file that fails this is written on the CPU instead.
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

__all__ = ["device_encoder", "encode_parameters"]

_MODULE = "nvidia.nvimgcodec"
_PIP_LINE = "pip install 'gpushrink[convert-cuda12]' or 'gpushrink[convert-cuda13]'"
_MOST_RESOLUTIONS = 6


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
    _opened()
    return Encoder(
        "nvImageCodec nvjpeg2k", "nvJPEG2000", functools.partial(_encode, high_throughput=target.key == "htj2k")
    )


@functools.lru_cache(maxsize=1)
def _opened() -> tuple[Any, Any]:
    try:
        library = importlib.import_module(_MODULE)
    except ImportError as error:
        raise DeviceUnavailableError(f"nvImageCodec is not installed: {_PIP_LINE}") from error
    kinds = library.BackendKind
    try:
        # Its CPU backends are left out: they are no reason to ask for a device, and know other qualities.
        backends = [library.Backend(kind) for kind in (kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU)]
        return library, library.Encoder(max_num_cpu_threads=1, backends=backends)
    except Exception as error:  # the binding raises plain RuntimeError where there is no driver
        raise DeviceUnavailableError(f"nvImageCodec found no device: {error}") from error


def encode_parameters(library: Any, layout: PixelLayout, *, high_throughput: bool) -> Any:
    """Make the parameters of a reversible code stream; the library's own default is lossy for 16 bits."""
    return library.EncodeParams(
        quality_type=library.QualityType.LOSSLESS,
        color_spec=_colour(library, layout),
        jpeg2k_encode_params=library.Jpeg2kEncodeParams(
            # A resolution halves the image: none is smaller than one pixel.
            num_resolutions=min(_MOST_RESOLUTIONS, min(layout.rows, layout.columns).bit_length()),
            bitstream_type=library.Jpeg2kBitstreamType.J2K,
            mct_mode=int(layout.photometric == "RGB"),
            ht=high_throughput,
        ),
    )


def _colour(library: Any, layout: PixelLayout) -> Any:
    # RGB goes in and YBR_RCT is named in the file: the reversible transform is the codec's own. YBR_FULL goes by the
    # same name, so that nothing is transformed at all.
    return library.ColorSpec.SRGB if layout.samples == 3 else library.ColorSpec.GRAY


def _encode(frame: Frame, layout: PixelLayout, *, high_throughput: bool) -> bytes:
    library, encoder = _opened()
    kind = "i" if layout.signed else "u"
    words = np.ascontiguousarray(frame.astype(f"{kind}{1 if layout.bits_stored <= 8 else 2}"))
    image = library.as_image(
        words if words.ndim == 3 else words[..., np.newaxis],
        color_spec=_colour(library, layout),
        precision=layout.bits_stored,
    ).cuda()
    if image is None:
        raise RuntimeError("the frame could not be copied to the device")
    parameters = encode_parameters(library, layout, high_throughput=high_throughput)
    coded = encoder.encode(image, codec="jpeg2k", params=parameters)
    if coded is None:
        raise RuntimeError("the device encoded nothing")
    return bytes(coded)
