"""Big-endian words to little endian, in the values that the DICOM writer passes through untouched."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpushrink.convert.report import KeepSourceError

__all__ = ["to_little_endian"]

_WORDS = {"OW": 2, "OL": 4, "OF": 4, "OV": 8, "OD": 8}


def to_little_endian(ds: Any, uid: str) -> None:
    """Swap every word-typed value of a big-endian data set in place; do nothing for other syntaxes.

    Raises
    ------
    KeepSourceError
        The pixels are wider than a word: whether such OW data were swapped by word or by sample
        differs between writers, and nothing in the file tells. Source: PS3.5 A.3.
    """
    if uid != "1.2.840.10008.1.2.2":
        return
    if int(ds.get("BitsAllocated", 0) or 0) > 16:
        raise KeepSourceError("big-endian pixels of more than 16 bits are ambiguous")
    _swap(ds)


def _swap(ds: Any) -> None:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _swap(item)
        elif element.VR in _WORDS and isinstance(element.value, bytes):
            size = _WORDS[element.VR]
            if len(element.value) % size:
                raise KeepSourceError(f"{element.tag} does not hold whole words")
            element.value = np.frombuffer(element.value, f">u{size}").astype(f"<u{size}").tobytes()
