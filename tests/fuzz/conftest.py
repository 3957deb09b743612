"""The small archive that is damaged in every way, and a keeper that holds what was restored."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

import trees
from gpushrink.archive.assembly import Assembly
from gpushrink.archive.paths import check_tree
from gpushrink.errors import GpushrinkError
from gpushrink.model import Entry
from gpushrink.pipeline.packing import pack_to_sink


class MemoryKeeper:
    """Keep proven files in memory."""

    keep = True

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}

    def judge(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Refuse what would be refused anywhere."""
        return check_tree(entries)

    def prepare(self, entries: Mapping[int, Entry]) -> dict[int, GpushrinkError]:
        """Accept all."""
        return {}

    def open_spool(self, entry: Entry) -> BinaryIO:
        """Spool to memory."""
        return io.BytesIO()

    def commit(self, entry: Entry, assembly: Assembly) -> None:
        """Take the bytes."""
        if assembly.spool is not None:
            assembly.spool.seek(0)
            self.files[entry.path] = assembly.spool.read()
        else:
            self.files[entry.path] = b"".join(assembly.pieces())

    def finish(self) -> dict[int, GpushrinkError]:
        """Do nothing."""
        return {}

    def abandon(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[bytes, bytes]]:
    """Give a small archive with blocks of every kind, and the files it holds."""
    folder = tmp_path_factory.mktemp("victim") / "study"
    trees.small_study(folder, slices=4, rows=24)
    sink = io.BytesIO()
    pack_to_sink([folder], sink, threads=1, level="default")
    files = {
        str(path.relative_to(folder)).replace("\\", "/").encode(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    assert len(sink.getvalue()) < 20_000
    return sink.getvalue(), files


@pytest.fixture
def keeper() -> type[MemoryKeeper]:
    """Give the class of keepers that hold files in memory."""
    return MemoryKeeper
