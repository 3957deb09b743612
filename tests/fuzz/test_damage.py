"""A damaged archive ends in the right error and never in wrong bytes: every truncation, thousands of flips."""

from __future__ import annotations

import io
import random

import pytest

from gpushrink.archive.reader import read_catalogue
from gpushrink.errors import (
    CorruptError,
    NotAnArchiveError,
    TruncatedError,
)
from gpushrink.pipeline.restore_report import RestoreReport
from gpushrink.pipeline.unpacking import restore_all, verify_archive

Victim = tuple[bytes, dict[bytes, bytes]]


def restore(data: bytes, keeper: object, truth: dict[bytes, bytes]) -> RestoreReport:
    """Restore and insist that every file that came back is right."""
    report = restore_all(io.BytesIO(data), keeper, threads=1)  # type: ignore[arg-type]
    restored = keeper.files  # type: ignore[attr-defined]
    assert all(truth[path] == content for path, content in restored.items())
    assert report.files == len(restored)
    return report


def test_archive_untouched_is_whole(victim: Victim, keeper: type) -> None:
    """The archive under test restores every file, so that what follows means something."""
    data, truth = victim
    kept = keeper()
    assert restore(data, kept, truth).worst() is None
    assert kept.files == truth


def test_archive_cut_anywhere_is_truncated(victim: Victim, keeper: type) -> None:
    """At every length the error is TruncatedError (nothing at all is no archive), and no restored byte is wrong."""
    data, truth = victim
    for length in range(1, len(data)):
        error = restore(data[:length], keeper(), truth).worst()
        assert type(error) is TruncatedError, (length, error)
    with pytest.raises(NotAnArchiveError):
        restore(b"", keeper(), truth)


def test_catalogue_of_an_archive_cut_anywhere_is_truncated(victim: Victim) -> None:
    """Reading by index says the same."""
    data, _ = victim
    for length in range(1, len(data)):
        with pytest.raises(TruncatedError):
            read_catalogue(io.BytesIO(data[:length]))
    with pytest.raises(NotAnArchiveError):
        read_catalogue(io.BytesIO(b""))


def test_archive_with_a_flipped_bit_is_corrupt(victim: Victim, keeper: type) -> None:
    """Each of 2,000 random flips is noticed, as damage of the right kind, and no restored byte is wrong."""
    data, truth = victim
    source = random.Random(1)
    for _ in range(2000):
        place = source.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        if place // 8 < 8:
            with pytest.raises(NotAnArchiveError):
                restore(bytes(damaged), keeper(), truth)
        else:
            error = restore(bytes(damaged), keeper(), truth).worst()
            assert type(error) is CorruptError, (place, error)


def test_archive_with_a_flipped_bit_loses_only_what_the_bit_holds(victim: Victim, keeper: type) -> None:
    """Damage in the index or end mark costs no file; damage in a block costs the files of that block alone."""
    data, truth = victim
    trailer = bytearray(data)
    trailer[-20] ^= 1
    kept = keeper()
    restore(bytes(trailer), kept, truth)
    assert kept.files == truth
    records = read_catalogue(io.BytesIO(data)).records
    catalogue = read_catalogue(io.BytesIO(data))
    for record in records:
        if record.type.name in ("DATA", "HASH"):
            for place in (record.offset + 9, record.offset + 24 + record.length // 2):
                damaged = bytearray(data)
                damaged[place] ^= 0x10
                kept = keeper()
                restore(bytes(damaged), kept, truth)
                touched = {catalogue.entries[i].path for i in record.file_ids()}
                assert set(kept.files) == truth.keys() - touched


def test_archive_with_a_block_of_noise_inside_is_read_on_after_it(victim: Victim, keeper: type) -> None:
    """Bytes that somebody wrote over or put in between blocks cost what they hit; reading finds the next block."""
    data, truth = victim
    records = read_catalogue(io.BytesIO(data)).records
    noise = random.Random(2).randbytes(200_000) + b"GSZb" * 50
    for record in records:
        kept = keeper()
        error = restore(data[: record.offset] + noise + data[record.offset :], kept, truth).worst()
        assert type(error) is CorruptError
        assert kept.files == truth


def test_archive_with_bytes_after_its_end_is_corrupt(victim: Victim, keeper: type) -> None:
    """What follows the end mark is not ignored."""
    data, truth = victim
    for more in (b"\0", data):
        assert type(restore(data + more, keeper(), truth).worst()) is CorruptError


@pytest.mark.parametrize("data", [b"x", b"PK\3\4" * 10, b"\0" * 100, b"GSZb" * 20, b"\x89PNG\r\n\x1a\n" * 9])
def test_other_files_are_no_archives(data: bytes) -> None:
    """Whatever does not begin with the magic is not an archive, both ways."""
    with pytest.raises(NotAnArchiveError):
        verify_archive(io.BytesIO(data), threads=1)
    with pytest.raises(NotAnArchiveError):
        read_catalogue(io.BytesIO(data))


def test_catalogue_of_an_archive_with_a_flipped_bit_raises_or_agrees(victim: Victim) -> None:
    """Reading by index ends in an error of ours or gives the tree it should."""
    data, truth = victim
    source = random.Random(3)
    for _ in range(1000):
        place = source.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        try:
            catalogue = read_catalogue(io.BytesIO(bytes(damaged)))
        except (CorruptError, NotAnArchiveError, TruncatedError):
            continue
        assert truth.keys() <= {entry.path for entry in catalogue.entries.values()}
