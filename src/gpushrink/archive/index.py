"""The index at the end of an archive: where each block lies and which files it concerns.

Source: docs/format.md#index.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gpushrink.archive.blocks import check_codec_and_role
from gpushrink.archive.layout import (
    BLOCK_HEAD,
    MAX_DECODED,
    MAX_RUNS,
    PREAMBLE_SIZE,
    BlockType,
    unwrap_packed,
    wrap_packed,
)
from gpushrink.codec.varint import Cursor, pack_column, pack_varint
from gpushrink.errors import NewerVersionError

__all__ = ["BlockRecord", "pack_index", "parse_index", "runs_of"]


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """Say where a block lies and what it concerns; one row of the index.

    Parameters
    ----------
    offset, length
        Of the block's header in the archive; of its payload.
    decoded
        Decoded size of a DATA block, else 0.
    runs
        The ids of the files a DATA or HASH block concerns: start and stop of each run, ascending. Runs, because
        a few bytes of a hostile index may name millions of ids.
    """

    type: BlockType
    codec: int
    role: int
    offset: int
    length: int
    decoded: int = 0
    runs: array[int] = field(default_factory=lambda: array("q"))

    def file_ids(self) -> Iterator[int]:
        """Give the ids one by one."""
        for start, stop in zip(self.runs[::2], self.runs[1::2], strict=True):
            yield from range(start, stop)

    def concerns(self, wanted: Collection[int]) -> bool:
        """Tell whether the block is needed for any of these files."""
        return any(
            any(i in wanted for i in range(start, stop))
            if stop - start < len(wanted)
            else any(start <= i < stop for i in wanted)
            for start, stop in zip(self.runs[::2], self.runs[1::2], strict=True)
        )


def runs_of(ids: Iterable[int]) -> array[int]:
    """Return ids, in any order and with repeats, as starts and stops of runs."""
    runs = array("q")
    for value in sorted(set(ids)):
        if runs and value == runs[-1]:
            runs[-1] += 1
        else:
            runs.extend((value, value + 1))
    return runs


def pack_index(records: Sequence[BlockRecord]) -> bytes:
    """Return an INDEX payload for the blocks before it."""
    parts = [
        pack_varint(len(records)),
        bytes(record.type for record in records),
        bytes(record.codec for record in records),
        bytes(record.role for record in records),
        pack_column(record.offset for record in records),
        pack_column(record.length for record in records),
        pack_column(record.decoded for record in records),
    ]
    for record in records:
        if record.type in (BlockType.DATA, BlockType.HASH):
            parts.append(pack_varint(len(record.runs) // 2))
            last = 0
            for start, stop in zip(record.runs[::2], record.runs[1::2], strict=True):
                parts.append(pack_varint(start - last) + pack_varint(stop - start))
                last = stop
    return wrap_packed(b"".join(parts))


def parse_index(payload: bytes | memoryview, *, entries: int, end: int) -> list[BlockRecord]:
    """Return the rows of the index.

    Parameters
    ----------
    entries
        Bounds the ids.
    end
        Offset of the INDEX block: the rows must fill the archive from the preamble to there.

    Raises
    ------
    CorruptError
        If they do not, or the payload contradicts itself.
    NewerVersionError
        If a row uses a reserved value.
    """
    what = "the INDEX block"
    cursor = unwrap_packed(Cursor(payload, what), what)
    count = cursor.varint(max(0, end - PREAMBLE_SIZE) // BLOCK_HEAD.size)
    types, codecs, roles = cursor.take(count), cursor.take(count), cursor.take(count)
    offsets, lengths, decoded = cursor.column(count), cursor.column(count), cursor.column(count)
    records, runs_left, place = [], MAX_RUNS, PREAMBLE_SIZE
    for kind, codec, role, offset, length, size in zip(types, codecs, roles, offsets, lengths, decoded, strict=True):
        if kind not in BlockType._value2member_map_:
            raise NewerVersionError(f"{what} names block type {kind}, which is reserved; update gpushrink")
        check_codec_and_role(kind, codec, role)
        if offset != place or length < 0 or not 0 <= size <= MAX_DECODED or (size and kind != BlockType.DATA):
            raise cursor.fail("a row does not fit the row before it")
        place += BLOCK_HEAD.size + length
        runs = array("q")
        if kind in (BlockType.DATA, BlockType.HASH):
            last, many = 0, cursor.varint(runs_left)
            runs_left -= many
            for _ in range(many):
                start = last + cursor.varint(entries)
                last = start + cursor.varint(entries)
                if last > entries or last == start:
                    raise cursor.fail("a run of file ids is empty or out of range")
                runs.extend((start, last))
        records.append(BlockRecord(BlockType(kind), codec, role, offset, length, size, runs))
    if place != end:
        raise cursor.fail("the rows do not reach the index")
    cursor.end()
    return records
