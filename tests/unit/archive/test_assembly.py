"""Files come together from pieces in any order, each byte once, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import random
from itertools import pairwise

import pytest

from gpushrink.archive import assembly
from gpushrink.archive.assembly import Assembly, Lease, Shelf
from gpushrink.errors import CorruptError

CONTENT = random.Random(5).randbytes(10_000)


def pieces(seed: int) -> list[tuple[int, bytes]]:
    """Cut the content in pieces and shuffle them."""
    source = random.Random(seed)
    cuts = sorted({0, len(CONTENT), *(source.randrange(len(CONTENT)) for _ in range(30))})
    made = [(start, CONTENT[start:end]) for start, end in pairwise(cuts)]
    source.shuffle(made)
    return made


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("budget", [0, 3000, 1 << 30])
@pytest.mark.parametrize("seed", range(4))
def test_pieces_in_any_order_come_together(monkeypatch: pytest.MonkeyPatch, keep: bool, budget: int, seed: int) -> None:
    """In memory, spooled from the start or from the middle: the hash is that of the content, and nothing stays held."""
    monkeypatch.setattr(assembly, "MEMORY_BUDGET", budget)
    shelf, opened = Shelf(), []

    def spool() -> io.BytesIO:
        opened.append(io.BytesIO())
        return opened[-1]

    one = Assembly(len(CONTENT), shelf, spool, keep=keep)
    for offset, data in pieces(seed):
        one.place(offset, memoryview(data))
    assert one.finish() == hashlib.sha256(CONTENT).digest()
    assert len(opened) <= 1
    if keep:
        kept = opened[0].getvalue() if opened else b"".join(one.pieces())
        assert kept == CONTENT
    one.close()
    assert (shelf.held, shelf.extents) == (0, 0)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize(
    "parts",
    [
        [(0, 5)],
        [(5, 5)],
        [(0, 5), (0, 5)],
        [(0, 5), (4, 5)],
        [(0, 6), (3, 4)],
        [(0, 3), (3, 3), (2, 4)],
        [(0, 11)],
        [(8, 3)],
        [(0, 10), (0, 1)],
        [(1 << 62, 1)],
    ],
    ids=str,
)
def test_missing_doubled_and_overlapping_pieces_are_corrupt(
    monkeypatch: pytest.MonkeyPatch, keep: bool, budget: int, parts: list[tuple[int, int]]
) -> None:
    """Each byte comes exactly once, or the file is given up."""
    monkeypatch.setattr(assembly, "MEMORY_BUDGET", budget)
    one = Assembly(10, Shelf(), io.BytesIO, keep=keep)
    with pytest.raises(CorruptError):  # noqa: PT012
        for offset, length in parts:
            one.place(offset, memoryview(bytes(length)))
        one.finish()


def test_headers_of_many_large_files_open_no_spool() -> None:
    """A first piece of each of thousands of large files stays in memory: no system has so many files open."""
    shelf, opened = Shelf(), []

    def spool() -> io.BytesIO:
        opened.append(None)
        return io.BytesIO()

    many = [Assembly(1 << 31, shelf, spool) for _ in range(5000)]
    for one in many:
        one.place(0, memoryview(bytes(2000)))
    assert opened == []


def test_large_file_in_order_is_spooled_once_its_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was held goes to the spool first, then each piece."""
    monkeypatch.setattr(assembly, "SPOOL_SIZE", 3000)
    shelf, spool = Shelf(), io.BytesIO()
    one = Assembly(len(CONTENT), shelf, lambda: spool)
    for start in range(0, len(CONTENT), 1000):
        one.place(start, memoryview(CONTENT[start : start + 1000]))
    assert shelf.held == 0
    assert shelf.extents <= 3
    assert one.finish() == hashlib.sha256(CONTENT).digest()
    assert spool.getvalue() == CONTENT


def test_pieces_of_one_byte_count_for_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile archive that scatters bytes spools early, and is refused when the scatter has no end."""
    monkeypatch.setattr(assembly, "MEMORY_BUDGET", 10_000)
    monkeypatch.setattr(assembly, "MAX_EXTENTS", 500)
    opened: list[io.BytesIO] = []

    def spool() -> io.BytesIO:
        opened.append(io.BytesIO())
        return opened[-1]

    one = Assembly(1 << 20, Shelf(), spool)
    for k in range(100):
        one.place(2 * k, memoryview(b"x"))
    assert opened
    with pytest.raises(CorruptError, match="scatters"):  # noqa: PT012
        for k in range(100, 1000):
            one.place(2 * k, memoryview(b"x"))


def test_large_pieces_are_not_copied_and_their_block_counts_until_the_last_is_gone() -> None:
    """A block is held as long as one piece of it is, and counted as what it is."""
    block = memoryview(bytes(range(256)) * 2048)
    half = len(block) // 2
    shelf = Shelf()
    lease = Lease(shelf, len(block))
    files = [Assembly(half, shelf, io.BytesIO) for _ in range(2)]
    for k, one in enumerate(files):
        one.place(0, block[k * half : (k + 1) * half], lease)
    assert [next(one.pieces()).obj is block.obj for one in files] == [True, True]  # type: ignore[union-attr]
    assert len(block) < shelf.held < len(block) + 1000
    assert files[0].finish() == hashlib.sha256(block[:half]).digest()
    files[0].close()
    assert shelf.held > len(block)
    files[1].close()
    assert shelf.held == 0


def test_small_pieces_of_large_blocks_are_copied() -> None:
    """A header keeps no slab alive."""
    shelf = Shelf()
    one = Assembly(100, shelf, io.BytesIO)
    one.place(0, memoryview(bytes(1 << 20))[:100], Lease(shelf, 1 << 20))
    assert shelf.held < 1000
    one.close()
    assert shelf.held == 0


def test_blocks_that_are_held_use_up_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of blocks beyond the memory budget go to the spool, though they are small beside their blocks."""
    monkeypatch.setattr(assembly, "MEMORY_BUDGET", 5 << 20)
    shelf, opened = Shelf(), []

    def spool() -> io.BytesIO:
        opened.append(io.BytesIO())
        return opened[-1]

    size = 1 << 17
    many = [Assembly(size, shelf, spool) for _ in range(20)]
    for one in many:
        block = bytes(1 << 20)
        one.place(0, memoryview(block)[:size], Lease(shelf, len(block)))
        assert shelf.held <= 5 << 20
    assert len(opened) == 16
    for one in many:
        assert one.finish() == hashlib.sha256(bytes(size)).digest()
        one.close()
    assert (shelf.held, shelf.extents) == (0, 0)
