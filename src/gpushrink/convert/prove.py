"""The proof: every frame decoded again and equal, every other element unchanged, the offsets right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from gpushrink.convert.frames import Frame
from gpushrink.convert.report import KeepSourceError

__all__ = ["MAY_CHANGE", "UnreadableError", "compare_by_one_of", "compare_data_sets", "compare_frames"]

_EMPTY = (None, b"", "")
"""A value of no bytes, as the reader gives it for one VR or another."""
MAY_CHANGE = frozenset({0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00010, 0xFFFCFFFC})
"""PhotometricInterpretation, PlanarConfiguration, the offset tables, PixelData, trailing padding."""


class UnreadableError(KeepSourceError):
    """Say that one reader cannot decode a frame, which is not the same as decoding it to other samples."""

    def __init__(self, reader: str, reason: str) -> None:
        super().__init__(reason)
        self.reader = reader


def compare_frames(reference: Iterator[Frame], *others: tuple[str, Callable[[], Iterator[Frame]]], frames: int) -> None:
    """Compare frame by frame, holding one frame of each reader at a time.

    Raises
    ------
    KeepSourceError
        A frame differs, is missing, or there is one too many.
    UnreadableError
        A reader fails to decode a frame.
    """
    streams = [(name, _named(name, start())) for name, start in others]
    count = 0
    for count, row in enumerate(zip_longest(_named("the source", reference), *(s for _, s in streams)), start=1):
        expected = row[0]
        for (name, _), found in zip(streams, row[1:], strict=True):
            if expected is None or found is None or not np.array_equal(expected, found):
                raise KeepSourceError(f"frame {count} does not come back equal through {name}")
    if count != frames:
        raise KeepSourceError(f"{count} frames came back instead of {frames}")


def _named(name: str, frames: Iterator[Frame]) -> Iterator[Frame]:
    done = 0
    try:
        for frame in frames:
            yield frame
            done += 1
    except Exception as error:  # a decoder may raise anything; no proof is the meaning of all of it
        reason = error.reason if isinstance(error, KeepSourceError) else f"{type(error).__name__}: {error}"
        raise UnreadableError(name, f"frame {done + 1} cannot be decoded through {name}: {reason}") from error


def compare_by_one_of(
    reference: Callable[[], Iterator[Frame]],
    provers: Sequence[tuple[str, Callable[[], Iterator[Frame]]]],
    *others: tuple[str, Callable[[], Iterator[Frame]]],
    frames: int,
) -> str:
    """Compare the reference with the first prover that can decode the frames, and with all `others`.

    A prover that decodes to other samples ends it: only one that decodes nothing gives way to the next.

    Returns
    -------
    str
        The name of the prover.

    Raises
    ------
    KeepSourceError
        The frames differ, or no prover can decode them.
    """
    for index, (name, start) in enumerate(provers):
        try:
            compare_frames(reference(), (name, start), *others, frames=frames)
        except UnreadableError as error:
            if error.reader != name or index == len(provers) - 1:
                raise
        else:
            return name
    raise KeepSourceError("there is no decoder to prove it by")


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
        if raw[0] in _EMPTY and raw[1] in _EMPTY:
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
