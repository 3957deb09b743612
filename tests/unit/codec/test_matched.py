"""The matched stage gives bytes back, is smaller than what it replaces, and refuses what it did not write."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushrink.codec import bytestream, matched
from gpushrink.codec.matched import loops
from gpushrink.codec.matched.engine import Context, Matches, ReferenceEngine, resolve_engine
from gpushrink.codec.matched.grouping import group_contexts
from gpushrink.codec.matched.numbers import LARGEST_TOKEN, join_numbers, split_numbers
from gpushrink.codec.varint import pack_varints
from gpushrink.errors import CorruptError, UsageError

EXAMPLE = b"abcdefgh abcdefgh abcdefgh"
EXAMPLE_CODED = bytes.fromhex("0100 010100 0109 1010047ece63fc 616263646566676820")


def coded_frames(frames: int, seed: int = 1) -> bytes:
    """Return what a series of Huffman-coded frames looks like: the same tables before streams of uneven bytes."""
    draw = np.random.default_rng(seed)
    tables = draw.bytes(600)
    # Each byte's likely successors depend on it, as where codes of the same lengths follow each other.
    likely = draw.integers(0, 256, (256, 48), dtype=np.uint8)
    out = bytearray()
    for _ in range(frames):
        out += tables
        byte = 0
        for choice in draw.integers(0, 64, 8000):
            byte = int(likely[byte, choice]) if choice < 48 else int(choice) * 5 & 255
            out.append(byte)
    return bytes(out)


def noisy_samples(count: int) -> bytes:
    """Return 16-bit samples of a few flat regions with noise."""
    draw = np.random.default_rng(2)
    return (300 * draw.integers(1, 5, count // 500).repeat(500) + draw.normal(0, 30, count)).astype("<u2").tobytes()


def test_example_of_the_specification_is_coded_and_decoded() -> None:
    """The worked example of docs/format-matched.md, byte by byte."""
    assert matched.encode(EXAMPLE) == EXAMPLE_CODED
    assert bytes(matched.decode(EXAMPLE_CODED, len(EXAMPLE))) == EXAMPLE


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(1, 9)), max_size=12), st.integers(0, 1))
def test_bytes_that_repeat_come_back(parts: list[tuple[bytes, int]], effort: int) -> None:
    """Any bytes, repeated near and far, at every effort."""
    data = b"".join(part * times for part, times in parts + parts[::-1])
    assert bytes(matched.decode(matched.encode(data, effort=effort), len(data))) == data


@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 4, bytes(100_000), bytes(range(256)) * 40], ids=len)
def test_extremes_come_back(data: bytes) -> None:
    """No bytes, one byte, one byte repeated, every byte."""
    assert bytes(matched.decode(matched.encode(data), len(data))) == data


def test_coded_frames_are_smaller_than_with_lzma() -> None:
    """Repeated tables and uneven successors together are what neither Zstandard nor LZMA takes out."""
    data = coded_frames(30)
    coded = matched.encode(data)
    assert bytes(matched.decode(coded, len(data))) == data
    assert len(coded) < 0.97 * len(lzma.compress(data, preset=6))
    assert len(coded) < 0.97 * len(bytestream.zstd_compress(data, level=19))


def test_samples_of_two_bytes_are_smaller_than_with_lzma() -> None:
    """Low bytes are coded after low bytes, high ones after high ones."""
    data = noisy_samples(60_000)
    assert len(matched.encode(data)) < len(lzma.compress(data, preset=6))
    assert len(matched.encode(data)) < 0.9 * len(bytestream.zstd_compress(data, level=19))


def test_long_copies_cost_next_to_nothing() -> None:
    """A megabyte that repeats a thousand bytes."""
    data = np.random.default_rng(3).bytes(1000) * 1000
    assert len(matched.encode(data)) < 1100


def test_flat_runs_take_time_that_grows_with_their_length_only() -> None:
    """Matches that are not worth taking are passed over as a whole, not tried at each byte."""
    tried = 0

    def counted(data: bytes, seen: int, at: int, size: int) -> int:
        nonlocal tried
        length = original(data, seen, at, size)
        tried += length
        return length

    original = loops.match_length
    data = (bytes(3000) + b"\1" + bytes(5000) + b"\2\3") * 4
    try:
        loops.match_length = counted
        matched.encode(data, engine="numpy")
    finally:
        loops.match_length = original
    assert tried < 4 * len(data)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, (1 << 28) - 1) | st.integers(0, 70), max_size=60))
def test_numbers_come_back_from_tokens_and_bits(values: list[int]) -> None:
    """Every size of number, as many as there are."""
    engine = ReferenceEngine()
    tokens, bits = split_numbers(np.array(values, np.int64), engine)
    assert tokens.max(initial=0) <= LARGEST_TOKEN
    assert join_numbers(tokens, np.frombuffer(bits, np.uint8), engine).tolist() == values


def test_numbers_at_their_bounds_have_the_tokens_of_the_specification() -> None:
    """Direct to 15, four tokens an octave from 16 on, 111 for the last."""
    tokens, bits = split_numbers(np.array([0, 15, 16, 19, 20, 31, 32, (1 << 28) - 1]), ReferenceEngine())
    assert tokens.tolist() == [0, 15, 16, 16, 17, 19, 20, 111]
    assert len(bits) == (2 + 2 + 2 + 2 + 3 + 25 + 7) // 8


@pytest.mark.parametrize(
    ("tokens", "bits"), [([112], b"\0" * 4), ([16], b""), ([16], b"\0\0"), ([3], b"\0"), ([16], b"\4"), ([255], b"")]
)
def test_numbers_that_were_never_split_are_corrupt(tokens: list[int], bits: bytes) -> None:
    """Tokens out of range, bits too few, too many, or set after the last."""
    with pytest.raises(CorruptError):
        join_numbers(np.array(tokens, np.uint8), np.frombuffer(bits, np.uint8), ReferenceEngine())


def test_contexts_that_are_alike_share_a_group_and_others_do_not() -> None:
    """Two kinds of contexts, four of each, become two groups."""
    draw = np.random.default_rng(4)
    counts = np.zeros((256, 256), np.int32)
    for k in range(4):
        counts[2 * k] = np.bincount(draw.integers(0, 16, 4000), minlength=256)
        counts[2 * k + 1] = np.bincount(draw.integers(100, 120, 4000), minlength=256)
    grouping = group_contexts(counts, resolve_engine("auto"), 64)
    assert grouping.sizes.tolist() == [16000, 16000]
    assert grouping.owner[:8].tolist() == [0, 1] * 4


def test_streams_of_two_kinds_are_told_apart() -> None:
    """Frames with tables of one kind go with each other, not with those of another."""
    parts = [coded_frames(3, seed=1 + k % 2) for k in range(6)]
    assert matched.group_streams(parts) == [0, 1, 0, 1, 0, 1]
    assert matched.group_streams([b"short", parts[0], b"", parts[1], b"x"]) == [0, 0, 0, 1, 1]
    assert matched.group_streams([]) == []


def test_unknown_engine_is_a_usage_error() -> None:
    """Engines are named, not guessed."""
    with pytest.raises(UsageError, match="abacus"):
        resolve_engine("abacus")  # type: ignore[arg-type]


def coded_block(
    *, count: int = 1, bits: int = 0, near: int = 1, far: int = 1, shape: int = 0, sizes: tuple[int, ...] = (9,)
) -> bytes:
    """Return the example with other numbers before its payload."""
    head = pack_varints([count, bits, near, far]) + bytes([shape]) + pack_varints([len(sizes), *sizes])
    return head + EXAMPLE_CODED[7:]


def test_block_with_the_numbers_of_the_example_is_the_example() -> None:
    """What the next test changes is right before it is changed."""
    assert coded_block() == EXAMPLE_CODED


@pytest.mark.parametrize(
    "change",
    [
        {"count": 7},
        {"bits": 13},
        {"near": 0},
        {"far": 0},
        {"near": (1 << 20) + 1},
        {"shape": 0x90},
        {"shape": 0x09},
        {"shape": 0x84},
        {"sizes": ()},
        {"sizes": (0,)},
        {"sizes": (27,)},
        {"sizes": (8,)},
        {"sizes": (4, 5)},
        {"sizes": (1,) * 65},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_corrupt(change: dict[str, int]) -> None:
    """Every limit of the specification, and sums that do not come out."""
    with pytest.raises(CorruptError):
        matched.decode(coded_block(**change), len(EXAMPLE))  # type: ignore[arg-type]


def test_other_decoded_size_is_corrupt() -> None:
    """The size the block claims is the size that comes out."""
    for size in (0, 1, 25, 27, 1 << 20):
        with pytest.raises(CorruptError):
            matched.decode(EXAMPLE_CODED, size)


@pytest.mark.parametrize("engine", [ReferenceEngine(), resolve_engine("auto")], ids=["numpy", "auto"])
@pytest.mark.parametrize(
    ("runs", "lengths", "codes", "sizes"),
    [
        ([4], [4], [7], [4]),  # distance 5 after four bytes
        ([0], [4], [0], [4]),  # distance 1 after none
        ([9], [4], [0], [4]),  # more literals than the block
        ([1 << 27], [4], [0], [4]),
        ([4], [5], [0], [4]),  # a match past the end
        ([2], [4], [0], [1, 3]),  # a group runs out
    ],
)
def test_matches_that_do_not_fit_are_refused(
    engine: ReferenceEngine, runs: list[int], lengths: list[int], codes: list[int], sizes: list[int]
) -> None:
    """The loop that puts bytes together checks each step itself."""
    columns = Matches(*(np.array(column, np.int64) for column in (runs, lengths, codes)))
    literals = np.zeros(sum(sizes), np.uint8)
    out = engine.rebuild(8, columns, Context(1, 0, 1, 0), np.zeros(1, np.int64), np.array(sizes, np.int64), literals)
    assert out is None
