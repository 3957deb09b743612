"""The proof: every frame decoded again and equal, every other element unchanged, the offsets right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from gpushrink.convert.frames import Frame
from gpushrink.convert.report import KeepSourceError

__all__ = ["MAY_CHANGE", "compare_data_sets", "compare_frames"]

MAY_CHANGE = frozenset({0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00010, 0xFFFCFFFC})
"""PhotometricInterpretation, PlanarConfiguration, the offset tables, PixelData, trailing padding."""


def compare_frames(reference: Iterator[Frame], *others: tuple[str, Callable[[], Iterator[Frame]]], frames: int) -> None:
    """Compare frame by frame, holding one frame of each reader at a time.

    Raises
    ------
    KeepSourceError
        A frame differs, fails to decode, is missing, or there is one too many.
    """
    streams = [(name, start()) for name, start in others]
    count = 0
    try:
        for count, row in enumerate(zip_longest(reference, *(s for _, s in streams)), start=1):
            expected = row[0]
            for (name, _), found in zip(streams, row[1:], strict=True):
                if expected is None or found is None or not np.array_equal(expected, found):
                    raise KeepSourceError(f"frame {count} does not come back equal through {name}")
    except KeepSourceError:
        raise
    except Exception as error:  # a decoder may raise anything; no proof is the meaning of all of it
        raise KeepSourceError(f"frame {count + 1} cannot be decoded: {type(error).__name__}: {error}") from error
    if count != frames:
        raise KeepSourceError(f"{count} frames came back instead of {frames}")


def compare_data_sets(before: Any, after: Any, *, ignore: frozenset[int] = MAY_CHANGE) -> None:
    """Compare two data sets element by element, leaving out `ignore` and retired group lengths.

    Both are read without decoding their values; equal bytes need no interpretation, and only what
    differs in its bytes (another byte order, another VR) is compared by value.

    Raises
    ------
    KeepSourceError
        An element was lost, added or changed.
    """
    left, right = _tags(before, ignore), _tags(after, ignore)
    if left != right:
        raise KeepSourceError(f"elements were lost or added: {', '.join(f'{t:08X}' for t in sorted(left ^ right))}")
    for tag in left:
        one, two = before.get_item(tag), after.get_item(tag)
        raw = (getattr(one, "value", None), getattr(two, "value", None))
        if all(isinstance(v, bytes) for v in raw) and _pad(raw[0]) == _pad(raw[1]):
            continue
        a, b = before[tag], after[tag]
        if a.VR == "SQ" and b.VR == "SQ":
            if len(a.value) != len(b.value):
                raise KeepSourceError(f"sequence {tag:08X} has another number of items")
            for item_a, item_b in zip(a.value, b.value, strict=True):
                compare_data_sets(item_a, item_b, ignore=frozenset({0xFFFCFFFC}))
        elif _pad(a.value) != _pad(b.value):
            raise KeepSourceError(f"element {tag:08X} would change")


def _tags(ds: Any, ignore: frozenset[int]) -> set[int]:
    tags = ds.keys()  # iterating the data set itself would decode its values
    return {int(tag) for tag in tags if int(tag) not in ignore and int(tag) & 0xFFFF}


def _pad(value: Any) -> Any:
    return value.rstrip(b"\0 ") if isinstance(value, bytes) else value
