"""A file is read into place and hashed in one go, whatever its system offers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpushrink.dicom import source
from gpushrink.dicom.source import read_and_hash
from gpushrink.dicom.walk import Found, walk_sources
from gpushrink.errors import InputError

CONTENT = np.random.default_rng(5).bytes(50_000)


def _nothing(_: int, parts: list[bytearray], at: int) -> int:
    return 0


def _less(descriptor: int, parts: list[bytearray], at: int) -> int:
    return os.readv(descriptor, parts[:1])


@pytest.fixture
def found(tmp_path: Path) -> Found:
    """Give a file as a walk finds it."""
    (tmp_path / "file").write_bytes(CONTENT)
    return walk_sources([tmp_path]).found[0]


@pytest.mark.parametrize("offset", [0, 1000, 49_999])
@pytest.mark.parametrize("length", [1, 40_000])
@pytest.mark.parametrize("way", ["as it is", "none", _nothing, _less])
def test_the_range_and_the_hash_are_the_files(
    found: Found, monkeypatch: pytest.MonkeyPatch, offset: int, length: int, way: str | Callable[..., int]
) -> None:
    """Also where the call that reads all at once is missing, or gives less than it is asked for."""
    if way == "none":
        monkeypatch.delattr(source.os, "preadv", raising=False)
    elif callable(way):
        if not hasattr(os, "readv"):
            pytest.skip("this system has no such call")
        monkeypatch.setattr(source.os, "preadv", way, raising=False)
    length = min(length, len(CONTENT) - offset)
    target = bytearray(length)
    assert read_and_hash(found, offset, memoryview(target)) == hashlib.sha256(CONTENT).digest()
    assert target == CONTENT[offset : offset + length]


def test_much_around_the_range_is_read_in_steps(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for what stands around the frame is bounded."""
    monkeypatch.setattr(source, "_STEP", 4096)
    monkeypatch.setattr(source, "_read_at_once", lambda *_: pytest.fail("too much at once"))
    target = bytearray(10)
    assert read_and_hash(found, 20_000, memoryview(target)) == hashlib.sha256(CONTENT).digest()
    assert target == CONTENT[20_000:20_010]


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1], CONTENT[:10]])
def test_a_file_of_another_size_is_named(found: Found, content: bytes) -> None:
    """It changed since the walk."""
    Path(os.fsdecode(found.path)).write_bytes(content)
    with pytest.raises(InputError, match="changed"):
        read_and_hash(found, 100, memoryview(bytearray(200)))
