"""Where repeats lie, and how bytes are put together again: loops that numba compiles as they stand.

Plain functions over indexable integers, as in codec/entropy/binary.py: the reference calls them with bytes and lists,
the numba engine compiles the same text for arrays. `byte_at` and `word_at` alone exist twice, since numba would take
a shifted uint8 for an unsigned 64-bit number.

Source: docs/format-matched.md.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "LONGEST_LIST",
    "SHORTEST",
    "byte_at",
    "compact",
    "context_at",
    "count_contexts",
    "find_matches",
    "gather_literals",
    "match_length",
    "put_bits",
    "rebuild",
    "take_bits",
    "word_at",
]

SHORTEST = 4
"""The shortest match that can be stored."""

LONGEST_LIST = 1 << 21
"""The most matches of one block."""

# Places that look alike are found by a hash of six bytes; a repeat of the last distance is tried from four on.
HASHED = 6
_FIRST_FACTOR = 0x1E35A7BD
_SECOND_FACTOR = 0x2545F491
_HASH_SHIFT = 29
_TAG_SHIFT = 21
# Each 2^11 bytes without a match, one more place is passed over: compressed data has few.
_PATIENCE_LOG2 = 11
# What a match costs, measured on real data, in units of 2^-16 bit: its length and the run before it, and with a new
# distance that too, of which log2 is added.
_PASSED_OVER = 16
_RECENT_PRICE = 12 << 16
_NEW_PRICE = 16 << 16


def byte_at(data: Any, at: int) -> int:
    """Return a byte."""
    return int(data[at])


def word_at(data: Any, at: int) -> int:
    """Return four bytes as a number."""
    return int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16 | int(data[at + 3]) << 24


def context_at(data: Any, at: int, near: int, near_bits: int, far: int, far_bits: int) -> int:
    """Return the context of the byte at `at`: the top bits of the bytes `near` and `far` before it."""
    first = byte_at(data, at - near) if at >= near else 0
    second = byte_at(data, at - far) if at >= far else 0
    return ((first >> (8 - near_bits)) << far_bits) | (second >> (8 - far_bits))


def match_length(data: Any, seen: int, at: int, size: int) -> int:
    """Count the bytes from `at` on that are those from `seen` on."""
    length = 0
    while at + length < size and data[seen + length] == data[at + length]:
        length += 1
    return length


def find_matches(
    data: Any, size: int, prices: Any, heads: Any, heads_log2: int, runs: Any, lengths: Any, codes: Any
) -> int:
    """Fill in runs of literals, lengths and distance codes of matches, from front to back; return how many.

    Parameters
    ----------
    prices
        What each byte costs after each other one, in 2^-16 bit: ``prices[256 * before + byte]``.
    heads
        2^heads_log2 places, -1 at first: where a hash was seen last, times 256, plus eight more bits of the hash, which
        save looking at most places in vain.
    """
    recent0, recent1, recent2 = 1, 2, 3
    found = 0
    at = 0
    last = 0
    mask = (1 << heads_log2) - 1
    while at + 8 <= size and found < len(runs):
        key = word_at(data, at) * _FIRST_FACTOR
        key += (byte_at(data, at + 4) | (byte_at(data, at + 5) << 8)) * _SECOND_FACTOR
        slot = (key >> _HASH_SHIFT) & mask
        tag = (key >> _TAG_SHIFT) & 255
        head = heads[slot]
        heads[slot] = (at << 8) | tag
        length = 0
        back = 0
        if head >= 0 and (head & 255) == tag:
            seen = head >> 8
            length = match_length(data, seen, at, size)
            back = at - seen
            if length < HASHED:
                length = 0
        if length == 0 and at >= recent0:
            length = match_length(data, at - recent0, at, size)
            back = recent0
            if length < SHORTEST:
                length = 0
        if length > 0:
            begin = at
            while begin > last and begin - back > 0 and data[begin - back - 1] == data[begin - 1]:
                begin -= 1
            worth = _RECENT_PRICE
            if back != recent0 and back != recent1 and back != recent2:
                worth = _NEW_PRICE
                rest = back
                while rest > 1:
                    rest >>= 1
                    worth += 1 << 16
            end = at + length
            price = 0
            before = byte_at(data, begin - 1) if begin > 0 else 0
            place = begin
            while place < end and price <= worth:
                byte = byte_at(data, place)
                price += prices[256 * before + byte]
                before = byte
                place += 1
            if price <= worth:
                # Cheaper as literals, and so is every part of it: a long one is passed over as a whole.
                if length >= _PASSED_OVER:
                    at = end
                else:
                    length = 0
            else:
                runs[found] = begin - last
                lengths[found] = end - begin
                if back == recent0:
                    codes[found] = 0
                elif back == recent1:
                    codes[found] = 1
                    recent1 = recent0
                    recent0 = back
                else:
                    codes[found] = 2 if back == recent2 else back + 2
                    recent2 = recent1
                    recent1 = recent0
                    recent0 = back
                found += 1
                # Where it ends is a place that later repeats go on from.
                place = end - HASHED
                if place > at:
                    key = word_at(data, place) * _FIRST_FACTOR
                    key += (byte_at(data, place + 4) | (byte_at(data, place + 5) << 8)) * _SECOND_FACTOR
                    heads[(key >> _HASH_SHIFT) & mask] = (place << 8) | ((key >> _TAG_SHIFT) & 255)
                last = end
                at = end
        if length == 0:
            at += 1 + ((at - last) >> _PATIENCE_LOG2)
    return found


def count_contexts(
    data: Any, size: int, runs: Any, lengths: Any, matches: int, every: int,
    near: int, near_bits: int, far: int, far_bits: int, counts: Any,
) -> None:  # fmt: skip
    """Count the literals in each context: ``counts[256 * context + byte]``; of `every` stretches of 4096 bytes, one."""
    at = 0
    for k in range(matches + 1):
        end = at + runs[k] if k < matches else size
        while at < end:
            if (at >> 12) % every != 0:
                at = min(end, ((at >> 12) + 1) << 12)
            else:
                context = context_at(data, at, near, near_bits, far, far_bits)
                counts[256 * context + byte_at(data, at)] += 1
                at += 1
        if k < matches:
            at += lengths[k]


def compact(counts: Any, contexts: int, starts: Any, symbols: Any, values: Any, totals: Any) -> int:
    """List the counts that are not 0, context after context; return how many."""
    filled = 0
    for context in range(contexts):
        starts[context] = filled
        total = 0
        for symbol in range(256):
            count = counts[256 * context + symbol]
            if count > 0:
                symbols[filled] = symbol
                values[filled] = count
                filled += 1
                total += count
        totals[context] = total
    starts[contexts] = filled
    return filled


def put_bits(values: Any, widths: Any, out: Any) -> None:
    """Write the `widths` low bits of each value, lowest first, into bytes that are 0."""
    at = 0
    for k in range(len(values)):
        rest = values[k] & ((1 << widths[k]) - 1)
        left = widths[k]
        while left > 0:
            room = 8 - (at & 7)
            out[at >> 3] |= (rest << (at & 7)) & 255
            step = room if room < left else left
            rest >>= step
            left -= step
            at += step


def take_bits(data: Any, widths: Any, values: Any) -> None:
    """Invert `put_bits`, into values that are 0; `data` holds as many bits as the widths sum to."""
    at = 0
    for k in range(len(widths)):
        value = 0
        done = 0
        while done < widths[k]:
            room = 8 - (at & 7)
            step = room if room < widths[k] - done else widths[k] - done
            value |= ((byte_at(data, at >> 3) >> (at & 7)) & ((1 << step) - 1)) << done
            done += step
            at += step
        values[k] = value


def gather_literals(
    data: Any, size: int, runs: Any, lengths: Any, matches: int,
    near: int, near_bits: int, far: int, far_bits: int, owner: Any, cursors: Any, literals: Any,
) -> None:  # fmt: skip
    """Put the literals of each group together; `cursors` says where each begins, and ends where it ended."""
    at = 0
    for k in range(matches + 1):
        end = at + runs[k] if k < matches else size
        while at < end:
            group = owner[context_at(data, at, near, near_bits, far, far_bits)]
            literals[cursors[group]] = data[at]
            cursors[group] += 1
            at += 1
        if k < matches:
            at += lengths[k]


def rebuild(
    out: Any, size: int, runs: Any, lengths: Any, codes: Any, matches: int,
    near: int, near_bits: int, far: int, far_bits: int, owner: Any, cursors: Any, ends: Any, literals: Any,
) -> int:  # fmt: skip
    """Put literals and matches together; return 0, or -1 if they do not fit each other."""
    recent0, recent1, recent2 = 1, 2, 3
    at = 0
    # By far the most frequent kind of context, without a detour through memory.
    by_byte_before = near == 1 and near_bits == 8 and far_bits == 0
    for k in range(matches + 1):
        end = at + runs[k] if k < matches else size
        if end > size:
            return -1
        before = byte_at(out, at - 1) if at > 0 else 0
        while at < end:
            group = owner[before] if by_byte_before else owner[context_at(out, at, near, near_bits, far, far_bits)]
            cursor = cursors[group]
            if cursor >= ends[group]:
                return -1
            before = byte_at(literals, cursor)
            out[at] = before
            cursors[group] = cursor + 1
            at += 1
        if k < matches:
            code = codes[k]
            if code == 0:
                back = recent0
            elif code == 1:
                back = recent1
                recent1 = recent0
                recent0 = back
            else:
                back = recent2 if code == 2 else code - 2
                recent2 = recent1
                recent1 = recent0
                recent0 = back
            end = at + lengths[k]
            if back > at or end > size:
                return -1
            while at < end:
                out[at] = out[at - back]
                at += 1
    for group in range(len(ends)):
        if cursors[group] != ends[group]:
            return -1
    return 0
