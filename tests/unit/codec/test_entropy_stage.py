"""The entropy stage as its callers see it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.entropy.stage import Policy
from gpushrink.errors import CorruptError, GpushrinkError, NewerVersionError, UsageError

POLICIES: tuple[Policy, ...] = ("auto", "rans", "zstd")

# The worked example of docs/format-entropy.md.
EXAMPLE_SYMBOLS = np.array([0, 1, 0, 2, 0, 0, 1, 0, 7, 7, 7, 1, 0, 1, 2, 1, 0, 3, 1], np.uint8)
EXAMPLE_LENGTHS = [8, 0, 3, 8]


def _residuals(seed: int, scales: list[float], lengths: list[int]) -> np.ndarray:
    """Make folded Laplacian residuals: one scale for each segment."""
    rng = np.random.default_rng(seed)
    parts = []
    for scale, length in zip(scales, lengths, strict=True):
        value = np.rint(rng.laplace(0, scale, length)).astype(np.int64)
        parts.append(np.minimum(np.where(value >= 0, 2 * value, -2 * value - 1), 255).astype(np.uint8))
    return np.concatenate(parts)


def _ideal_bytes(symbols: np.ndarray, lengths: list[int]) -> float:
    """Give the sum of the segments' order-0 entropies, tables not counted."""
    total, begin = 0.0, 0
    for length in lengths:
        counts = np.bincount(symbols[begin : begin + length], minlength=256)
        counts = counts[counts > 0]
        total += float((counts * np.log2(length / counts)).sum())
        begin += length
    return total / 8


@st.composite
def _segments(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Draw segments of mixed kinds: empty, constant, skewed, wide, repeating, noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths, parts = [], []
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.sampled_from([0, 1, 2, 3, 31, 32, 33, 100, 257, 1000, 5000]))
        kind = draw(st.sampled_from(["constant", "skewed", "wide", "noise", "repeat"]))
        if kind == "constant":
            part = np.full(length, rng.integers(256))
        elif kind == "skewed":
            part = (rng.random(length) < 0.01) * rng.integers(1, 256, length)
        elif kind == "wide":
            part = np.minimum(rng.geometric(0.05, length), 255)
        elif kind == "noise":
            part = rng.integers(0, 256, length)
        else:
            part = np.resize(rng.integers(0, 256, 17), length)
        lengths.append(length)
        parts.append(part.astype(np.uint8))
    return np.concatenate([np.zeros(0, np.uint8), *parts]), lengths


@settings(max_examples=60, deadline=None)
@given(data=_segments(), policy=st.sampled_from(POLICIES), threads=st.sampled_from([1, 2]))
def test_encode_segments_of_any_kind_gives_equal_bytes_and_returns(
    data: tuple[np.ndarray, list[int]], policy: Policy, threads: int
) -> None:
    """Both engines write the same payload, and each reads it back exactly."""
    symbols, lengths = data
    reference = encode_segments(symbols, lengths, engine="numpy", policy=policy)
    assert encode_segments(symbols, lengths, engine="numba", policy=policy, threads=threads) == reference
    for engine in ("numpy", "numba"):
        decoded = decode_segments(reference, lengths, engine=engine, threads=threads)
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, symbols)


def test_encode_segments_over_many_chunks_gives_equal_bytes_and_returns() -> None:
    """Chunks that end inside segments, and a last chunk longer than the others, change nothing."""
    lengths = [100_003, 7, 250_001, 0, 64_000, 31]
    symbols = _residuals(1, [8.0, 1.0, 3.0, 1.0, 20.0, 2.0], lengths)
    payloads = {
        encode_segments(symbols, lengths, engine="numpy", policy="rans"),
        encode_segments(symbols, lengths, engine="numba", policy="rans"),
        encode_segments(symbols, lengths, engine="numba", policy="rans", threads=3),
    }
    assert len(payloads) == 1
    payload = payloads.pop()
    for engine in ("numpy", "numba"):
        assert np.array_equal(decode_segments(payload, lengths, engine=engine, threads=2), symbols)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_encode_segments_of_example_gives_documented_bytes(engine: str) -> None:
    """The worked example of docs/format-entropy.md is what the code writes."""
    payload = encode_segments(EXAMPLE_SYMBOLS, EXAMPLE_LENGTHS, engine=engine, policy="rans")  # type: ignore[arg-type]
    assert payload.hex(" ") == "10 13 06 9f c1 09 38 ff f5 01 4e 56 dc 08 20 04"
    assert np.array_equal(decode_segments(payload, EXAMPLE_LENGTHS, engine=engine), EXAMPLE_SYMBOLS)  # type: ignore[arg-type]


def test_format_document_example_lists_the_bytes_written() -> None:
    """The bytes in the example of docs/format-entropy.md are those of the payload, in order."""
    document = Path(__file__).parents[3] / "docs" / "format-entropy.md"
    block = document.read_text(encoding="utf-8").split("## Example")[1].split("```")[1]
    listed = " ".join(re.split(r"\s{2,}", line)[0] for line in block.strip().splitlines())
    payload = encode_segments(EXAMPLE_SYMBOLS, EXAMPLE_LENGTHS, policy="rans")
    assert listed == payload.hex(" ")


def test_encode_segments_of_large_residuals_stays_near_entropy() -> None:
    """A large volume of contexts costs at most 0.5 % over its entropy, everything counted."""
    lengths = [40_000] * 25
    symbols = _residuals(2, [1.1**i for i in range(25)], lengths)
    payload = encode_segments(symbols, lengths, policy="rans")
    assert len(payload) < 1.005 * _ideal_bytes(symbols, lengths)


def test_encode_segments_of_one_small_slice_costs_few_bytes_more_than_entropy() -> None:
    """4,096 symbols in 20 contexts cost at most 250 bytes over their sample entropy, tables and sharing counted."""
    lengths = [205] * 19 + [201]
    symbols = _residuals(3, [1.0 + 0.5 * i for i in range(20)], lengths)
    payload = encode_segments(symbols, lengths, policy="rans")
    assert len(payload) < _ideal_bytes(symbols, lengths) + 250


def test_encode_segments_of_nearly_constant_symbols_costs_almost_nothing() -> None:
    """A million symbols of which a hundred differ take under 350 bytes: tables resolve 1/16384."""
    symbols = np.zeros(1_000_000, np.uint8)
    symbols[np.random.default_rng(4).choice(len(symbols), 100, replace=False)] = 1
    assert len(encode_segments(symbols, [len(symbols)], policy="rans")) < 350


def test_encode_segments_of_constants_costs_no_bytes_for_symbols() -> None:
    """Segments of one value each cost their value and nothing for their length."""
    assert len(encode_segments(np.repeat(np.uint8([0, 9]), 1_000_000), [1_000_000] * 2)) < 10


def test_encode_segments_of_noise_is_stored_raw() -> None:
    """White noise grows by a few bytes only."""
    noise = np.random.default_rng(5).integers(0, 256, 100_000).astype(np.uint8)
    assert len(encode_segments(noise, [50_000, 50_000])) < 100_000 + 16


def test_encode_segments_of_repetition_takes_zstd_under_auto() -> None:
    """What repeats is left to zstd, which order-0 coding cannot match."""
    symbols = np.resize(np.random.default_rng(6).integers(0, 200, 5000).astype(np.uint8), 200_000)
    auto = encode_segments(symbols, [len(symbols)])
    assert len(auto) < len(encode_segments(symbols, [len(symbols)], policy="rans")) // 4
    assert np.array_equal(decode_segments(auto, [len(symbols)]), symbols)


def test_encode_segments_of_nothing_gives_no_bytes() -> None:
    """Nothing takes nothing, whatever the number of empty segments."""
    assert encode_segments(np.zeros(0, np.uint8), [0, 0]) == b""
    assert decode_segments(b"", [0, 0]).shape == (0,)


@pytest.mark.parametrize(
    ("symbols", "lengths"),
    [
        (np.zeros(4, np.uint8), [3]),
        (np.zeros(4, np.uint16), [4]),
        (np.zeros((2, 2), np.uint8), [4]),
        (np.zeros(4, np.uint8), [5, -1]),
    ],
)
def test_encode_segments_with_arguments_at_odds_raises_usage_error(symbols: np.ndarray, lengths: list[int]) -> None:
    """A caller's mistake is named as such."""
    with pytest.raises(UsageError):
        encode_segments(symbols, lengths)


def test_decode_segments_of_another_version_raises_newer_version_error() -> None:
    """A payload of a later version is not guessed at."""
    payload = bytearray(encode_segments(EXAMPLE_SYMBOLS, EXAMPLE_LENGTHS))
    payload[0] += 16
    with pytest.raises(NewerVersionError):
        decode_segments(bytes(payload), EXAMPLE_LENGTHS)


def _damaged_payloads() -> list[tuple[bytes, list[int]]]:
    """Make payloads that hold every kind of segment between them."""
    rng = np.random.default_rng(7)
    lengths = [500, 300, 0, 400, 700, 5000, 2]
    parts = [
        _residuals(8, [2.0, 9.0], [500, 300]),
        rng.integers(0, 256, 400).astype(np.uint8),
        np.full(700, 3, np.uint8),
        np.resize(rng.integers(0, 256, 50).astype(np.uint8), 5000),
        np.uint8([1, 2]),
    ]
    symbols = np.concatenate(parts)
    return [(encode_segments(symbols, lengths, policy=policy), lengths) for policy in POLICIES]


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_decode_segments_of_truncated_payload_raises_corrupt_error(engine: str) -> None:
    """Whatever is missing or added at the end is noticed."""
    for payload, lengths in _damaged_payloads():
        for size in range(0, len(payload), 1 if len(payload) < 1500 else 7):
            with pytest.raises(CorruptError):
                decode_segments(payload[:size], lengths, engine=engine)  # type: ignore[arg-type]
        with pytest.raises(CorruptError):
            decode_segments(payload + b"\0", lengths, engine=engine)  # type: ignore[arg-type]


def test_decode_segments_of_flipped_bits_raises_or_returns_all_symbols() -> None:
    """Damage ends in an error of ours or in wrong symbols of the right number, the same in both engines."""
    rng = np.random.default_rng(9)
    noticed = 0
    for payload, lengths in _damaged_payloads():
        for _ in range(250):
            damaged = bytearray(payload)
            # The front and the head are short and matter most: half of the damage goes there.
            reach = 80 if rng.random() < 0.5 else len(payload)
            for place in rng.integers(0, reach, rng.integers(1, 4)):
                damaged[place] ^= 1 << rng.integers(8)
            results = []
            for engine in ("numpy", "numba"):
                try:
                    results.append(decode_segments(bytes(damaged), lengths, engine=engine).tobytes())  # type: ignore[arg-type]
                except GpushrinkError as error:
                    results.append(type(error).__name__.encode())
                    noticed += 1
            assert results[0] == results[1]
            assert isinstance(results[0], bytes)
            assert len(results[0]) in (sum(lengths), len(b"CorruptError"), len(b"NewerVersionError"))
    assert noticed > 500


def test_decode_segments_with_other_lengths_never_returns_wrong_number() -> None:
    """Lengths that are not the encoder's give an error or as many symbols as were asked for."""
    for payload, lengths in _damaged_payloads():
        for change in (-1, 1, 1000, 10_000_000):
            other = [*lengths[:5], lengths[5] + change, lengths[6]]
            try:
                assert len(decode_segments(payload, other)) == sum(other)
            except CorruptError:
                continue
