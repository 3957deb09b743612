"""The payloads of blocks come back, and each check of the specification is made."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushrink.archive import blocks, layout
from gpushrink.archive.index import BlockRecord, pack_index, parse_index, runs_of
from gpushrink.archive.layout import BLOCK_HEAD, PREAMBLE_SIZE, BlockType
from gpushrink.codec.varint import pack_column, pack_varint, pack_varints
from gpushrink.errors import CorruptError, NewerVersionError
from gpushrink.model import Entry, EntryKind, Target

names = st.binary(min_size=1, max_size=40)
times = st.integers(-(10**20), 10**20)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Draw a block of entries in order of path."""
    made = []
    for path in sorted(draw(st.sets(names, max_size=30))):
        kind = draw(st.sampled_from(EntryKind))
        size = draw(st.integers(0, layout.MAX_FILE)) if kind is EntryKind.FILE else 0
        link = draw(names) if kind is EntryKind.LINK else b""
        made.append(Entry(kind, path, draw(st.integers(0, 0o7777)), draw(times), size, link))
    return made


@settings(deadline=None, max_examples=60)
@given(entries(), st.integers(0, 1000))
def test_tree_of_any_entries_comes_back(made: list[Entry], first: int) -> None:
    """Kinds, modes, times of thousands of years, sizes of exabytes, names and links of any bytes come back."""
    assert blocks.parse_tree(blocks.pack_tree(first, made)) == (first, made)


def entry(
    path: bytes = b"a", *, kind: EntryKind = EntryKind.FILE, mode: int = 0, time: int = 0, size: int = 0
) -> Entry:
    """Make an entry."""
    return Entry(kind, path, mode, time, size)


@pytest.mark.parametrize(
    "made",
    [
        [entry(mode=0o10000)],
        [entry(mode=-1)],
        [entry(size=-1)],
        [entry(size=layout.MAX_FILE + 1)],
        [entry(kind=EntryKind.FOLDER, size=1)],
        [entry(time=((1 << 40) + 1) * 10**9)],
        [entry(time=-((1 << 40) + 1) * 10**9)],
        [entry(b"a" * 4097)],
        [entry(b"b"), entry(b"a")],
        [entry(b"a"), entry(b"a")],
    ],
    ids=["mode", "negative mode", "negative size", "size", "sized folder", "late", "early", "long", "order", "twice"],
)
def test_tree_with_values_out_of_range_is_corrupt(made: list[Entry]) -> None:
    """Modes, sizes, times and paths are held to their limits, and paths to their order."""
    with pytest.raises(CorruptError):
        blocks.parse_tree(blocks.pack_tree(0, made))


def test_tree_with_a_reserved_kind_is_refused_by_name() -> None:
    """Kind 3 is named."""
    body = b"\3" + pack_column([0]) * 4 + pack_varints([0, 1]) + b"a"
    with pytest.raises(NewerVersionError, match="kind 3"):
        blocks.parse_tree(pack_varint(0) + pack_varint(1) + layout.wrap_packed(body))


def test_tree_with_a_link_too_long_or_counts_over_the_limit_is_corrupt() -> None:
    """Links are held to 4096 bytes, blocks to 4096 entries, ids to the most an archive may have."""
    with pytest.raises(CorruptError):
        blocks.parse_tree(blocks.pack_tree(0, [Entry(EntryKind.LINK, b"a", 0, 0, 0, b"x" * 4097)]))
    with pytest.raises(CorruptError):
        blocks.parse_tree(blocks.pack_tree(0, [entry(b"%05d" % k) for k in range(4097)]))
    with pytest.raises(CorruptError):
        blocks.parse_tree(blocks.pack_tree(layout.MAX_ENTRIES + 1, [entry()]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 1 << 40)] * 2), max_size=20), st.binary(max_size=60))
def test_data_of_any_targets_comes_back(places: list[tuple[int, int]], coded: bytes) -> None:
    """Targets and coded bytes come back in their order."""
    targets = [Target(k, k + 1, file_id, offset) for k, (file_id, offset) in enumerate(places)]
    decoded = 2 * len(targets) + 1
    data = blocks.parse_data(memoryview(blocks.pack_data(decoded, targets, coded)))
    assert (data.decoded, list(data.targets()), bytes(data.coded)) == (decoded, targets, coded)


@pytest.mark.parametrize(
    "target",
    [
        *(Target(0, 0, 0, 0), Target(-1, 1, 0, 0), Target(0, 11, 0, 0), Target(10, 1, 0, 0)),
        *(Target(0, -1, 0, 0), Target(0, 1, -1, 0), Target(0, 1, 0, -1)),
    ],
    ids=repr,
)
def test_data_with_a_target_outside_is_corrupt(target: Target) -> None:
    """Empty runs, negative places and runs past the decoded bytes are refused."""
    with pytest.raises(CorruptError):
        blocks.parse_data(memoryview(blocks.pack_data(10, [target], b"")))


def test_data_with_targets_beyond_64_bits_is_corrupt() -> None:
    """Differences may sum to anything; what does not fit is refused."""
    column = pack_column([0]) + pack_varint((1 << 63) - 2) * 3
    packed = layout.wrap_packed(column * 4)
    payload = pack_varints([10, 4, len(packed)]) + packed
    with pytest.raises(CorruptError):
        blocks.parse_data(memoryview(payload))


@pytest.mark.parametrize(("decoded", "count"), [(layout.MAX_DECODED + 1, 0), (0, layout.MAX_TARGETS + 1)])
def test_data_over_its_limits_is_corrupt(decoded: int, count: int) -> None:
    """Sizes and counts are compared with the limits before anything is allocated."""
    with pytest.raises(CorruptError):
        blocks.parse_data(memoryview(pack_varints([decoded, count, 1]) + b"\0"))


@given(st.lists(st.tuples(st.lists(st.integers(0, (1 << 22) - 1), max_size=5), st.binary(min_size=32, max_size=32))))
def test_hashes_come_back(records: list[tuple[list[int], bytes]]) -> None:
    """Ids and digests come back."""
    assert blocks.parse_hashes(blocks.pack_hashes(records)) == records


def test_hashes_cut_are_corrupt() -> None:
    """At every length."""
    payload = blocks.pack_hashes([([1, 2, 300], bytes(32)), ([4], bytes(32))])
    for length in range(len(payload)):
        with pytest.raises(CorruptError):
            blocks.parse_hashes(payload[:length])


def test_more_hashes_than_files_are_refused_before_they_are_read() -> None:
    """A block of some megabytes must not become a hundred times as much."""
    payload = blocks.pack_hashes([([0, 1], bytes(32)), ([1, 0, 1], bytes(32))])
    assert len(blocks.parse_hashes(payload, 5)) == 2
    with pytest.raises(CorruptError, match="limit"):
        blocks.parse_hashes(payload, 4)
    with pytest.raises(CorruptError, match="no entry"):
        blocks.parse_hashes(blocks.pack_hashes([([4], bytes(32))]), 4)


def records_of(*rows: tuple[BlockType, int, list[int]]) -> tuple[list[BlockRecord], int]:
    """Make records that lie one after another, and the place of the index after them."""
    at, made = PREAMBLE_SIZE, []
    for kind, length, ids in rows:
        data = kind == BlockType.DATA
        made.append(BlockRecord(kind, 3 * data, 1 * data, at, length, 2 * length * data, runs_of(ids)))
        at += BLOCK_HEAD.size + length
    return made, at


ROWS = (
    (BlockType.INFO, 3, []),
    (BlockType.TREE, 900, []),
    (BlockType.DATA, 0, []),
    (BlockType.DATA, 1 << 20, [0, 1, 2, 9, 4, 4]),
    (BlockType.HASH, 34, [9, 0]),
)


def test_index_comes_back() -> None:
    """All rows with their runs of ids come back."""
    made, end = records_of(*ROWS)
    assert parse_index(pack_index(made), entries=10, end=end) == made
    assert list(made[3].file_ids()) == [0, 1, 2, 4, 9]
    assert made[3].concerns({4})
    assert not made[3].concerns({3, 5, 8, 10})


@pytest.mark.parametrize(("entries", "shift"), [(9, 0), (10, 1), (10, -1), (10, 10**6)])
def test_index_that_does_not_fit_the_archive_is_corrupt(entries: int, shift: int) -> None:
    """Ids over the entries, and rows that do not reach the index, are refused."""
    made, end = records_of(*ROWS)
    with pytest.raises(CorruptError):
        parse_index(pack_index(made), entries=entries, end=end + shift)


@pytest.mark.parametrize("changed", ["offset", "length", "decoded"])
def test_index_with_gaps_or_sizes_out_of_range_is_corrupt(changed: str) -> None:
    """Rows lie one after another, and only data has a decoded size, within the limit."""
    from dataclasses import replace

    made, end = records_of(*ROWS)
    for k, value in ((1, 1), (3, layout.MAX_DECODED + 1), (3, -1)):
        some = list(made)
        some[k] = replace(made[k], **{changed: value})
        with pytest.raises(CorruptError):
            parse_index(pack_index(some), entries=10, end=end)


def test_index_that_claims_millions_of_blocks_costs_nothing() -> None:
    """The number of rows is compared with the archive's length first."""
    payload = layout.wrap_packed(pack_varint(40_000_000) + bytes(1 << 20))
    with pytest.raises(CorruptError):
        parse_index(payload, entries=10, end=10_000)


def test_index_that_names_millions_of_ids_stays_small() -> None:
    """A run is a run, however long: ids are never listed."""
    made, end = records_of(*[(BlockType.DATA, 1, list(range(100_000)))] * 50)
    parsed = parse_index(pack_index(made), entries=layout.MAX_ENTRIES, end=end)
    assert all(len(record.runs) == 2 for record in parsed)


@pytest.mark.parametrize(("field", "value"), [("codec", 9), ("role", 9)])
def test_index_with_reserved_values_is_refused_by_name(field: str, value: int) -> None:
    """Codecs and roles that version 1 does not know are named."""
    from dataclasses import replace

    made, end = records_of(*ROWS)
    with pytest.raises(NewerVersionError, match="9"):
        parse_index(pack_index([*made[:3], replace(made[3], **{field: value}), made[4]]), entries=10, end=end)


def test_info_comes_back_and_limits_hold() -> None:
    """Counts come back; one over the limit is refused."""
    assert blocks.parse_info(blocks.pack_info(5, 1 << 50)) == (5, 1 << 50)
    with pytest.raises(CorruptError):
        blocks.parse_info(blocks.pack_info(layout.MAX_ENTRIES + 1, 0))
    with pytest.raises(CorruptError):
        blocks.parse_info(blocks.pack_info(1, 1) + b"x")
