"""Blocks of a file are read in any order, by several threads, each as if alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import trees
from gpushrink.archive import block_file
from gpushrink.archive.block_file import BlockFile
from gpushrink.archive.blocks import parse_data
from gpushrink.errors import InputError, NotAnArchiveError, UsageError
from gpushrink.model import Entry, EntryKind


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Write an archive of some files."""
    entries = [Entry(EntryKind.FILE, b"%02d" % k, 0o644, 0, 1000 + k) for k in range(40)]
    (tmp_path / "a.gsz").write_bytes(trees.stored_archive(entries, {k: bytes([k]) * (1000 + k) for k in range(40)}))
    return tmp_path / "a.gsz"


@pytest.mark.parametrize("positional", [True, False])
def test_blocks_are_read_by_many_threads(archive: Path, positional: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With reads at a position, and on systems that have none, with a lock."""
    if not positional:
        monkeypatch.delattr(block_file.os, "pread", raising=False)
    file = BlockFile(archive)

    def content(k: int) -> bytes:
        (record,) = file.concerning({k})
        assert list(file.peek(record).file_ids) == [k]
        return bytes(parse_data(file.read(record).payload).coded)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(content, [*range(40)] * 5)) == [bytes([k]) * (1000 + k) for k in range(40)] * 5
    file.close()


def test_what_cannot_be_opened_says_why(archive: Path, tmp_path: Path) -> None:
    """Missing files, folders and other files are different errors; so is a closed archive."""
    with pytest.raises(InputError, match="missing"):
        BlockFile(tmp_path / "missing")
    with pytest.raises(InputError):
        BlockFile(tmp_path)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(NotAnArchiveError):
        BlockFile(tmp_path / "text")
    file = BlockFile(archive)
    file.close()
    with pytest.raises(UsageError, match="closed"):
        file.peek(file.catalogue.records[2])
