"""Code headers by what each changes of the one before. Source: docs/format-headers.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

import numpy as np

from gpushrink.codec.headers.edits import find_steps
from gpushrink.codec.headers.limits import (
    MAX_EDITS,
    MAX_HEADERS,
    MAX_KEYS,
    MAX_LAYOUT_TOKENS,
    MAX_SHAPES,
    MAX_STEPS,
    MAX_TOKENS,
)
from gpushrink.codec.headers.numbers import fold, pack_numbers
from gpushrink.codec.headers.sections import pack_sections
from gpushrink.codec.headers.tokens import Key, Keys, cut_header
from gpushrink.codec.varint import pack_varint

__all__ = ["encode_headers"]

_STRETCH = 8  # tokens compared at once
_RECENT = 8  # shapes that a header is compared with


class _Shape:
    """Hold headers of one sequence of kinds: the last one's values, and what each changed."""

    def __init__(self, kinds: list[int], keys: Sequence[Key]) -> None:
        self.kinds = kinds
        self.keys = [keys[kind] for kind in kinds]
        self.values: list[bytes] = []
        self.rows: list[list[int]] = []
        self.edits: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        self._stretches: list[bytes] = []

    def take(self, header: bytes, values: list[bytes], references: list[bytes]) -> None:
        """Take in a header of this shape, and its values."""
        changed = [t for t, (new, old) in enumerate(zip(values, references, strict=True)) if new != old]
        for t in changed:
            self.edits[t].append((references[t], values[t]))
        self.rows.append(changed)
        self.values = values
        sizes = [len(key.prefix) + key.width + len(value) for key, value in zip(self.keys, values, strict=True)]
        cuts = [0, *list(accumulate(sizes))[_STRETCH - 1 :: _STRETCH]]
        if len(sizes) % _STRETCH:
            cuts.append(len(header))
        self._stretches = [header[start:end] for start, end in pairwise(cuts)]

    def pack_flags(self) -> bytes:
        """Return a bit for each token and header: whether its value has an edit."""
        matrix = np.zeros((len(self.kinds), len(self.rows)), np.uint8)
        rows = np.repeat(np.arange(len(self.rows)), list(map(len, self.rows)))
        matrix[np.fromiter(chain.from_iterable(self.rows), np.int64, rows.size), rows] = 1
        return np.packbits(matrix, axis=1).tobytes()

    def follow(self, header: bytes) -> bool:
        """Take in a header if it has this shape: most of it is as it was, and comparing is cheaper than cutting."""
        at, changes, renewed = 0, [], []
        keys, values = self.keys, self.values
        for k, stretch in enumerate(self._stretches):
            if header.startswith(stretch, at):
                at += len(stretch)
                continue
            start = at
            for t in range(k * _STRETCH, min((k + 1) * _STRETCH, len(keys))):
                key = keys[t]
                if not header.startswith(key.prefix, at):
                    return False
                at += len(key.prefix)
                if key.width:
                    end = at + key.width
                    at = end + int.from_bytes(header[at:end], "little")
                    value = header[end:at]
                elif key.size < 0:
                    value, at = header[at:], len(header)
                else:
                    value = header[at : at + key.size]
                    at += key.size
                if value != values[t]:
                    changes.append((t, value))
            if at > len(header):
                return False
            renewed.append((k, header[start:at]))
        if at != len(header):
            return False
        for t, value in changes:
            self.edits[t].append((values[t], value))
            values[t] = value
        for k, stretch in renewed:
            self._stretches[k] = stretch
        self.rows.append([t for t, _ in changes])
        return True


class _Encoder:
    def __init__(self) -> None:
        self._keys = Keys()
        self._shapes: list[_Shape] = []
        self._by_kinds: dict[tuple[int, ...], int] = {}
        self._order: list[int] = []
        self._recent: list[int] = []
        self._tokens = 0
        self._layouts: list[int] = []
        self._fresh = 0  # kinds that no shape has named yet begin here

    def add(self, header: bytes) -> bool:
        """Take in a header; False where there are too many tokens."""
        number = self._find(header)
        if number < 0:
            kinds, values = cut_header(header, self._keys)
            number = self._by_kinds.setdefault(tuple(kinds), len(self._shapes))
            if number == len(self._shapes):
                shape = _Shape(kinds, self._keys.all)
                references = self._lay_out(shape, self._choose_parent(kinds), values)
                self._shapes.append(shape)
            else:
                shape = self._shapes[number]
                references = shape.values
            shape.take(header, values, references)
            self._recent = [number, *(other for other in self._recent if other != number)][:_RECENT]
        self._order.append(number)
        self._tokens += len(self._shapes[number].kinds)
        return (
            self._tokens <= MAX_TOKENS
            and len(self._keys.all) <= MAX_KEYS
            and len(self._shapes) <= MAX_SHAPES
            and len(self._layouts) <= MAX_LAYOUT_TOKENS
        )

    def _find(self, header: bytes) -> int:
        """Return the shape, among those used last, that takes the header in; -1 if none does."""
        for k, number in enumerate(self._recent):
            if self._shapes[number].follow(header):
                self._recent.insert(0, self._recent.pop(k))
                return number
        return -1

    def _choose_parent(self, kinds: list[int]) -> int:
        """Return the shape, among those used last, that has most kinds of tokens in common; -1 without one."""
        ours = set(kinds)
        return max(self._recent, key=lambda number: len(ours.intersection(self._shapes[number].kinds)), default=-1)

    def _lay_out(self, shape: _Shape, number: int, values: list[bytes]) -> list[bytes]:
        """Describe a new shape by its parent; return what its first header is compared with."""
        parent = self._shapes[number] if number >= 0 else None
        places: dict[int, list[int]] = defaultdict(list)
        for t, kind in enumerate(parent.kinds if parent else ()):
            places[kind].append(t)
        nth: dict[int, int] = {}
        latest: dict[int, bytes] = {}
        references, expected = [], 0
        layouts, inherited = self._layouts, parent.values if parent else []
        layouts += (number + 1, len(shape.kinds))
        for kind, value in zip(shape.kinds, values, strict=True):
            n = nth.get(kind, 0)
            nth[kind] = n + 1
            spots = places.get(kind)
            if spots is not None and n < len(spots):
                t = spots[n]
                layouts.append(fold(t - expected) << 1 if t != expected else 0)
                expected = t + 1
                references.append(inherited[t])
            else:
                # Kinds are numbered as they come, so a fresh one is always the next.
                layouts.append((self._fresh - kind) << 1 | 1)
                self._fresh = max(self._fresh, kind + 1)
                references.append(latest.get(kind, b""))
            latest[kind] = value
        return references

    def finish(self, limit: int, effort: int) -> bytes | None:
        """Return the payload; None where there is more than one may hold."""
        slots = sorted((shape.kinds[t], s, t) for s, shape in enumerate(self._shapes) for t in shape.edits)
        forms: list[int] = []
        lengths: list[int] = []
        copied: list[int] = []
        dropped: list[int] = []
        put: list[int] = []
        literals: list[bytes] = []
        for _, s, t in slots:
            for old, new in self._shapes[s].edits[t]:
                steps = find_steps(old, new)
                forms.append(len(steps))
                if not steps:
                    lengths.append(len(new))
                    literals.append(new)
                for step in steps:
                    copied.append(step.copied)
                    dropped.append(fold(step.dropped - len(step.put)))
                    put.append(len(step.put))
                    literals.append(step.put)
        if len(forms) > MAX_EDITS or len(copied) > MAX_STEPS:
            return None
        parts = {
            "keys": b"".join(pack_varint(len(key.prefix)) + bytes([key.width]) + key.prefix for key in self._keys.all),
            "layouts": pack_numbers(self._layouts),
            "order": pack_numbers(self._order),
            "flags": b"".join(shape.pack_flags() for shape in self._shapes),
            "forms": pack_numbers(forms),
            "lengths": pack_numbers(lengths),
            "copied": pack_numbers(copied),
            "dropped": pack_numbers(dropped),
            "put": pack_numbers(put),
        }
        return pack_sections(parts, b"".join(literals), limit=limit, effort=effort)


def encode_headers(headers: Sequence[bytes], *, effort: int) -> bytes | None:
    """Code headers that have most in common, in the order that they are likeliest to follow each other.

    Parameters
    ----------
    headers
        Any bytes.
    effort
        0: fast; 1: LZMA where it costs little; 2: LZMA throughout.

    Returns
    -------
    bytes or None
        None where that is no way: there are more tokens than a payload may hold, or a plan larger than the headers.
    """
    if len(headers) > MAX_HEADERS or not all(headers):
        return None
    encoder = _Encoder()
    for header in headers:
        if not encoder.add(header):
            return None
    return encoder.finish(sum(map(len, headers)), effort)
