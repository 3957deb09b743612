"""The closed table of transfer syntaxes: which are offered, which are read, which images each can hold."""

from __future__ import annotations

from dataclasses import dataclass

from gpushrink.convert.frames import PixelLayout
from gpushrink.errors import UsageError

__all__ = ["DEFAULT_ALLOWED", "LOSSLESS", "NATIVE", "TARGETS", "Target", "refusal", "target_named"]


@dataclass(frozen=True)
class Target:
    """Name one syntax that can be written, all of them lossless."""

    key: str
    uid: str
    name: str
    encapsulated: bool


TARGETS: dict[str, Target] = {
    t.key: t
    for t in (
        Target("implicit", "1.2.840.10008.1.2", "Implicit VR Little Endian", False),
        Target("explicit", "1.2.840.10008.1.2.1", "Explicit VR Little Endian", False),
        Target("deflated", "1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", False),
        # .70, not .57: whoever supports lossless JPEG must support first-order prediction (PS3.5 10.2).
        Target("jpeg", "1.2.840.10008.1.2.4.70", "JPEG Lossless, first-order prediction", True),
        Target("jpegls", "1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", True),
        Target("j2k", "1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless Only", True),
        Target("jpegxl", "1.2.840.10008.1.2.4.110", "JPEG XL Lossless", True),
        Target("htj2k", "1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless Only", True),
        Target("rle", "1.2.840.10008.1.2.5", "RLE Lossless", True),
        Target("deflated-frame", "1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", True),
    )
}

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
"""Syntaxes whose PixelData are the samples themselves; the last, big endian, is read only."""

LOSSLESS = frozenset({t.uid for t in TARGETS.values() if t.encapsulated}) | {
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.202",
}
"""Encapsulated syntaxes that cannot be lossy. .81, .91, .112, .203 can: they are never decoded to be written anew."""

DEFAULT_ALLOWED = ("jpegls", "j2k", "jpeg", "rle", "deflated")
"""What ``smallest`` tries unless told otherwise: what receivers of the last ten years take."""

_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL")


def target_named(key: str) -> Target:
    """Look a target up by its command-line word.

    Raises
    ------
    UsageError
        There is no such target.
    """
    try:
        return TARGETS[key]
    except KeyError:
        raise UsageError(f"unknown transfer syntax {key!r}: choose one of {', '.join(sorted(TARGETS))}") from None


def refusal(target: Target, layout: PixelLayout) -> str:
    """Say why `target` cannot hold such an image without loss or outside the standard; empty if it can.

    Source: PS3.5 8.2.1 to 8.2.16.
    """
    if not target.encapsulated:
        return ""
    if layout.photometric not in _GREY + _COLOUR:
        return f"{target.key} is not written for {layout.photometric}"
    if (layout.samples == 1) != (layout.photometric in _GREY) or layout.samples == 4:
        return f"{layout.samples} samples per pixel do not fit {layout.photometric}"
    if target.key == "deflated-frame":
        return ""
    if target.key == "rle":
        return "" if layout.bits_allocated in (8, 16) else f"rle does not hold {layout.bits_allocated}-bit words"
    if layout.bits_allocated not in (8, 16):
        return f"{target.key} is not written for {layout.bits_allocated}-bit words"
    if layout.bits_stored < 2:
        return f"{target.key} needs 2 bits or more"
    if layout.high_bit != layout.bits_stored - 1:
        return f"the samples do not begin at bit 0 (high bit {layout.high_bit}), {target.key} would move them"
    if target.key == "jpegxl" and layout.signed:
        return "jpegxl knows no signed samples"
    if layout.photometric == "YBR_FULL" and layout.bits_allocated != 8:
        return "YBR_FULL is defined for 8 bits here"
    return ""
