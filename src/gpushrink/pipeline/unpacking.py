"""The way back: blocks are read in order, decoded in parallel, placed in order, proven, renamed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gpushrink.archive import blocks, reader
from gpushrink.archive.layout import BlockType
from gpushrink.archive.reader import Block, Catalogue, Damage
from gpushrink.archive.restore import FolderKeeper, Keeper, NullKeeper, Restorer
from gpushrink.codec.table import decode_block
from gpushrink.errors import (
    ArchiveError,
    CorruptError,
    GpushrinkError,
    NewerVersionError,
    TruncatedError,
    UnsafePathError,
    UsageError,
)
from gpushrink.model import BlockCodec, EntryKind
from gpushrink.pipeline.progress import ProgressFactory, silent

__all__ = ["RestoreReport", "restore_all", "restore_some", "unpack_archive", "verify_archive"]

Decoded = tuple[blocks.DataBlock, memoryview]


@dataclass(slots=True)
class RestoreReport:
    """Say what an unpack or a verify brought back.

    Parameters
    ----------
    files, size
        Proven files and their size.
    failures
        Path and reason for each file, link or folder that was not brought back.
    damage
        What is wrong with the archive itself, in order of place.
    """

    files: int = 0
    folders: int = 0
    links: int = 0
    size: int = 0
    archive_bytes: int = 0
    failures: list[tuple[bytes, GpushrinkError]] = field(default_factory=list)
    damage: list[ArchiveError] = field(default_factory=list)

    def worst(self) -> GpushrinkError | None:
        """Return the error that the whole run should end with, or None if all is well."""
        kinds: list[GpushrinkError] = [*self.damage, *(error for _, error in self.failures)]
        for kind in (NewerVersionError, UnsafePathError, TruncatedError, CorruptError):
            found = next((error for error in kinds if isinstance(error, kind)), None)
            if found is not None and not (kind is TruncatedError and _has_corruption(self.damage)):
                lost = f"; {len(self.failures)} entries were not brought back" if self.failures else ""
                return kind(f"{found}{lost}")
        return kinds[0] if kinds else None

    def as_json(self) -> dict[str, object]:
        """Return the report as values that JSON can hold."""
        return {
            "files": self.files,
            "folders": self.folders,
            "links": self.links,
            "bytes": self.size,
            "archive_bytes": self.archive_bytes,
            "failures": [
                {"path": os.fsdecode(path).encode("utf-8", "replace").decode(), "error": str(error)}
                for path, error in self.failures
            ],
            "damage": [str(error) for error in self.damage],
        }


def unpack_archive(
    stream: BinaryIO,
    destination: Path,
    *,
    paths: Collection[bytes] = (),
    force: bool = False,
    threads: int,
    progress: ProgressFactory = silent,
) -> RestoreReport:
    """Bring an archive's tree back below `destination`.

    Parameters
    ----------
    stream
        The archive; a pipe will do unless `paths` are given.
    paths
        Bring back only these files, and what lies in these folders; empty for all.

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
        return restore_some(stream, keeper, paths, threads=threads)
    return restore_all(stream, keeper, threads=threads, progress=progress)


def verify_archive(stream: BinaryIO, *, threads: int, progress: ProgressFactory = silent) -> RestoreReport:
    """Decode a whole archive and prove every file's hash, writing nothing."""
    return restore_all(stream, NullKeeper(), threads=threads, progress=progress)


def restore_all(stream: BinaryIO, keeper: Keeper, *, threads: int, progress: ProgressFactory = silent) -> RestoreReport:
    """Follow an archive from front to back."""
    catalogue, restorer, report = Catalogue(), Restorer(keeper), RestoreReport()
    length = _length(stream)
    try:
        with progress(length, 0) as bar, ThreadPoolExecutor(threads) as pool:
            window: deque[tuple[Block, Future[Decoded] | None]] = deque()

            def settle(limit: int) -> None:
                while len(window) > limit:
                    _settle(*window.popleft(), catalogue, restorer, report)

            prepared = False
            try:
                for item in reader.read_blocks(stream, progress=bar.advance_to):
                    if isinstance(item, Damage):
                        report.damage.append(item.error)
                        continue
                    kind = item.head.type
                    if kind in (BlockType.INFO, BlockType.TREE):
                        _take(catalogue, item, report)
                        continue
                    if not prepared:
                        restorer.prepare(catalogue.entries)
                        prepared = True
                    if kind == BlockType.DATA:
                        blocks.check_codec_and_role(item.head.codec, item.head.role)
                        window.append((item, pool.submit(_decode, item)))
                    else:
                        window.append((item, None))
                    settle(2 * threads)
                if not prepared:
                    restorer.prepare(catalogue.entries)
                settle(0)
            except BaseException:
                for _, future in window:
                    if future is not None:
                        future.cancel()
                raise
            missing = catalogue.count - len(catalogue.entries)
            if missing and not report.damage:
                report.damage.append(CorruptError(f"the tree lacks {missing} of its {catalogue.count} entries"))
            restorer.finish()
    finally:
        restorer.abandon()
    return _fill(report, restorer, length)


def restore_some(stream: BinaryIO, keeper: Keeper, paths: Collection[bytes], *, threads: int) -> RestoreReport:
    """Bring some files back from the blocks they need alone.

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
    try:
        restorer.prepare(catalogue.entries)
        for record in catalogue.records:
            if record.type in (BlockType.DATA, BlockType.HASH) and not wanted.isdisjoint(record.file_ids):
                try:
                    block = reader.read_block(stream, record)
                    future: Future[Decoded] | None = None
                    if record.type == BlockType.DATA:
                        blocks.check_codec_and_role(record.codec, record.role)
                        future = Future()
                        future.set_result(_decode(block))
                    _settle(block, future, catalogue, restorer, report)
                except CorruptError as error:
                    report.damage.append(error)
        restorer.finish()
    finally:
        restorer.abandon()
    return _fill(report, restorer, catalogue.archive_length)


def _decode(block: Block) -> Decoded:
    data = blocks.parse_data(block.payload)
    return data, memoryview(decode_block(BlockCodec(block.head.codec), data.coded, data.decoded))


def _settle(
    block: Block, future: Future[Decoded] | None, catalogue: Catalogue, restorer: Restorer, report: RestoreReport
) -> None:
    """Use one block, in its turn."""
    try:
        if future is not None:
            data, decoded = future.result()
            restorer.place(data.targets, decoded)
        elif block.head.type == BlockType.HASH:
            _take(catalogue, block, report)
            for ids, digest in blocks.parse_hashes(block.payload):
                restorer.prove(ids, digest)
        elif block.head.type == BlockType.INDEX:
            blocks.parse_index(block.payload, max(catalogue.count, len(catalogue.entries)))
    except CorruptError as error:
        report.damage.append(CorruptError(f"{error} (block at byte {block.offset})"))


def _take(catalogue: Catalogue, block: Block, report: RestoreReport) -> None:
    try:
        catalogue.add(block.head, block.payload)
    except CorruptError as error:
        report.damage.append(CorruptError(f"{error} (block at byte {block.offset})"))


def _fill(report: RestoreReport, restorer: Restorer, length: int) -> RestoreReport:
    whole = [e for i, e in restorer.entries.items() if i not in restorer.failures]
    report.files = len(restorer.proven)
    report.size = restorer.bytes_proven
    report.folders = sum(e.kind is EntryKind.FOLDER for e in whole)
    report.links = sum(e.kind is EntryKind.LINK for e in whole)
    report.archive_bytes = length
    report.failures = [(restorer.entries[i].path, error) for i, error in sorted(restorer.failures.items())]
    return report


def _has_corruption(damage: Iterable[ArchiveError]) -> bool:
    return any(isinstance(error, CorruptError) for error in damage)


def _length(stream: BinaryIO) -> int:
    if not stream.seekable():
        return 0
    at = stream.tell()
    length = stream.seek(0, 2) - at
    stream.seek(at)
    return length
