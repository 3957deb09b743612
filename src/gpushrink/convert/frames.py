"""The pixel module of one image: its layout, its frames as arrays, and the bits that must not be lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.convert.report import KeepSourceError

__all__ = ["PixelLayout", "canonical", "native_bytes", "native_frames", "read_layout", "stray_bits"]

Frame = NDArray[Any]


@dataclass(frozen=True)
class PixelLayout:
    """Describe the Image Pixel Module. Source: PS3.3 C.7.6.3."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: int
    photometric: str
    frames: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Give the little-endian container type; one-bit pixels are held as bytes of 0 and 1."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{max(1, self.bits_allocated // 8)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Give (rows, columns), or (rows, columns, samples) for colour."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

    @property
    def frame_bits(self) -> int:
        """Count the bits of one frame in native encoding. Source: PS3.5 8.1.1."""
        if self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):
            return self.rows * self.columns * 2 * self.bits_allocated
        return self.rows * self.columns * self.samples * self.bits_allocated

    @property
    def native_size_bytes(self) -> int:
        """Count the bytes of all frames, without the pad byte; one-bit frames share bytes."""
        return (self.frame_bits * self.frames + 7) // 8


def read_layout(ds: Any) -> PixelLayout:
    """Read the layout of a data set with PixelData.

    Raises
    ------
    KeepSourceError
        An attribute is missing or holds a value outside the standard.
    """
    try:
        bits = int(ds.BitsAllocated)
        stored = int(ds.get("BitsStored", bits))
        layout = PixelLayout(
            rows=int(ds.Rows),
            columns=int(ds.Columns),
            samples=int(ds.get("SamplesPerPixel", 1)),
            bits_allocated=bits,
            bits_stored=stored,
            high_bit=int(ds.get("HighBit", stored - 1)),
            signed=int(ds.get("PixelRepresentation", 0)) == 1,
            planar=int(ds.get("PlanarConfiguration", 0) or 0),
            photometric=str(ds.PhotometricInterpretation).strip(),
            frames=int(ds.get("NumberOfFrames", 1) or 1),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise KeepSourceError(f"the pixel module cannot be read: {error}") from error
    if bits not in (1, 8, 16, 32, 64) or not 1 <= stored <= bits or not stored - 1 <= layout.high_bit < bits:
        raise KeepSourceError(f"bits allocated {bits}, stored {stored}, high bit {layout.high_bit} do not fit together")
    if layout.rows < 1 or layout.columns < 1 or layout.frames < 1 or layout.samples not in (1, 3, 4):
        raise KeepSourceError("rows, columns, frames or samples per pixel are out of range")
    return layout


def native_frames(pixel_data: bytes, layout: PixelLayout) -> Iterator[Frame]:
    """Cut little-endian native PixelData into frames of `layout.shape`, colour by pixel.

    Raises
    ------
    KeepSourceError
        There are fewer bytes than the frames need, or more than the pad byte after them: padding
        would be lost by an encapsulated encoding, and zeros would be invented for a short one.
    """
    expected = layout.native_size_bytes
    if len(pixel_data) < expected:
        raise KeepSourceError(f"pixel data are truncated: {len(pixel_data)} of {expected} bytes")
    if len(pixel_data) > expected + (expected & 1):
        raise KeepSourceError(f"{len(pixel_data) - expected} bytes follow the last frame")
    if layout.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        raise KeepSourceError("native pixels with subsampled colour cannot be cut into pixels of their own")
    if layout.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(pixel_data, np.uint8), bitorder="little")
        for index in range(layout.frames):
            yield bits[index * layout.frame_bits : (index + 1) * layout.frame_bits].reshape(layout.shape)
        return
    size = layout.frame_bits // 8
    for index in range(layout.frames):
        flat = np.frombuffer(pixel_data, layout.dtype, count=size // layout.dtype.itemsize, offset=index * size)
        if layout.samples > 1 and layout.planar == 1:
            yield np.moveaxis(flat.reshape(layout.samples, layout.rows, layout.columns), 0, -1)
        else:
            yield flat.reshape(layout.shape)


def native_bytes(frames: list[Frame], layout: PixelLayout) -> bytes:
    """Join frames to little-endian native PixelData, colour by pixel, padded to an even length."""
    if layout.bits_allocated == 1:
        flat = np.concatenate([frame.ravel() for frame in frames])
        data = np.packbits(flat.astype(np.uint8), bitorder="little").tobytes()
    else:
        data = b"".join(np.ascontiguousarray(frame.astype(layout.dtype, copy=False)).tobytes() for frame in frames)
    return data + b"\0" * (len(data) & 1)


def stray_bits(frame: Frame, layout: PixelLayout) -> bool:
    """Tell whether a sample holds bits above BitsStored that are not its sign: overlays, or rubbish.

    Codecs that keep BitsStored bits would drop them. Source: PS3.5 8.1.1, retired overlays in (60xx,0102).
    """
    if layout.bits_allocated in (1, layout.bits_stored):
        return False
    wide = frame.astype(np.int64)
    low, high = (
        (-(1 << (layout.bits_stored - 1)), (1 << (layout.bits_stored - 1)) - 1)
        if layout.signed
        else (
            0,
            (1 << layout.bits_stored) - 1,
        )
    )
    return bool(wide.min() < low or wide.max() > high)


def canonical(frame: Frame, layout: PixelLayout, *, whole_words: bool = False) -> Frame:
    """Bring a decoder's frame to the container type, with the sign in the upper bits.

    Decoders differ in the container (8 bits where 8 suffice) and in whether they know the sign
    (JPEG-LS, JPEG lossless and JPEG XL code streams have none); the low BitsStored bits decide.
    `whole_words` leaves the upper bits alone: RLE and deflated frames store them too.
    """
    if frame.dtype.kind == "f":
        raise KeepSourceError("a decoder returned floating-point samples")
    if frame.ndim == 3 and frame.shape[-1] == 1:
        frame = frame[..., 0]
    if frame.ndim == 3 and frame.shape == (layout.samples, layout.rows, layout.columns) != layout.shape:
        frame = np.moveaxis(frame, 0, -1)  # OpenJPH gives components without a colour transform as planes
    if frame.shape != layout.shape:
        raise KeepSourceError(f"a decoder returned a frame of {frame.shape} instead of {layout.shape}")
    if layout.bits_allocated == 1:
        return frame.astype(np.uint8)
    words = frame.astype(layout.dtype)
    shift = layout.bits_allocated - layout.bits_stored
    if layout.signed and shift and not whole_words:
        # Only where the upper bits hold nothing or the sign: a code stream of more bits is left as it is.
        wide = frame.astype(np.int64)
        if wide.min() >= -(1 << (layout.bits_stored - 1)) and wide.max() < 1 << layout.bits_stored:
            words = np.right_shift(np.left_shift(words, shift), shift)
    return words
