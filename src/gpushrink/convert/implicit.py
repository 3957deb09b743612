"""What an implicit VR data set cannot say: whether a number is signed, where no pixel representation tells."""

from __future__ import annotations

from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from gpushrink.convert.report import KeepSourceError

__all__ = ["check_implied_vrs"]


def check_implied_vrs(ds: Any) -> None:
    """Check that a reader without stated VRs can tell US from SS in every element.

    Pixel Representation decides it for the data set and the items in it. Source: PS3.5 A.1, PS3.3 C.7.6.3.

    Raises
    ------
    KeepSourceError
        An element may be either, and nothing tells which.
    """
    if "PixelRepresentation" in ds:
        return
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                check_implied_vrs(item)
        elif dictionary_has_tag(element.tag) and "US or SS" in dictionary_VR(element.tag):
            raise KeepSourceError(f"in implicit VR nothing would tell whether {element.keyword} is signed")
