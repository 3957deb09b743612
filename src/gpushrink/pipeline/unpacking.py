"""The way back: blocks are read in order, decoded in parallel, placed in order, proven, renamed."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gpushrink.archive import blocks, reader
from gpushrink.archive.index import BlockRecord, parse_index, runs_of
from gpushrink.archive.layout import MAX_ENTRIES, MAX_RUNS, BlockType
from gpushrink.archive.reader import Block, Catalogue, Damage
from gpushrink.archive.restore import FolderKeeper, Keeper, NullKeeper
from gpushrink.archive.restorer import Proof, Restorer
from gpushrink.codec.parallel import Team
from gpushrink.codec.table import CPU, SlabCodec, decode_block
from gpushrink.errors import (
    CorruptError,
    UsageError,
)
from gpushrink.model import BlockCodec, EntryKind
from gpushrink.pipeline.crew import Crew
from gpushrink.pipeline.progress import ProgressFactory, silent
from gpushrink.pipeline.restore_report import RestoreReport
from gpushrink.pipeline.sharing import decode_shared

__all__ = ["restore_all", "restore_some", "unpack_archive", "verify_archive"]

# Coded and decoded bytes on their way: what bounds memory, whatever the number of threads. Sixteen large slabs fit.
_FLIGHT_BYTES = 384 << 20
# Larger blocks than this hold a frame of that size, or a lie; what their decoders need beside it counts too.
_LARGE_BLOCK = 32 << 20
# Bytes of files that are being hashed and written.
_PROOF_BYTES = 64 << 20
_PROOFS = 8
# Threads that hash and write are few, and of their own: behind slabs that wait for a device they would come too late.
_DECODERS_A_PROVER = 4

# Decoded bytes of an archive, for each of its own, where it is worth to know at the beginning.
_USUAL_RATIO = 3

Decoded = tuple[blocks.DataBlock, memoryview]


def unpack_archive(
    stream: BinaryIO,
    destination: Path,
    *,
    paths: Collection[bytes] = (),
    force: bool = False,
    threads: int,
    slab_codec: SlabCodec = CPU,
    crew: Crew | None = None,
    progress: ProgressFactory = silent,
) -> RestoreReport:
    """Bring an archive's tree back below `destination`.

    Parameters
    ----------
    stream
        The archive; a pipe will do unless `paths` are given.
    paths
        Bring back only these files, and what lies in these folders; empty for all.
    crew
        Who shares the work, where there is enough of it.

    Raises
    ------
    UsageError
        If a path is not in the archive, or `paths` are asked of a pipe.
    DestinationError
        If something is in the way or cannot be written.
    NotAnArchiveError, NewerVersionError
        If the archive says so. Damage is in the report instead: what is proven is restored.
    """
    keeper = FolderKeeper(destination, force=force)
    if paths:
        return restore_some(stream, keeper, paths, threads=threads, slab_codec=slab_codec)
    return restore_all(stream, keeper, threads=threads, slab_codec=slab_codec, crew=crew, progress=progress)


def verify_archive(
    stream: BinaryIO, *, threads: int, crew: Crew | None = None, progress: ProgressFactory = silent
) -> RestoreReport:
    """Decode a whole archive on the CPU and prove every file's hash, writing nothing."""
    return restore_all(stream, NullKeeper(), threads=threads, crew=crew, progress=progress)


def restore_all(
    stream: BinaryIO,
    keeper: Keeper,
    *,
    threads: int,
    slab_codec: SlabCodec = CPU,
    crew: Crew | None = None,
    progress: ProgressFactory = silent,
) -> RestoreReport:
    """Follow an archive from front to back."""
    restorer = Restorer(keeper)
    length = _length(stream)
    shared = crew is not None and crew.begin_for(_USUAL_RATIO * length if stream.seekable() else None)
    try:
        with (
            progress(length, 0) as bar,
            Team(1 if shared else threads) as team,
            ThreadPoolExecutor(threads) as pool,
            ThreadPoolExecutor(max(1, threads // _DECODERS_A_PROVER)) as provers,
        ):
            decode = partial(_decode, slab_codec=slab_codec, team=team, crew=crew)
            story = _Story(restorer, decode, pool, provers, most=2 * threads)
            try:
                for item in reader.read_blocks(stream, progress=bar.advance_to):
                    if isinstance(item, Damage):
                        story.report.note(item.error)
                    else:
                        story.take(item)
                story.end()
            except BaseException:
                story.cancel()
                raise
            restorer.finish()
    finally:
        restorer.abandon()
    return _fill(story.report, restorer, length)


class _Story:
    """Take blocks as they come: the tree first, then data decoded in parallel and used in order."""

    def __init__(
        self,
        restorer: Restorer,
        decode: Callable[[Block], Decoded],
        pool: ThreadPoolExecutor,
        provers: ThreadPoolExecutor,
        *,
        most: int,
    ) -> None:
        self.report = RestoreReport()
        self._restorer, self._pool, self._provers = restorer, pool, provers
        self._most = most
        self._decode = decode
        self._catalogue = Catalogue()
        self._seen: list[BlockRecord] = []
        self._runs = 0
        self._prepared = False
        self._window: deque[tuple[Block, Future[Decoded] | None, int]] = deque()
        self._flight = 0
        self._proofs: deque[tuple[list[Proof], Future[list[CorruptError | None]], int]] = deque()
        self._proving = 0

    def take(self, block: Block) -> None:
        head = block.head
        blocks.check_codec_and_role(head.type, head.codec, head.role)
        if head.type in (BlockType.INFO, BlockType.TREE):
            with self._noted(block):
                if self._prepared:
                    raise CorruptError("a part of the tree comes after data")
                self._catalogue.add(head, block.payload)
                self._see(block)
            return
        self._prepare()
        size = len(block.payload)
        if head.type == BlockType.DATA:
            decoded = blocks.peek_decoded(block.payload)
            size += 2 * decoded if decoded > _LARGE_BLOCK else decoded
        while self._window and (
            self._is_done() or len(self._window) >= self._most or self._flight + size > _FLIGHT_BYTES
        ):
            self._settle()
        future = self._pool.submit(self._decode, block) if head.type == BlockType.DATA else None
        self._window.append((block, future, size))
        self._flight += size

    def end(self) -> None:
        self._prepare()
        while self._window:
            self._settle()
        while self._proofs:
            self._end_batch()
        if not self.report.damage:
            try:
                self._catalogue.insist_whole()
            except CorruptError as error:
                self.report.note(error)

    def cancel(self) -> None:
        for _, future, _ in self._window:
            if future is not None:
                future.cancel()
        for _, proofs, _ in self._proofs:
            proofs.cancel()

    def _prepare(self) -> None:
        if not self._prepared:
            self._prepared = True
            self._restorer.prepare(self._catalogue.entries)

    def _is_done(self) -> bool:
        future = self._window[0][1]
        return future is None or future.done()

    def _settle(self) -> None:
        block, future, size = self._window.popleft()
        self._flight -= size
        with self._noted(block):
            if block.head.type == BlockType.INDEX:
                self._compare_index(block)
                return
            if future is not None:
                ids, decoded = _place(future, self._restorer, self._catalogue.count)
                self._see(block, decoded, ids)
                return
            records = blocks.parse_hashes(block.payload, self._catalogue.count)
            self._begin_proofs(proof for ids, digest in records for proof in self._restorer.begin_proofs(ids, digest))
            self._see(block, 0, (i for ids, _ in records for i in ids))

    def _begin_proofs(self, proofs: Iterable[Proof]) -> None:
        """Have files hashed and written by threads, small ones some at a time: handing one over costs as much."""
        batch: list[Proof] = []
        size = 0
        for proof in proofs:
            batch.append(proof)
            size += proof.entry.size
            if len(batch) == _PROOFS or size > _PROOF_BYTES // 4:
                self._begin_batch(batch, size)
                batch, size = [], 0
        if batch:
            self._begin_batch(batch, size)

    def _begin_batch(self, batch: list[Proof], size: int) -> None:
        """Hand proofs over; wait for others where they hold much memory."""
        while self._proofs and (self._proofs[0][1].done() or self._proving + size > _PROOF_BYTES):
            self._end_batch()
        self._proofs.append((batch, self._provers.submit(_run_proofs, batch), size))
        self._proving += size

    def _end_batch(self) -> None:
        batch, future, size = self._proofs.popleft()
        self._proving -= size
        for proof, error in zip(batch, future.result(), strict=True):
            self._restorer.end_proof(proof, error)

    def _see(self, block: Block, decoded: int = 0, ids: Iterable[int] = ()) -> None:
        runs, head = runs_of(ids), block.head
        self._runs += len(runs) // 2
        if self._runs > MAX_RUNS:
            raise CorruptError("the archive is more scattered than the limit")
        kind = BlockType(head.type)
        self._seen.append(BlockRecord(kind, head.codec, head.role, block.offset, head.length, decoded, runs))

    def _compare_index(self, block: Block) -> None:
        """Prove that reading by the index will find what reading in sequence found."""
        count = self._catalogue.count or MAX_ENTRIES
        records = parse_index(block.payload, entries=count, end=block.offset)
        if not self.report.damage and records != self._seen:
            raise CorruptError("the index does not name the blocks that are there")

    @contextlib.contextmanager
    def _noted(self, block: Block) -> Iterator[None]:
        try:
            yield
        except CorruptError as error:
            self.report.note(CorruptError(f"{error} (block at byte {block.offset})"))


def restore_some(
    stream: BinaryIO, keeper: Keeper, paths: Collection[bytes], *, threads: int = 1, slab_codec: SlabCodec = CPU
) -> RestoreReport:
    """Bring some files back from the blocks they need alone, one after another.

    Raises
    ------
    UsageError
        If the stream cannot seek, or a path is not in the archive.
    """
    if not stream.seekable():
        raise UsageError("single files can be taken from a file only, not from a pipe")
    catalogue = reader.read_catalogue(stream)
    wanted: set[int] = set()
    for path in paths:
        found = {
            i for i, e in catalogue.entries.items() if e.path == path or e.path.startswith(path.rstrip(b"/") + b"/")
        }
        if not found:
            raise UsageError(f"the archive holds no {os.fsdecode(path)!r}; `gpushrink list` shows what it holds")
        wanted |= found
    parents = {e.path.rpartition(b"/")[0] for i, e in catalogue.entries.items() if i in wanted}
    needed = {parent[:k] for parent in parents for k in range(1, len(parent) + 1) if parent[k : k + 1] in (b"/", b"")}
    wanted |= {i for i, e in catalogue.entries.items() if e.kind is EntryKind.FOLDER and e.path in needed}
    restorer, report = Restorer(keeper, wanted=wanted), RestoreReport()
    needed_blocks = (
        record
        for record in catalogue.records
        if record.type in (BlockType.DATA, BlockType.HASH) and record.concerns(wanted)
    )
    try:
        restorer.prepare(catalogue.entries)
        with Team(threads) as team:
            for record in needed_blocks:
                try:
                    block = reader.read_block(stream, record)
                    if record.type == BlockType.DATA:
                        future: Future[Decoded] = Future()
                        future.set_result(_decode(block, slab_codec=slab_codec, team=team))
                        _place(future, restorer, catalogue.count)
                        continue
                    for ids, digest in blocks.parse_hashes(block.payload, catalogue.count):
                        restorer.prove(ids, digest)
                except CorruptError as error:
                    report.note(CorruptError(f"{error} (block at byte {record.offset})"))
        restorer.finish()
    finally:
        restorer.abandon()
    return _fill(report, restorer, catalogue.archive_length)


def _decode(block: Block, *, slab_codec: SlabCodec, team: Team, crew: Crew | None = None) -> Decoded:
    try:
        data = blocks.parse_data(block.payload)
        codec = BlockCodec(block.head.codec)
        if crew is not None:
            return data, decode_shared(crew, codec, data.coded, data.decoded, slab_codec=slab_codec, team=team)
        with team.at_work():
            found = decode_block(codec, data.coded, data.decoded, slab_codec=slab_codec, threads=team)
        return data, memoryview(found)
    except CorruptError as error:
        why = str(error)
    raise CorruptError(why)  # a new one: the traceback of the old would keep all that was allocated alive


def _run_proofs(batch: list[Proof]) -> list[CorruptError | None]:
    return [proof.run() for proof in batch]


def _place(future: Future[Decoded], restorer: Restorer, entries: int) -> tuple[Iterable[int], int]:
    """Hand what a DATA block holds to the restorer; return the ids it concerns and its decoded size."""
    data, decoded = future.result()
    restorer.place(data.targets(), decoded)
    if max(data.file_ids, default=0) >= (entries or MAX_ENTRIES):
        raise CorruptError("data belongs to no entry")
    return data.file_ids, data.decoded


def _fill(report: RestoreReport, restorer: Restorer, length: int) -> RestoreReport:
    whole = [e for i, e in restorer.entries.items() if i not in restorer.failures]
    report.files = len(restorer.proven)
    report.size = restorer.bytes_proven
    report.folders = sum(e.kind is EntryKind.FOLDER for e in whole)
    report.links = sum(e.kind is EntryKind.LINK for e in whole)
    report.archive_bytes = length
    report.failures = [(restorer.entries[i].path, error) for i, error in sorted(restorer.failures.items())]
    return report


def _length(stream: BinaryIO) -> int:
    if not stream.seekable():
        return 0
    at = stream.tell()
    length = stream.seek(0, 2) - at
    stream.seek(at)
    return length
