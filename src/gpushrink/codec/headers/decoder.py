"""Decode headers. Source: docs/format-headers.md.

Everything here comes from outside: sizes are checked before bytes are made, and what is made is bounded by the decoded
size and the limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.headers.limits import (
    MAX_EDITS,
    MAX_HEADERS,
    MAX_KEYS,
    MAX_LAYOUT_TOKENS,
    MAX_SHAPES,
    MAX_STEPS,
    MAX_TOKENS,
    WIDTHS,
)
from gpushrink.codec.headers.numbers import unfold, unpack_numbers
from gpushrink.codec.headers.sections import WHAT, parse_sections
from gpushrink.codec.varint import Cursor
from gpushrink.errors import CorruptError

__all__ = ["decode_headers"]

_Edit = bytes | list[tuple[int, int, bytes]]
"""A new value, or steps: bytes to copy, bytes to pass over, bytes to put."""


@dataclass(slots=True)
class _Shape:
    parent: int
    kinds: list[int]
    origins: list[int]  # place in the parent, or -1
    flags: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    edits: dict[int, list[_Edit]] = field(default_factory=dict)
    tokens: list[bytes] = field(default_factory=list)
    size: int = 0
    seen: int = 0


def decode_headers(payload: bytes | memoryview, decoded: int) -> memoryview:
    """Return the headers one after another.

    Parameters
    ----------
    decoded
        Their size in bytes.

    Raises
    ------
    CorruptError
        If the payload does not decode to that size.
    """
    parts, literals = parse_sections(payload, decoded)
    keys = _parse_keys(parts["keys"])
    shapes = _parse_layouts(parts["layouts"], len(keys))
    order = unpack_numbers(parts["order"], MAX_HEADERS)
    _spread_flags(shapes, order, parts["flags"])
    _spread_edits(shapes, parts, literals)
    return _put_together(shapes, order, keys, decoded)


def _parse_keys(data: bytes) -> list[tuple[bytes, int]]:
    cursor = Cursor(data, WHAT)
    keys: list[tuple[bytes, int]] = []
    while cursor.left:
        size, width = cursor.varint(), cursor.byte()
        if width not in WIDTHS or len(keys) == MAX_KEYS:
            raise cursor.fail("a key has a width that is none, or there are too many keys")
        keys.append((bytes(cursor.take(size)), width))
    return keys


def _parse_layouts(data: bytes, keys: int) -> list[_Shape]:
    numbers = unpack_numbers(data, 3 * MAX_LAYOUT_TOKENS)
    shapes: list[_Shape] = []
    at = tokens = fresh = 0
    while at < len(numbers):
        if at + 2 > len(numbers) or len(shapes) == MAX_SHAPES:
            raise CorruptError(f"{WHAT}: a layout is cut off, or there are too many")
        parent, count = numbers[at], numbers[at + 1]
        at += 2
        tokens += count
        if parent > len(shapes) or not 1 <= count <= len(numbers) - at or tokens > MAX_LAYOUT_TOKENS:
            raise CorruptError(f"{WHAT}: a layout is out of range")
        inherited = shapes[parent - 1].kinds if parent else []
        kinds, origins, expected = [], [], 0
        for number in numbers[at : at + count]:
            if number & 1:
                back = number >> 1
                kind = fresh - back
                fresh += not back
                if not 0 <= kind < keys:
                    raise CorruptError(f"{WHAT}: a token has no key")
                origins.append(-1)
            else:
                place = expected + unfold(number >> 1)
                if not 0 <= place < len(inherited):
                    raise CorruptError(f"{WHAT}: a token is none of the parent's")
                kind, expected = inherited[place], place + 1
                origins.append(place)
            kinds.append(kind)
        shapes.append(_Shape(parent - 1, kinds, origins))
        at += count
    if fresh != keys:
        raise CorruptError(f"{WHAT}: a key has no token")
    return shapes


def _spread_flags(shapes: list[_Shape], order: list[int], data: bytes) -> None:
    if order and max(order) >= len(shapes):
        raise CorruptError(f"{WHAT}: a header has no layout")
    counts = np.bincount(np.array(order, np.int64), minlength=len(shapes)).tolist()
    if sum(count * len(shape.kinds) for count, shape in zip(counts, shapes, strict=True)) > MAX_TOKENS:
        raise CorruptError(f"{WHAT}: there are too many tokens")
    if not all(counts):
        raise CorruptError(f"{WHAT}: a layout has no header")
    raw, at = np.frombuffer(data, np.uint8), 0
    for shape, count in zip(shapes, counts, strict=True):
        tokens, row = len(shape.kinds), -(-count // 8)
        part = raw[at : at + tokens * row]
        at += tokens * row
        if part.size < tokens * row:
            raise CorruptError(f"{WHAT}: flags are missing")
        bits = np.unpackbits(part.reshape(tokens, row), axis=1)
        if bits[:, count:].any():
            raise CorruptError(f"{WHAT}: flags are set where none belong")
        shape.flags = np.ascontiguousarray(bits[:, :count].T).view(np.bool_)
    if at != raw.size:
        raise CorruptError(f"{WHAT}: flags are left over")


def _spread_edits(shapes: list[_Shape], parts: dict[str, bytes], literals: bytes) -> None:
    """Hand each token its edits, in order of its headers."""
    kinds, owners, tokens, counts = [], [], [], []
    for s, shape in enumerate(shapes):
        per_token = shape.flags.sum(axis=0)
        places = np.flatnonzero(per_token)
        kinds.append(np.array(shape.kinds, np.int64)[places])
        owners.append(np.full(places.size, s))
        tokens.append(places)
        counts.append(per_token[places])
    edits = _Edits(parts, literals, sum(int(some.sum()) for some in counts))
    if shapes:
        by_key = np.argsort(np.concatenate(kinds), kind="stable")
        slots = (np.concatenate(some)[by_key].tolist() for some in (owners, tokens, counts))
        for s, t, count in zip(*slots, strict=True):
            # Backwards, so that the next is always the last.
            shapes[s].edits[t] = [edits.take() for _ in range(count)][::-1]
    edits.end()


class _Edits:
    """Give the edits one after another."""

    def __init__(self, parts: dict[str, bytes], literals: bytes, count: int) -> None:
        self._forms = unpack_numbers(parts["forms"], MAX_EDITS)
        self._lengths = unpack_numbers(parts["lengths"], MAX_EDITS)
        self._copied = unpack_numbers(parts["copied"], MAX_STEPS)
        self._dropped = unpack_numbers(parts["dropped"], MAX_STEPS)
        self._put = unpack_numbers(parts["put"], MAX_STEPS)
        self._literals = literals
        self._edit = self._value = self._step = self._at = 0
        steps = len(self._copied)
        if len(self._forms) != count or len(self._lengths) != self._forms.count(0):
            raise CorruptError(f"{WHAT}: there are more or fewer edits than flags")
        if len(self._dropped) != steps or len(self._put) != steps or sum(self._forms) != steps:
            raise CorruptError(f"{WHAT}: its lists of steps differ in length")
        if sum(self._lengths) + sum(self._put) != len(literals):
            raise CorruptError(f"{WHAT}: its edits do not use up its literals")

    def take(self) -> _Edit:
        form = self._forms[self._edit]
        self._edit += 1
        if not form:
            length = self._lengths[self._value]
            self._value += 1
            return self._cut(length)
        out = []
        for k in range(self._step, self._step + form):
            put = self._put[k]
            out.append((self._copied[k], put + unfold(self._dropped[k]), self._cut(put)))
        self._step += form
        return out

    def end(self) -> None:
        """Let go of the lists; their sums were checked at the start."""
        self._forms = self._lengths = self._copied = self._dropped = self._put = []

    def _cut(self, length: int) -> bytes:
        self._at += length
        return self._literals[self._at - length : self._at]


def _put_together(shapes: list[_Shape], order: list[int], keys: list[tuple[bytes, int]], decoded: int) -> memoryview:
    out = memoryview(bytearray(decoded))
    left = decoded
    for number in order:
        shape = shapes[number]
        if not shape.seen:
            parent = shapes[shape.parent] if shape.parent >= 0 else None
            if parent is not None and not parent.seen:
                raise CorruptError(f"{WHAT}: a parent comes after its child")
            _begin(shape, parent, keys, left)
        else:
            room = left
            for t in np.flatnonzero(shape.flags[shape.seen]).tolist():
                token = shape.tokens[t]
                shape.size -= len(token)
                edit = shape.edits[t].pop()
                shape.tokens[t] = token = _apply(edit, token, keys[shape.kinds[t]], room)
                shape.size += len(token)
                room -= len(token)
        shape.seen += 1
        if shape.size > left:
            raise CorruptError(f"{WHAT}: its headers are longer than the block")
        at = decoded - left
        left -= shape.size
        out[at : at + shape.size] = b"".join(shape.tokens)
    if left:
        raise CorruptError(f"{WHAT}: its headers are shorter than the block")
    return out


def _begin(shape: _Shape, parent: _Shape | None, keys: list[tuple[bytes, int]], left: int) -> None:
    """Make the tokens of a shape's first header."""
    edited = shape.flags[0].tolist()
    latest: dict[int, bytes] = {}
    size = 0
    for t, (kind, origin) in enumerate(zip(shape.kinds, shape.origins, strict=True)):
        if parent is not None and origin >= 0:
            token = parent.tokens[origin]
        else:
            known = latest.get(kind)
            token = _make(b"", keys[kind]) if known is None else known
        if edited[t]:
            token = _apply(shape.edits[t].pop(), token, keys[kind], left - size)
        latest[kind] = token
        shape.tokens.append(token)
        size += len(token)
        if size > left:
            raise CorruptError(f"{WHAT}: its headers are longer than the block")
    shape.size = size


def _apply(edit: _Edit, token: bytes, key: tuple[bytes, int], most: int) -> bytes:
    """Return the token after an edit; it may be no longer than `most`."""
    if isinstance(edit, bytes):
        if len(key[0]) + key[1] + len(edit) > most:
            raise CorruptError(f"{WHAT}: its headers are longer than the block")
        return _make(edit, key)
    at = len(key[0]) + key[1]
    size = len(token)
    parts: list[bytes] = []
    for copied, dropped, put in edit:
        if dropped < 0 or at + copied + dropped > len(token):
            raise CorruptError(f"{WHAT}: an edit reaches past its reference")
        parts += (token[at : at + copied], put)
        at += copied + dropped
        size += len(put) - dropped
    if size > most:
        raise CorruptError(f"{WHAT}: its headers are longer than the block")
    parts.append(token[at:])
    return _make(b"".join(parts), key)


def _make(value: bytes, key: tuple[bytes, int]) -> bytes:
    prefix, width = key
    if not width:
        return prefix + value
    if len(value) >> 8 * width:
        raise CorruptError(f"{WHAT}: a value is longer than its width can say")
    return prefix + len(value).to_bytes(width, "little") + value
