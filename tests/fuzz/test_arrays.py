"""Damaged and lying archives give an error of ours or the right samples, never others."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import gpushrink
import trees
from gpushrink.archive.layout import BLOCK_HEAD
from gpushrink.archive.reader import read_catalogue
from gpushrink.errors import GpushrinkError


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[np.ndarray]]:
    """Give an archive of a series, a multi-frame object and text, with headers and slabs in blocks of their own."""
    folder = tmp_path_factory.mktemp("arrays")
    (folder / "in").mkdir()
    rng = np.random.default_rng(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
        patch.setattr("gpushrink.codec.slab.SLAB_FRAMES", 2)
        for k in range(3):
            image = rng.integers(-3, 4, (40, 48)).cumsum(axis=1).astype(np.int16)
            (folder / "in" / f"s{k}").write_bytes(trees.dicom_bytes(image, number=k, z=float(k)))
        frames = rng.integers(-3, 4, (5, 30, 36)).cumsum(axis=1).astype(np.uint8)
        (folder / "in" / "m").write_bytes(trees.dicom_bytes(frames, frames=5, series="2.25.9"))
        (folder / "in" / "text").write_text("text " * 50)
        gpushrink.pack(folder / "in", folder / "a.gsz", level="fast")
    with gpushrink.open(folder / "a.gsz") as archive:
        return (folder / "a.gsz").read_bytes(), [archive.volume(info) for info in archive.series()]


def read(path: Path, *, verify: bool) -> list[np.ndarray] | None:
    """Return every volume, or None where an error of ours says why not."""
    try:
        with gpushrink.open(path, threads=1) as archive:
            return [archive.volume(info, verify=verify) for info in archive.series()]
    except GpushrinkError:
        return None


def test_flipped_bits_are_found(packed: tuple[bytes, list[np.ndarray]], tmp_path: Path) -> None:
    """Checksums find what was flipped, wherever it lies."""
    data, truth = packed
    source, path = random.Random(11), tmp_path / "a.gsz"
    refused = 0
    for _ in range(250):
        damaged = bytearray(data)
        damaged[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        found = read(path, verify=False)
        refused += found is None
        assert found is None or all((one == two).all() for one, two in zip(found, truth, strict=True))
    assert refused > 240


def test_lies_behind_good_checksums_are_errors_of_ours(packed: tuple[bytes, list[np.ndarray]], tmp_path: Path) -> None:
    """Bytes of a block changed and its checksum made to fit: with `verify`, what comes out is right."""
    data, truth = packed
    path = tmp_path / "a.gsz"
    path.write_bytes(data)
    with path.open("rb") as stream:
        records = read_catalogue(stream).records
    slices = {(image.shape, image.tobytes()) for volume in truth for image in volume}
    source = random.Random(12)
    refused = 0
    for _ in range(300):
        record = source.choice(records)
        at, changed = record.offset + BLOCK_HEAD.size, bytearray(data)
        for _ in range(source.choice((1, 1, 2, 8))):
            # The first bytes of a payload are what says where the others belong.
            near = source.randrange(min(record.length, 60) if source.random() < 0.5 else record.length)
            changed[at + near] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))
        crc = zlib.crc32(changed[at : at + record.length])
        changed[record.offset + 16 : record.offset + 20] = struct.pack("<I", crc)
        own = zlib.crc32(changed[record.offset : record.offset + 20])
        changed[record.offset + 20 : record.offset + 24] = struct.pack("<I", own)
        path.write_bytes(changed)
        found = read(path, verify=True)
        read(path, verify=False)
        refused += found is None
        if found is not None:
            for one in found:
                # A lie in a header may put its slice elsewhere, or nowhere; but each one that comes is one there was.
                assert {(image.shape, image.tobytes()) for image in one} <= slices
    assert refused > 150
