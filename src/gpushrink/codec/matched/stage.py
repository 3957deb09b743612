"""The two ways of the matched stage: bytes to coded bytes, and back.

Source: docs/format-matched.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.matched import loops
from gpushrink.codec.matched.engine import Context, Engine, EngineName, Matches, resolve_engine
from gpushrink.codec.matched.grouping import Grouping, estimate, group_contexts, literal_prices
from gpushrink.codec.matched.numbers import join_numbers, split_numbers
from gpushrink.codec.varint import Cursor, pack_varint, pack_varints

__all__ = ["MOST_CONTEXT_BITS", "MOST_GROUPS", "decode", "encode"]

MOST_CONTEXT_BITS = 11
MOST_GROUPS = 64
MOST_BACK = 1 << 20

# What is tried: nothing, the byte before, that and the one before it (RLE, text), 16-bit samples; with more effort also
# colour.
_CONTEXTS = (Context(1, 0, 1, 0), Context(1, 8, 1, 0), Context(1, 8, 2, 3), Context(2, 8, 1, 3))
_BYTE_BEFORE = 1
_MORE_CONTEXTS = (Context(1, 6, 2, 5), Context(1, 8, 3, 3))
# Contexts are compared on so many literals.
_SAMPLE = (1 << 16, 1 << 18)
# So few do not fill the tables of more than 256 contexts.
_FEW = 1 << 12
# A place of the hash for each 8 to 4 bytes, with more effort twice as many.
_LEAST_HEADS_LOG2, _MOST_HEADS_LOG2 = 8, 20


def encode(data: bytes, *, effort: int = 0, row: int = 0, engine: EngineName | Engine = "auto") -> bytes:
    """Code bytes; what comes out may be longer than they are.

    Parameters
    ----------
    effort
        0 or 1: how much is tried.
    row
        The bytes of a row where the bytes are a picture: the byte above may then be part of a context.
    engine
        Who computes; the bytes are the same.
    """
    run = resolve_engine(engine)
    nothing = Matches(*(np.zeros(0, np.int64) for _ in range(3)))
    every = _one_in(len(data), effort)
    prices = literal_prices(run.count(data, nothing, _CONTEXTS[_BYTE_BEFORE], every))
    heads_log2 = min(_MOST_HEADS_LOG2, max(_LEAST_HEADS_LOG2, len(data).bit_length() - 3 + effort))
    matches = run.find(data, prices, heads_log2)
    context = _choose_context(data, matches, effort, row, run)
    grouping = group_contexts(run.count(data, matches, context, 1), run, MOST_GROUPS)
    return _write(data, matches, context, grouping, run, _entropy_engine(engine))


def _one_in(literals: int, effort: int) -> int:
    """Return how many stretches there are for each that is looked at."""
    return max(1, literals // _SAMPLE[effort])


def _choose_context(data: bytes, matches: Matches, effort: int, row: int, engine: Engine) -> Context:
    """Return the context under which a sample of the literals is smallest."""
    literals = len(data) - int(matches.lengths.sum())
    every = _one_in(literals, effort)
    choices = _CONTEXTS + _MORE_CONTEXTS * effort
    if 1 < row <= MOST_BACK:
        choices += (Context(1, 8, row, 3),)
    if literals < _FEW:
        choices = _CONTEXTS[: _BYTE_BEFORE + 1]
    sizes = [estimate(engine.count(data, matches, one, every), engine, MOST_GROUPS, every) for one in choices]
    # Few contexts are quicker to put in groups: without much effort, the byte before does where it does nearly as well.
    if not effort and sizes[_BYTE_BEFORE] * 100 < min(sizes) * 102:
        return choices[_BYTE_BEFORE]
    return choices[int(np.argmin(sizes))]


def _entropy_engine(engine: EngineName | Engine) -> EngineName:
    """Return which engine codes the streams: the one asked for by name."""
    return engine if isinstance(engine, str) else "auto"


def _write(
    data: bytes, matches: Matches, context: Context, grouping: Grouping, engine: Engine, entropy: EngineName
) -> bytes:
    owner, sizes = grouping.owner, grouping.sizes
    literals = engine.gather(data, matches, context, owner, sizes)
    values = np.concatenate([matches.runs, matches.lengths - loops.SHORTEST, matches.codes])
    tokens, bits = split_numbers(values, engine)
    known = owner.astype(np.uint8) if len(sizes) > 1 else np.zeros(0, np.uint8)
    count = len(matches.runs)
    lengths = [len(known), count, count, count, len(bits), *sizes.tolist()]
    symbols = np.concatenate([known, tokens, np.frombuffer(bits, np.uint8), literals])
    return b"".join(
        (
            pack_varints([count, len(bits), context.near, context.far]),
            bytes([context.near_bits << 4 | context.far_bits]),
            pack_varint(len(sizes)),
            pack_varints(sizes.tolist()),
            encode_segments(symbols, lengths, policy="apart", engine=entropy),
        )
    )


def decode(coded: bytes | memoryview, size: int, *, engine: EngineName | Engine = "auto") -> bytes | memoryview:
    """Give back the `size` bytes that `encode` coded.

    Raises
    ------
    CorruptError
        If `encode` wrote no such thing. Damage that leaves the structure whole goes unnoticed here: checksums are the
        caller's.
    """
    run = resolve_engine(engine)
    cursor = Cursor(coded, "a matched block")
    count = cursor.varint(min(size // loops.SHORTEST, loops.LONGEST_LIST))
    bit_bytes = cursor.varint(12 * count)
    near, far = cursor.varint(MOST_BACK), cursor.varint(MOST_BACK)
    shape = cursor.byte()
    context = Context(near, shape >> 4, far, shape & 15)
    if max(context.near_bits, context.far_bits) > 8 or context.near_bits + context.far_bits > MOST_CONTEXT_BITS:
        raise cursor.fail("its contexts have too many bits")
    if min(near, far) < 1:
        raise cursor.fail("its contexts look at no byte before")
    groups = cursor.varint(MOST_GROUPS)
    sizes = np.array([cursor.varint(size) for _ in range(groups)], np.int64)
    if (sizes < 1).any() or int(sizes.sum()) > size:
        raise cursor.fail("its groups are empty or too large")
    known = context.places if groups > 1 else 0
    lengths = [known, count, count, count, bit_bytes, *sizes.tolist()]
    symbols = decode_segments(bytes(cursor.rest()), lengths, engine=_entropy_engine(engine))
    edges = np.cumsum([known, 3 * count, bit_bytes])
    owner = symbols[: edges[0]].astype(np.int64) if known else np.zeros(context.places, np.int64)
    if known and int(owner.max()) >= groups:
        raise cursor.fail("a context has a group that is not there")
    matches = _matches(symbols[edges[0] : edges[1]], symbols[edges[1] : edges[2]], count, run)
    if int(sizes.sum()) + int(matches.lengths.sum()) != size:
        raise cursor.fail("its literals and matches do not fill it")
    # At least one group, which may be empty: the loop that asks for a literal finds none there.
    sizes = sizes if groups else np.zeros(1, np.int64)
    out = run.rebuild(size, matches, context, owner, sizes, symbols[edges[2] :])
    if out is None:
        raise cursor.fail("its literals and matches do not fit each other")
    return out


def _matches(tokens: NDArray[np.uint8], bits: NDArray[np.uint8], count: int, engine: Engine) -> Matches:
    runs, lengths, codes = join_numbers(tokens, bits, engine).reshape(3, count)
    return Matches(np.ascontiguousarray(runs), lengths + loops.SHORTEST, np.ascontiguousarray(codes))
