"""Archives are read in sequence past damage, and by index where the stream can seek."""

from __future__ import annotations

import io
import random

import pytest

import trees
from gpushrink.archive.layout import BlockType
from gpushrink.archive.reader import Block, Damage, peek_data, read_block, read_blocks, read_catalogue
from gpushrink.errors import CorruptError, TruncatedError
from gpushrink.model import Entry, EntryKind, Target


@pytest.fixture
def archive() -> bytes:
    """Give an archive of three small files."""
    entries = [Entry(EntryKind.FILE, b"%d" % k, 0o644, 0, 100) for k in range(3)]
    return trees.stored_archive(entries, {k: bytes([k]) * 100 for k in range(3)})


def kinds(data: bytes, *, step: int = 10**9) -> list[str]:
    """Name what reading in sequence yields."""
    stream = trees.PipeIn(data, step=step)
    return [
        BlockType(item.head.type).name if isinstance(item, Block) else type(item.error).__name__
        for item in read_blocks(stream)  # type: ignore[arg-type]
    ]


WHOLE = ["INFO", "TREE", "DATA", "DATA", "DATA", "HASH", "INDEX"]


@pytest.mark.parametrize("step", [1, 7, 100, 10**9])
def test_blocks_come_in_order_whatever_a_pipe_gives_at_a_time(archive: bytes, step: int) -> None:
    """Short reads change nothing."""
    assert kinds(archive, step=step) == WHOLE


def test_blocks_after_a_damaged_payload_are_read(archive: bytes) -> None:
    """A payload that fails its checksum costs one block."""
    records = read_catalogue(io.BytesIO(archive)).records
    damaged = bytearray(archive)
    damaged[records[3].offset + 30] ^= 1
    assert kinds(bytes(damaged)) == [*WHOLE[:3], "CorruptError", *WHOLE[4:]]


def test_blocks_after_a_damaged_head_are_found_again(archive: bytes) -> None:
    """Where a header fails, the next one that holds is found, wherever buffers end."""
    records = read_catalogue(io.BytesIO(archive)).records
    for gap in (0, 1, 23, 24, (1 << 16) - 30, (1 << 16) - 3, 1 << 16, (1 << 17) + 5):
        place = records[4].offset
        damaged = archive[: place - 130] + b"#" * gap + archive[place:]
        found = kinds(damaged, step=5000)
        assert found[:3] == WHOLE[:3]
        assert "CorruptError" in found
        assert found[-4:] == ["DATA", "HASH", "INDEX", "CorruptError"]


def test_false_block_magics_in_noise_are_passed_over(archive: bytes) -> None:
    """A magic without a header that holds is no block, even a thousand of them."""
    place = read_catalogue(io.BytesIO(archive)).records[2].offset
    noise = b"GSZb" * 1000 + random.Random(1).randbytes(999) + b"GSZ"
    assert kinds(archive[:place] + noise + archive[place:])[-6:-1] == WHOLE[2:]


def test_archive_ending_inside_a_block_ends_with_truncated(archive: bytes) -> None:
    """The last item says where the archive ends."""
    *_, last = read_blocks(io.BytesIO(archive[:400]))
    assert isinstance(last, Damage)
    assert isinstance(last.error, TruncatedError)
    assert "400" in str(last.error)


def test_block_by_index_row_must_be_the_one_named(archive: bytes) -> None:
    """A row that names another place, length or type is corrupt, never a wrong block."""
    from dataclasses import replace

    stream = io.BytesIO(archive)
    record = read_catalogue(stream).records[2]
    assert bytes(read_block(stream, record).payload).endswith(bytes(100))
    for wrong in (
        replace(record, offset=record.offset + 1),
        replace(record, offset=len(archive)),
        replace(record, offset=1 << 62),
        replace(record, length=record.length + 1),
        replace(record, type=BlockType.HASH),
        replace(record, codec=1),
    ):
        with pytest.raises(CorruptError):
            read_block(stream, wrong)


def test_catalogue_by_index_and_in_sequence_agree(archive: bytes) -> None:
    """Both ways give the same tree, hashes and blocks."""
    one = read_catalogue(io.BytesIO(archive))
    two = read_catalogue(trees.PipeIn(archive))  # type: ignore[arg-type]
    assert (one.entries, one.digests, one.records) == (two.entries, two.digests, two.records)
    assert one.archive_length == two.archive_length == len(archive)


def test_catalogue_of_a_tree_that_lacks_entries_is_corrupt() -> None:
    """A tree with fewer entries than promised is never shown as whole."""
    entries = [Entry(EntryKind.FILE, b"a", 0, 0)]
    data = trees.ArchiveParts().tree(entries, count=2).hashes({0: b""}).end()
    for stream in (io.BytesIO(data), trees.PipeIn(data)):
        with pytest.raises(CorruptError, match="1 of its 2"):
            read_catalogue(stream)  # type: ignore[arg-type]


@pytest.mark.parametrize("many", [1, 3000])
def test_peek_tells_where_a_block_s_bytes_belong(many: int) -> None:
    """Without the coded bytes, however long the list of targets is."""
    rng = random.Random(2)
    size = 4 * many
    content = rng.randbytes(size)
    order = list(range(many))
    rng.shuffle(order)
    targets = [Target(4 * k, 4, 0, 4 * place) for k, place in enumerate(order)]
    parts = trees.ArchiveParts().tree([Entry(EntryKind.FILE, b"a", 0o644, 0, size)])
    archive = parts.stored(targets, content).hashes({0: content}).end()
    record = read_catalogue(io.BytesIO(archive)).records[2]
    data = peek_data(io.BytesIO(archive), record)
    assert list(data.targets()) == targets
    assert (data.decoded, len(data.coded)) == (size, 0)
    damaged = bytearray(archive)
    damaged[record.offset + 24 : record.offset + 34] = b"\xff" * 10
    with pytest.raises(CorruptError, match=f"byte {record.offset}"):
        peek_data(io.BytesIO(damaged), record)
    with pytest.raises(CorruptError):
        peek_data(io.BytesIO(archive[: record.offset + 26]), record)
