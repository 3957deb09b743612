"""Archives whose checksums hold and whose content lies: an error of ours or right bytes, nothing else."""

from __future__ import annotations

import contextlib
import io
import random
import struct

import pytest

from gpushrink.archive import layout
from gpushrink.archive.layout import BlockType
from gpushrink.archive.reader import read_catalogue
from gpushrink.errors import ArchiveError, GpushrinkError, NewerVersionError
from gpushrink.pipeline.describing import describe_catalogue
from gpushrink.pipeline.unpacking import restore_all, restore_some

Victim = tuple[bytes, dict[bytes, bytes]]
Parts = list[tuple[list[int], bytes]]


def take_apart(data: bytes) -> Parts:
    """Split an archive in (type, codec, role, reserved) and payload of each block."""
    parts, at = [], layout.PREAMBLE_SIZE
    while at < len(data) - layout.TRAILER_SIZE:
        kind, codec, role, reserved, length = struct.unpack_from("<BBBBQ", data, at + 4)
        at += layout.BLOCK_HEAD.size
        parts.append(([kind, codec, role, reserved], data[at : at + length]))
        at += length
    return parts


def put_together(parts: Parts) -> bytes:
    """Write blocks with good checksums and an end mark that fits."""
    out, index = bytearray(layout.pack_preamble()), 0
    for (kind, codec, role, reserved), payload in parts:
        index = len(out)
        head = bytearray(layout.pack_block_head(kind, payload, codec=codec, role=role))  # type: ignore[arg-type]
        head[7] = reserved
        out += head[:20] + struct.pack("<I", layout.zlib.crc32(head[:20])) + payload
    return bytes(out + layout.pack_trailer(index, len(out) + layout.TRAILER_SIZE))


def mutate(payload: bytes, source: random.Random) -> bytes:
    """Change a few bytes: flip, set to an extreme, insert, remove, repeat."""
    out = bytearray(payload)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        place = source.randrange(len(out) + 1)
        match_ = source.randrange(6)
        if match_ == 0 or place == len(out):
            out[place:place] = source.randbytes(source.choice((1, 1, 9)))
        elif match_ == 1:
            del out[place : place + source.choice((1, 1, 5))]
        elif match_ == 2:
            out[place] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif match_ == 3:
            out[place:place] = b"\xff" * 8 + b"\x7f"
        else:
            out[place] ^= 1 << source.randrange(8)
    return bytes(out)


def check(data: bytes, keeper: object, truth: dict[bytes, bytes]) -> None:
    """Read an archive in every way and insist on our errors and right contents."""
    contents = set(truth.values())
    with contextlib.suppress(GpushrinkError):
        restore_all(io.BytesIO(data), keeper, threads=1)  # type: ignore[arg-type]
    assert set(keeper.files.values()) <= contents  # type: ignore[attr-defined]
    try:
        stream = io.BytesIO(data)
        catalogue = read_catalogue(stream)
        describe_catalogue(catalogue)
        some = type(keeper)()
        restore_some(stream, some, [b"series", b"copy.dcm"])
    except GpushrinkError:
        return
    assert set(some.files.values()) <= contents


@pytest.mark.parametrize("seed", range(6))
def test_archive_with_lying_payloads_never_gives_wrong_bytes(victim: Victim, keeper: type, seed: int) -> None:
    """Random changes behind repaired checksums end in an error of ours or in right bytes."""
    data, truth = victim
    parts, source = take_apart(data), random.Random(seed)
    assert put_together(parts) == data
    for _ in range(400):
        some = list(parts)
        k = source.randrange(len(some))
        some[k] = (some[k][0], mutate(some[k][1], source))
        check(put_together(some), keeper(), truth)


def test_archive_with_blocks_lost_doubled_or_moved_never_gives_wrong_bytes(victim: Victim, keeper: type) -> None:
    """Whole blocks in wrong places are no way in either."""
    data, truth = victim
    parts, source = take_apart(data), random.Random(9)
    for _ in range(400):
        some = list(parts)
        match_ = source.randrange(3)
        k, m = source.randrange(len(some)), source.randrange(len(some))
        if match_ == 0:
            del some[k]
        elif match_ == 1:
            some.insert(m, some[k])
        else:
            some[k], some[m] = some[m], some[k]
        wrong = keeper()
        check(put_together(some), wrong, truth)


@pytest.mark.parametrize("place", range(4))
def test_archive_with_reserved_head_fields_is_refused_by_name(victim: Victim, keeper: type, place: int) -> None:
    """A type, codec, role or reserved byte that version 1 does not know is never ignored."""
    data, _ = victim
    parts = take_apart(data)
    first = next(k for k, part in enumerate(parts) if part[0][0] == BlockType.DATA)
    for k in {first, len(parts) - 2} if place in (0, 3) else {first}:
        some = [(list(head), payload) for head, payload in parts]
        some[k][0][place] = 77
        with pytest.raises(NewerVersionError, match="77"):
            restore_all(io.BytesIO(put_together(some)), keeper(), threads=1)


@pytest.mark.parametrize("place", [1, 2])
def test_archive_with_codec_or_role_on_other_blocks_is_refused(victim: Victim, keeper: type, place: int) -> None:
    """Fields that only DATA uses are zero elsewhere."""
    parts = take_apart(victim[0])
    for k, (head, _) in enumerate(parts):
        if head[0] != BlockType.DATA:
            some = [(list(head), payload) for head, payload in parts]
            some[k][0][place] = 1
            with pytest.raises(NewerVersionError):
                restore_all(io.BytesIO(put_together(some)), keeper(), threads=1)


def test_archive_of_a_newer_version_is_refused_by_name(victim: Victim, keeper: type) -> None:
    """Version 2 is named, both ways, and nothing is restored."""
    data = bytearray(victim[0])
    data[8] = 2
    data[12:16] = struct.pack("<I", layout.zlib.crc32(data[:12]))
    for read in (lambda: restore_all(io.BytesIO(data), keeper(), threads=1), lambda: read_catalogue(io.BytesIO(data))):
        with pytest.raises(NewerVersionError, match="version 2"):
            read()


def test_archive_whose_tree_comes_after_data_reports_what_it_lost(victim: Victim, keeper: type) -> None:
    """Entries that come too late are damage, never silently left out."""
    data, truth = victim
    parts = take_apart(data)
    some = [parts[0], *parts[2:-1], parts[1], parts[-1]]
    assert parts[1][0][0] == BlockType.TREE
    kept = keeper()
    report = restore_all(io.BytesIO(put_together(some)), kept, threads=1)
    assert isinstance(report.worst(), ArchiveError)
    assert kept.files.items() <= truth.items()


def test_archive_whose_index_lies_is_corrupt(victim: Victim, keeper: type) -> None:
    """Verify compares the index with the blocks: otherwise single files could not be restored from a proven archive."""
    from gpushrink.archive.index import BlockRecord, pack_index

    data, _ = victim
    parts = take_apart(data)
    records = read_catalogue(io.BytesIO(data)).records
    k = next(k for k, record in enumerate(records) if record.type == BlockType.DATA)
    old = records[k]
    for new in (
        BlockRecord(old.type, old.codec, old.role, old.offset, old.length, old.decoded + 1, old.runs),
        BlockRecord(old.type, old.codec, old.role, old.offset, old.length, old.decoded, old.runs[2:]),
        BlockRecord(old.type, old.codec, (old.role + 1) % 4, old.offset, old.length, old.decoded, old.runs),
    ):
        lying = [*records[:k], new, *records[k + 1 :]]
        some = [*parts[:-1], (parts[-1][0], pack_index(lying))]
        report = restore_all(io.BytesIO(put_together(some)), keeper(), threads=1)
        assert report.damage, new
