"""Files come together from pieces in any order, each byte once, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import random
from itertools import pairwise

import pytest

from gpushrink.archive import assembly
from gpushrink.archive.assembly import Assembly, Shelf
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
