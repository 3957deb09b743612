"""A stand-in for nvImageCodec over imagecodecs, so that the device path's own lines run without a card.

It knows what `gpushrink.convert.device` calls and nothing else. That the real package has these names and takes
these arguments is tested against its wheel.
"""

# ruff: noqa: D101, D102 - the classes are nvImageCodec's, described there

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np


class QualityType(Enum):
    DEFAULT = 0
    LOSSLESS = 1


class ColorSpec(Enum):
    SRGB = 1
    GRAY = 2


class Jpeg2kBitstreamType(Enum):
    J2K = 0
    JP2 = 1


class BackendKind(Enum):
    CPU_ONLY = 1
    GPU_ONLY = 2
    HYBRID_CPU_GPU = 3


@dataclass
class Backend:
    backend_kind: BackendKind


@dataclass
class Jpeg2kEncodeParams:
    num_resolutions: int = 6
    bitstream_type: Jpeg2kBitstreamType = Jpeg2kBitstreamType.JP2
    mct_mode: int = 0
    ht: bool = False


@dataclass
class EncodeParams:
    quality_type: QualityType = QualityType.DEFAULT
    color_spec: ColorSpec | None = None
    jpeg2k_encode_params: Jpeg2kEncodeParams | None = None


@dataclass
class Image:
    samples: np.ndarray
    color_spec: ColorSpec
    precision: int
    on_device: bool = False

    def cuda(self) -> Image:
        return Image(self.samples, self.color_spec, self.precision, True)


def as_image(source: np.ndarray, *, color_spec: ColorSpec, precision: int) -> Image:
    """Wrap an array as nvImageCodec would."""
    assert source.flags.c_contiguous
    assert source.ndim == 3
    return Image(source, color_spec, precision)


class Encoder:
    """Encode by imagecodecs; `fault` makes it err on each second frame."""

    fault = ""
    calls = 0

    def __init__(self, *, max_num_cpu_threads: int, backends: list[Backend]) -> None:
        assert BackendKind.CPU_ONLY not in [b.backend_kind for b in backends]

    def encode(self, image: Image, *, codec: str, params: EncodeParams) -> bytearray | None:
        import imagecodecs

        how = params.jpeg2k_encode_params
        assert (codec, image.on_device, how is not None) == ("jpeg2k", True, True)
        type(self).calls += 1
        faulty = type(self).calls % 2 == 0
        if faulty and self.fault == "none":
            return None
        if faulty and self.fault == "raise":
            raise RuntimeError("out of memory")
        samples = image.samples.copy()
        if (faulty and self.fault == "sample") or params.quality_type is not QualityType.LOSSLESS:
            samples[0, 0] ^= 1
        samples = samples if samples.shape[2] == 3 else samples[..., 0]
        options: dict[str, Any] = {"reversible": True}
        if how.ht:
            return bytearray(imagecodecs.htj2k_encode(samples, rgb=bool(how.mct_mode), **options))
        container = "j2k" if how.bitstream_type is Jpeg2kBitstreamType.J2K else "jp2"
        options |= {"codecformat": container, "bitspersample": image.precision, "mct": bool(how.mct_mode)}
        return bytearray(imagecodecs.jpeg2k_encode(samples, resolutions=how.num_resolutions, **options))


def module(fault: str) -> ModuleType:
    """Make the module with one kind of fault, or none."""
    made = ModuleType("nvidia.nvimgcodec")
    for name in ("QualityType", "ColorSpec", "Jpeg2kBitstreamType", "BackendKind", "Backend", "as_image"):
        setattr(made, name, globals()[name])
    made.Jpeg2kEncodeParams, made.EncodeParams = Jpeg2kEncodeParams, EncodeParams  # type: ignore[attr-defined]
    made.Encoder = type("Encoder", (Encoder,), {"fault": fault, "calls": 0})  # type: ignore[attr-defined]
    return made
