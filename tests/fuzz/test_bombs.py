"""Small archives that claim much: each ends in an error of ours, in seconds, and in bounded memory."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trees
from gpushrink.archive import blocks, layout
from gpushrink.archive.index import BlockRecord, pack_index
from gpushrink.archive.layout import BlockType
from gpushrink.codec import bytestream
from gpushrink.codec.entropy import encode_segments
from gpushrink.codec.varint import pack_column, pack_varint, pack_varints
from gpushrink.model import BlockCodec, Entry, EntryKind, Role, Target

LIMIT_MB = 1100

# Verifies each archive in one process that tells its peak memory; anything but our errors is a failure.
_CHILD = """
import os, resource, sys
from pathlib import Path
from gpushrink.errors import GpushrinkError
from gpushrink.pipeline import api
for name in sys.argv[1:]:
    for read in (api.verify, api.catalogue):
        try:
            result = read(name, threads=4) if read is api.verify else read(name)
            said = result.worst() if read is api.verify else None
        except GpushrinkError as error:
            said = error
        print(Path(name).name, type(said).__name__)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def file(path: bytes, size: int) -> Entry:
    """Make a file entry."""
    return Entry(EntryKind.FILE, path, 0o644, 0, size)


def zeros_blocks(count: int) -> bytes:
    """Claim a file of zeros that decodes to gigabytes from a few kilobytes a block."""
    size = layout.MAX_DECODED
    coded = bytestream.zstd_compress(bytes(size), level=3)
    parts = trees.ArchiveParts().tree([file(b"a", size * count)])
    for k in range(count):
        payload = blocks.pack_data(size, [Target(0, size, 0, k * size)], coded)
        parts.block(BlockType.DATA, payload, codec=BlockCodec.ZSTD, role=Role.OPAQUE, decoded=size, ids=[0])
    return parts.hashes({0: b"wrong"}).end()


def planes_of_one_sample(count: int) -> bytes:
    """Claim a slab of millions of planes of one sample, each with a count for every context, in 300 bytes."""
    small = encode_segments(np.zeros(1002, np.uint8), [1, 1, 1000])
    side = bytes([254]) + small
    payload = struct.pack("<BIIIII", 1, 1, 1, len(side), 0, 0) + side
    coded = b"".join(map(pack_varint, (count, 1, 1, 1))) + b"\0" + payload
    parts = trees.ArchiveParts().tree([file(b"a", count)])
    data = blocks.pack_data(count, [Target(0, count, 0, 0)], coded)
    parts.block(BlockType.DATA, data, codec=BlockCodec.VOLUME, role=Role.PIXELS, decoded=count, ids=[0])
    return parts.hashes({0: b"wrong"}).end()


def scattered_targets(count: int, many: int) -> bytes:
    """Aim a million single bytes at every second byte of a file, block after block."""
    parts = trees.ArchiveParts().tree([file(b"a", 1 << 40)])
    for k in range(count):
        columns = pack_column([0]) + b"\0" * (many - 1)
        columns += pack_column([1]) + b"\0" * (many - 1)
        columns += b"\0" * many
        columns += pack_column([(count - k) * 4 * many + 1]) + pack_varint(4) * (many - 1)
        packed = layout.wrap_packed(columns)
        payload = pack_varints([1, many, len(packed)]) + packed + b"x"
        parts.block(BlockType.DATA, payload, codec=0, role=Role.OPAQUE, decoded=1, ids=[0])
    return parts.hashes({0: b"wrong"}).end()


def many_paths() -> bytes:
    """Claim millions of files of long names that share all but a few bytes."""
    parts = trees.ArchiveParts()
    count = 100 * blocks.TREE_ENTRIES
    parts.block(BlockType.INFO, blocks.pack_info(count, 0))
    for k in range(100):
        first = k * blocks.TREE_ENTRIES
        made = [Entry(EntryKind.FILE, b"x" * 4000 + b"%08d" % (first + m), 0, 0) for m in range(blocks.TREE_ENTRIES)]
        if k < 2:
            template = blocks.pack_tree(first, made)
        payload = template if k < 2 else blocks.pack_tree(first, made[:1])
        parts.block(BlockType.TREE, payload)
    return parts.end()


def index_of_everything() -> bytes:
    """Name every id in every row of an index of thousands of rows."""
    parts = trees.ArchiveParts().tree([file(b"a", 0)])
    for _ in range(20_000):
        parts.stored([], b"")
    wide = [
        BlockRecord(r.type, r.codec, r.role, r.offset, r.length, r.decoded, type(r.runs)("q", (0, layout.MAX_ENTRIES)))
        if r.type == BlockType.DATA
        else r
        for r in parts.records
    ]
    at, payload = len(parts.data), pack_index(wide)
    parts.data += layout.pack_block_head(BlockType.INDEX, payload) + payload
    parts.data += layout.pack_trailer(at, len(parts.data) + layout.TRAILER_SIZE)
    return bytes(parts.data)


def index_of_runs() -> bytes:
    """Fill an index with millions of runs of one id."""
    parts = trees.ArchiveParts().tree([file(b"a", 0)]).stored([], b"")
    row = parts.records[-1]
    runs = layout.MAX_RUNS - 1
    body = pack_varint(len(parts.records)) + bytes(r.type for r in parts.records)
    body += bytes(r.codec for r in parts.records) + bytes(r.role for r in parts.records)
    body += pack_column([r.offset for r in parts.records]) + pack_column([r.length for r in parts.records])
    body += pack_column([r.decoded for r in parts.records])
    body += pack_varint(runs) + b"\1\1" * runs
    at, payload = len(parts.data), b"\1" + bytestream.zstd_compress(body, level=3)
    assert row.type == BlockType.DATA
    parts.data += layout.pack_block_head(BlockType.INDEX, payload) + payload
    parts.data += layout.pack_trailer(at, len(parts.data) + layout.TRAILER_SIZE)
    return bytes(parts.data)


def damage_everywhere() -> bytes:
    """Follow good headers with bad ones, thirty thousand times."""
    good = layout.pack_block_head(BlockType.DATA, b"")
    return layout.pack_preamble() + (good + b"damaged!") * 30_000


def broken_payloads() -> bytes:
    """Let thirty thousand headers name payloads that fail their checksums."""
    head = layout.pack_block_head(BlockType.DATA, b"a", codec=0, role=3)
    return layout.pack_preamble() + (head + b"b") * 30_000


def packed_bombs() -> bytes:
    """Let targets and tree decode to all that a packed field may hold."""
    parts = trees.ArchiveParts().tree([file(b"a", 1)])
    big = b"\1" + bytestream.zstd_compress(bytes(layout.MAX_PACKED), level=3)
    for _ in range(10):
        payload = pack_varints([1, layout.MAX_TARGETS, len(big)]) + big + b"x"
        parts.block(BlockType.DATA, payload, codec=0, role=Role.OPAQUE, decoded=1, ids=[0])
    parts.block(BlockType.HASH, blocks.pack_hashes([([0], hashlib.sha256(b"x").digest())]), ids=[0])
    return parts.end()


def huge_slabs() -> bytes:
    """Claim slabs as large as a block may be, coded as nothing."""
    from gpushrink.codec import matched
    from gpushrink.codec.table import pack_slab_head
    from gpushrink.model import SampleFormat, SlabShape

    size = layout.MAX_DECODED
    shape, sample = SlabShape(1, 1 << 13, size >> 13), SampleFormat(1)
    coded = pack_slab_head(shape, sample) + b"\x07\x01" + matched.encode(bytes(size))
    parts = trees.ArchiveParts().tree([file(b"a", size * 2)])
    for k in range(2):
        payload = blocks.pack_data(size, [Target(0, size, 0, k * size)], coded)
        parts.block(BlockType.DATA, payload, codec=BlockCodec.PLANES, role=Role.PIXELS, decoded=size, ids=[0])
    return parts.hashes({0: b"wrong"}).end()


BOMBS = {
    "zeros": lambda: zeros_blocks(8),
    "planes": lambda: planes_of_one_sample(1 << 23),
    "scattered": lambda: scattered_targets(3, 1 << 18),
    "paths": many_paths,
    "everything": index_of_everything,
    "runs": index_of_runs,
    "damage": damage_everywhere,
    "payloads": broken_payloads,
    "packed": packed_bombs,
    "slabs": huge_slabs,
}


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured the POSIX way")
@pytest.mark.parametrize("name", BOMBS)
def test_archive_that_claims_much_ends_in_an_error_in_bounded_memory(tmp_path: Path, name: str) -> None:
    """Verify and list end with an error of ours, well below the memory that the claims stand for."""
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    assert path.stat().st_size < 20 << 20
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", _CHILD, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    *said, peak = ran.stdout.splitlines()
    assert said[0].split()[1] in ("CorruptError", "TruncatedError", "DestinationError"), said
    assert int(peak) < LIMIT_MB, (name, peak)


def test_bombs_of_nested_claims_are_seen_from_memory_too() -> None:
    """A tree block of nothing but counts is corrupt at once."""
    from gpushrink.errors import CorruptError

    for payload in (
        pack_varint(0) + pack_varint(4096) + b"\0",
        pack_varint(0) + pack_varint(1) + b"\1" + bytestream.zstd_compress(b"", level=1),
    ):
        with pytest.raises(CorruptError):
            blocks.parse_tree(payload)
    assert io.BytesIO().read() == b""
