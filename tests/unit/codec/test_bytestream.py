"""General-purpose stages give bytes back, and no stream makes a reader allocate what it claims."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushrink.codec import bytestream
from gpushrink.errors import CorruptError

LIMIT = 1 << 20


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=3000).map(lambda part: part * 2), st.integers(0, 4))
def test_squeeze_of_any_bytes_comes_back_and_never_grows(data: bytes, effort: int) -> None:
    """At every effort the smallest kind is chosen, stored among them."""
    kind, coded = bytestream.squeeze(data, effort=effort)
    assert len(coded) <= len(data)
    assert bytestream.expand(kind, coded, size=len(data), limit=LIMIT) == data


@pytest.mark.parametrize("effort", [0, 1, 2, 3, 4])
def test_squeeze_of_what_repeats_is_small_and_comes_back(effort: int) -> None:
    """Long inputs, past the sizes where efforts change, come back."""
    data = np.random.default_rng(effort).integers(0, 4, 200_000, dtype=np.uint8).tobytes() * 3
    kind, coded = bytestream.squeeze(data, effort=effort)
    assert len(coded) < len(data) // 2
    assert bytestream.expand(kind, coded, size=len(data), limit=LIMIT) == data


def test_expand_reaches_every_kind() -> None:
    """The four kinds of the specification are all written by something here."""
    kinds = {
        bytestream.squeeze(b"")[0],
        bytestream.squeeze(b"a" * 100, effort=0)[0],
        bytestream.squeeze(bytes(range(256)) * 50 + b"tail" * 99, effort=2)[0],
        bytestream.squeeze(uneven_bytes(20_000), effort=0)[0],
    }
    assert kinds == {bytestream.STORED, bytestream.ZSTD, bytestream.LZMA, bytestream.MATCHED}


def uneven_bytes(count: int) -> bytes:
    """Return bytes of which each makes some successors likely."""
    draw = np.random.default_rng(5).integers(0, 48, count)
    return (np.cumsum(draw) * 5 % 200).astype(np.uint8).tobytes()


@pytest.mark.parametrize(("effort", "matched"), [(0, True), (1, False), (2, False), (3, True), (4, True)])
def test_squeeze_of_uneven_bytes_is_matched_where_that_is_allowed(effort: int, matched: bool) -> None:
    """Packed fields, which know no matched stage, use efforts 1 and 2."""
    kind, _ = bytestream.squeeze(uneven_bytes(30_000), effort=effort)
    assert (kind == bytestream.MATCHED) == matched


@pytest.mark.parametrize("effort", [0, 3, 4])
def test_squeeze_of_dense_bytes_stores_them_untried(effort: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of arithmetic coders cost no time: neither the matched stage nor LZMA is tried."""
    monkeypatch.setattr(bytestream, "_lzma_compress", None)
    monkeypatch.setattr("gpushrink.codec.matched.encode", None)
    data = np.random.default_rng(6).bytes(50_000)
    assert bytestream.squeeze(data, effort=effort) == (bytestream.STORED, data)


def coded_of(kind: int, data: bytes) -> bytes:
    """Code bytes with one kind."""
    if kind == bytestream.ZSTD:
        return bytestream.zstd_compress(data, level=3)
    return bytestream._lzma_compress(data, 3, 0, 0)


@pytest.mark.parametrize("kind", [bytestream.ZSTD, bytestream.LZMA])
def test_expand_of_a_cut_stream_is_corrupt(kind: int) -> None:
    """At every length."""
    data = bytes(range(200)) * 3
    coded = coded_of(kind, data)
    for length in range(len(coded)):
        with pytest.raises(CorruptError):
            bytestream.expand(kind, coded[:length], size=len(data), limit=LIMIT)


@pytest.mark.parametrize("kind", [bytestream.ZSTD, bytestream.LZMA])
def test_expand_of_a_stream_with_bytes_after_it_is_corrupt(kind: int) -> None:
    """What follows the stream is not ignored."""
    data = bytes(range(200)) * 3
    for more in (b"\0", coded_of(kind, data)):
        with pytest.raises(CorruptError):
            bytestream.expand(kind, coded_of(kind, data) + more, size=len(data), limit=LIMIT)


@pytest.mark.parametrize("kind", [bytestream.STORED, bytestream.ZSTD, bytestream.LZMA])
@pytest.mark.parametrize("wrong", [-1, 1, 100])
def test_expand_to_another_size_is_corrupt(kind: int, wrong: int) -> None:
    """The size that the block claims is the size that comes out."""
    data = b"abcdefgh" * 40
    coded = data if kind == bytestream.STORED else coded_of(kind, data)
    with pytest.raises(CorruptError):
        bytestream.expand(kind, coded, size=len(data) + wrong, limit=LIMIT)


@pytest.mark.parametrize("kind", [bytestream.STORED, bytestream.ZSTD, bytestream.LZMA])
def test_expand_over_the_limit_is_corrupt(kind: int) -> None:
    """A stream that is larger than its place is refused."""
    data = b"abcdefgh" * 40
    coded = data if kind == bytestream.STORED else coded_of(kind, data)
    with pytest.raises(CorruptError):
        bytestream.expand(kind, coded, size=len(data), limit=len(data) - 1)


def test_expand_of_a_kind_that_is_not_there_is_corrupt() -> None:
    """The table is closed."""
    with pytest.raises(CorruptError, match="kind 3"):
        bytestream.expand(3, b"", size=0, limit=0)


def test_zstd_frame_without_content_size_is_corrupt() -> None:
    """Nothing is decoded before its size is known."""
    coded = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 100)
    with pytest.raises(CorruptError, match="content size"):
        bytestream.zstd_expand(coded, size=-1, limit=LIMIT)


@pytest.mark.parametrize("claimed", [256, 300_000])
def test_zstd_frame_that_claims_less_than_it_holds_is_corrupt(claimed: int) -> None:
    """A bomb of a few kilobytes that stands for gigabytes is stopped at what it claims."""
    head = b"\x28\xb5\x2f\xfd\x80" + bytes([(27 - 10) << 3]) + struct.pack("<I", claimed)
    block = struct.pack("<I", 1 << 1 | (128 << 10) << 3)[:3] + b"a"
    last = struct.pack("<I", 1 | 1 << 1 | (128 << 10) << 3)[:3] + b"a"
    bomb = head + block * 20_000 + last
    with pytest.raises(CorruptError):
        bytestream.zstd_expand(bomb, size=-1, limit=LIMIT)


def test_zstd_frame_with_a_window_over_the_limit_is_corrupt() -> None:
    """A window of gigabytes is refused."""
    coded = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1000) + bytes(range(256))))
    single = b"\x28\xb5\x2f\xfd\x80" + bytes([(31 - 10) << 3]) + struct.pack("<I", 10) + b"\x01\x00\x00"
    with pytest.raises(CorruptError):
        bytestream.zstd_expand(single, size=-1, limit=LIMIT)
    assert bytestream.zstd_expand(bytes(coded), size=1256, limit=LIMIT)


@pytest.mark.parametrize("properties", [225, 255, 4 * 9 + 4, 8])
def test_lzma_with_properties_out_of_range_is_corrupt(properties: int) -> None:
    """The two bytes before the stream are checked before the decoder sees them."""
    coded = bytearray(bytestream._lzma_compress(b"a" * 100, 3, 0, 0))
    coded[0] = properties
    with pytest.raises(CorruptError):
        bytestream.expand(bytestream.LZMA, bytes(coded), size=100, limit=LIMIT)


@pytest.mark.parametrize("bits", [0, 11, 28, 255])
def test_lzma_with_a_dictionary_out_of_range_is_corrupt(bits: int) -> None:
    """No stream asks for gigabytes."""
    coded = bytearray(bytestream._lzma_compress(b"a" * 100, 3, 0, 0))
    coded[1] = bits
    with pytest.raises(CorruptError, match="range"):
        bytestream.expand(bytestream.LZMA, bytes(coded), size=100, limit=LIMIT)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=80), st.sampled_from([1, 2]), st.integers(0, 500))
def test_expand_of_any_bytes_gives_the_size_or_our_error(data: bytes, kind: int, size: int) -> None:
    """Random bytes never end in anything else."""
    try:
        assert len(bytestream.expand(kind, data, size=size, limit=LIMIT)) == size
    except CorruptError:
        return
