"""The model of a payload's head: how each segment is coded, and the frequency tables.

The functions below read or write, as the coder says, over lists (reference) or arrays (numba).
Source: docs/format-entropy.md#head.
"""

from __future__ import annotations

from typing import Any

from gpushrink.codec.entropy.binary import NUMBER_CONTEXTS, code_bit, code_number

__all__ = [
    "COUNTS_SIZE",
    "KIND_CONSTANT",
    "KIND_NEW_TABLE",
    "KIND_OLD_TABLE",
    "KIND_RAW",
    "KIND_ZSTD",
    "LARGEST_LEVEL",
    "code_byte",
    "code_head",
    "code_table",
    "level_bucket",
]

# The number that says how a segment is coded. KIND_OLD_TABLE + d: the table that was new d new tables ago.
KIND_NEW_TABLE, KIND_CONSTANT, KIND_RAW, KIND_ZSTD, KIND_OLD_TABLE = range(5)

# A level is a symbol's weight in a table: about sqrt(count / 2). 2^16 - 1 covers counts to 2^33.
LARGEST_LEVEL = 65535

# Where each group of contexts starts.
KIND_BASE = 0
BYTE_BASE = KIND_BASE + 5 * NUMBER_CONTEXTS
ZERO_BASE = BYTE_BASE + 256
LEVEL_BASE = ZERO_BASE + 64
LEVEL_STRIDE = 2 + 2 * NUMBER_CONTEXTS
BUCKETS = 16
COUNTS_SIZE = 2 * (LEVEL_BASE + BUCKETS * LEVEL_STRIDE)


def level_bucket(level: int) -> int:
    """Give the context class of a predicted level: 0 to 3 as they are, then steps of a factor 3/2."""
    bucket = 4
    if level < 4:
        return level
    while level >= 6 and bucket < BUCKETS - 1:
        level = (level * 2 + 1) // 3
        bucket += 1
    return bucket


def code_byte(coder: Any, data: Any, counts: Any, value: int) -> int:
    """Write or read one symbol value, most significant bit first, each in the context of those before."""
    node = 1
    for place in range(7, -1, -1):
        node = 2 * node + code_bit(coder, data, counts, BYTE_BASE + node, (value >> place) & 1)
    return node - 256


def code_table(coder: Any, data: Any, counts: Any, tables: Any, index: int) -> int:
    """Write or read the 256 levels of ``tables[index]``; return how many are not 0, or -1 if impossible.

    A level is predicted by the mean of the two before it: residuals folded to bytes put x and -x side by side.
    The same level of the table before only says how likely a 0 is.
    """
    levels = tables[index]
    used = 0
    before = 0
    before_that = 0
    for symbol in range(256):
        mean = (before + before_that + 1) >> 1
        above = 0 if index == 0 else 1 + min(tables[index - 1][symbol], 2)
        zero_context = (1 if before == 0 else 0) + (2 if before_that == 0 else 0) + 4 * above
        level = levels[symbol]
        if code_bit(coder, data, counts, ZERO_BASE + 4 * zero_context + min(mean, 3), 1 if level > 0 else 0) == 0:
            level = 0
        else:
            base = LEVEL_BASE + LEVEL_STRIDE * level_bucket(mean)
            guess = max(mean, 1)
            if code_bit(coder, data, counts, base, 1 if level != guess else 0) == 0:
                level = guess
            else:
                above_guess = 1
                if guess > 1:
                    above_guess = code_bit(coder, data, counts, base + 1, 1 if level > guess else 0)
                if above_guess == 1:
                    distance = code_number(coder, data, counts, base + 2, level - guess - 1)
                    level = guess + 1 + distance
                else:
                    distance = code_number(coder, data, counts, base + 2 + NUMBER_CONTEXTS, guess - level - 1)
                    level = guess - 1 - distance
                if distance < 0 or level < 1 or level > LARGEST_LEVEL:
                    return -1
            used += 1
        levels[symbol] = level
        before_that = before
        before = level
    return used


def code_head(coder: Any, data: Any, counts: Any, kinds: Any, values: Any, tables: Any) -> int:
    """Write or read the head; return the number of tables, or -1 if it cannot have been written.

    `kinds` and `values` have one place for each segment that is not empty, `tables` at least as many
    rows as there are new tables; when reading all three are filled in.
    """
    new_tables = 0
    previous = KIND_NEW_TABLE
    for i in range(len(kinds)):
        base = KIND_BASE + NUMBER_CONTEXTS * min(previous, KIND_OLD_TABLE)
        kind = code_number(coder, data, counts, base, kinds[i])
        if kind < 0 or kind - KIND_OLD_TABLE >= new_tables:
            return -1
        if kind == KIND_NEW_TABLE:
            new_tables += 1
        elif kind == KIND_CONSTANT:
            values[i] = code_byte(coder, data, counts, values[i])
        kinds[i] = kind
        previous = kind
    for index in range(new_tables):
        # A table of one symbol would have been a constant segment; rANS needs at least two.
        if code_table(coder, data, counts, tables, index) < 2:
            return -1
    return new_tables
