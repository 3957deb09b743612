"""Put images into the volumes that people compute on: one slice for each place, in order along the normal.

`gpushrink.dicom.series` groups for coding, where a wrong order costs ratio and nothing else. Here each volume must be
one that a reader would call so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from gpushrink.dicom.geometry import Plane, alike, normal_of
from gpushrink.dicom.header import ImageHeader

__all__ = ["Stack", "arrange_stacks"]

# Slices nearer than this along the normal, in mm, are one place: several echoes, or times, of it.
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True)
class Stack:
    """Hold the files of one volume in order.

    Parameters
    ----------
    files
        Ids, in the order of the slices; one alone if it is a multi-frame object.
    headers
        Their headers, in the same order.
    """

    files: tuple[int, ...]
    headers: tuple[ImageHeader, ...]


def arrange_stacks(headers: Mapping[int, ImageHeader], digests: Mapping[int, bytes]) -> list[Stack]:
    """Group images to volumes.

    Images of one series, image type, pixel format and orientation are one volume if no two lie at the same place.
    Otherwise echo, time and acquisition tell volumes apart, or, where they do not, the order of InstanceNumber: the
    first of each place, the second of each, and so on. Multi-frame objects are volumes of their own, their frames in
    stored order. A file that is the copy of another counts once, under its first name.

    Parameters
    ----------
    headers
        By file id; ids are in the order of the names.
    digests
        SHA-256 of files, by id.

    Returns
    -------
    list of Stack
        In order of the smallest file id of each kind; echoes and times of one kind follow one another.
    """
    seen: set[tuple[str, bytes]] = set()
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    stacks: list[tuple[int, int, Stack]] = []
    directions: list[Plane] = []
    for i, header in sorted(headers.items()):
        if i in digests:
            mark = (header.instance, digests[i])
            if mark in seen:
                continue
            seen.add(mark)
        if header.pixels.frames > 1 or not header.series:
            stacks.append((i, 0, Stack((i,), (header,))))
            continue
        pixels = header.pixels
        kind = (pixels.rows, pixels.columns, pixels.components, pixels.dtype, pixels.photometric)
        direction = _number_direction(header.planes[0], directions)
        groups[(header.series, header.image_type, kind, direction)].append(i)
    for ids in groups.values():
        for rank, part in enumerate(_split([(i, headers[i]) for i in ids])):
            stack = Stack(tuple(i for i, _ in part), tuple(header for _, header in part))
            stacks.append((ids[0], rank, stack))
    return [stack for _, _, stack in sorted(stacks, key=lambda one: one[:2])]


_Member = tuple[int, ImageHeader]


def _split(members: list[_Member]) -> list[list[_Member]]:
    """Split images of one kind so that no two of a part lie at the same place."""
    in_order = sorted(members, key=lambda one: (one[1].number, one[0]))
    if any(header.planes[0] is None for _, header in members):
        return [in_order]
    places = _number_places(members)
    in_order.sort(key=lambda one: places[one[0]])  # stable: InstanceNumber, then name, within a place
    if max(places.values()) + 1 == len(members):
        return [in_order]
    keys = range(len(in_order[0][1].times))
    for chosen in chain.from_iterable(combinations(keys, count) for count in range(1, len(keys) + 1)):
        parts: dict[tuple[int, ...], list[_Member]] = defaultdict(list)
        for one in in_order:
            parts[tuple(one[1].times[key] for key in chosen)].append(one)
        held = [[places[i] for i, _ in part] for part in parts.values()]
        if len(set(held[0])) == len(held[0]) and all(one == held[0] for one in held[1:]):
            return [part for _, part in sorted(parts.items())]
    ranks: list[list[_Member]] = []
    counts: dict[int, int] = defaultdict(int)
    for one in in_order:
        rank = counts[places[one[0]]]
        counts[places[one[0]]] += 1
        if rank == len(ranks):
            ranks.append([])
        ranks[rank].append(one)
    return ranks


def _number_places(members: Sequence[_Member]) -> dict[int, int]:
    """Number places along the common normal from 0; near ones share a number."""
    first = members[0][1].planes[0]
    assert first is not None
    normal = normal_of(first)
    at: dict[int, float] = {}
    for i, header in members:
        plane = header.planes[0]
        assert plane is not None
        at[i] = sum(a * b for a, b in zip(plane.position, normal, strict=True))
    numbers: dict[int, int] = {}
    number, last = -1, float("-inf")
    for i in sorted(at, key=lambda i: at[i]):
        if at[i] - last > _SAME_PLACE_MM:
            number, last = number + 1, at[i]
        numbers[i] = number
    return numbers


def _number_direction(plane: Plane | None, known: list[Plane]) -> int:
    """Number orientations with their spacings; nearly equal ones share a number."""
    if plane is None:
        return -1
    for number, other in enumerate(known):
        if alike(plane, other):
            return number
    known.append(plane)
    return len(known) - 1
