"""Read and decode blocks of an open archive in parallel, and hand them on in order."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from gpushrink.archive import blocks
from gpushrink.archive.block_file import BlockFile
from gpushrink.archive.blocks import DataBlock
from gpushrink.archive.index import BlockRecord
from gpushrink.codec.parallel import Team
from gpushrink.codec.table import CodedSlab, decode_block, decode_samples, parse_slab, samples_as_frames
from gpushrink.errors import CorruptError
from gpushrink.model import BlockCodec
from gpushrink.pipeline.space import Array, ArraySpace, fits_batch, stays_on_device

__all__ = ["CACHE_BYTES", "BlockCache", "Fetched", "fetch_blocks"]

# Decoded blocks that are kept for the next call: who goes through a volume slice by slice decodes each slab once.
CACHE_BYTES = 64 << 20
# Four numbers for each target, and what a block takes besides.
_TARGET_BYTES, _BLOCK_BYTES = 32, 1 << 10
_NOTHING = memoryview(b"")  # in place of coded bytes that are decoded: they need not stay


@dataclass(slots=True)
class Fetched:
    """Hold one block, decoded: a slab's samples [slice, component, row, column], or plain bytes.

    Parameters
    ----------
    samples
        On the host, or where the space has its arrays. None until a batch is decoded.
    """

    record: BlockRecord
    data: DataBlock
    slab: CodedSlab | None = None
    samples: Array = None
    content: bytes | memoryview = b""
    on_device: bool = False

    @property
    def held_bytes(self) -> int:
        """Return about how much memory it takes: a block of a few bytes may have many targets."""
        return self.record.decoded + _TARGET_BYTES * len(self.data.lengths) + _BLOCK_BYTES

    def as_bytes(self, space: ArraySpace) -> bytes | memoryview:
        """Return the decoded bytes, as files have them."""
        if self.slab is None:
            return self.content
        return samples_as_frames(space.get(self.samples) if self.on_device else self.samples, self.slab.sample)


class BlockCache:
    """Keep the blocks that were decoded last on the host, up to so many bytes. Safe for threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: OrderedDict[int, Fetched] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, record: BlockRecord) -> Fetched | None:
        """Return a block if it is held."""
        with self._lock:
            found = self._held.get(record.offset)
            if found is not None:
                self._held.move_to_end(record.offset)
            return found

    def keep(self, fetched: Fetched) -> None:
        """Take a block in, and let go of those unused longest."""
        with self._lock:
            if fetched.record.offset in self._held or fetched.held_bytes > self._most:
                return
            self._held[fetched.record.offset] = fetched
            self._bytes += fetched.held_bytes
            while self._bytes > self._most:
                _, gone = self._held.popitem(last=False)
                self._bytes -= gone.held_bytes

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._held.clear()
            self._bytes = 0


def fetch_blocks(
    file: BlockFile,
    records: Iterable[BlockRecord],
    space: ArraySpace,
    *,
    threads: int,
    cache: BlockCache,
    tell: Callable[[BlockRecord], str] = lambda record: "",
) -> Iterator[Fetched]:
    """Decode DATA blocks and yield them in order, but for those of a device's batch, which come together.

    Parameters
    ----------
    tell
        Says what a block holds, for the message if it is damaged.

    Raises
    ------
    CorruptError
        If a block is damaged; the message names its place.
    """
    batch: list[Fetched] = []
    with Team(threads) as team, ThreadPoolExecutor(threads) as pool:
        fetch = partial(_fetch, file=file, space=space, cache=cache, tell=tell, team=team)
        for fetched in _in_order(pool, records, fetch, ahead=threads + 2):
            if fetched.slab is None or fetched.samples is not None:
                yield fetched
                continue
            if not fits_batch([one.slab for one in batch if one.slab], fetched.slab, space.most_samples):
                yield from _decode_batch(batch, space, tell)
                batch = []
            batch.append(fetched)
    yield from _decode_batch(batch, space, tell)


def _in_order(
    pool: ThreadPoolExecutor, records: Iterable[BlockRecord], fetch: Callable[[BlockRecord], Fetched], *, ahead: int
) -> Iterator[Fetched]:
    window: deque[Future[Fetched]] = deque()
    try:
        for record in records:
            if len(window) >= ahead:
                yield window.popleft().result()
            window.append(pool.submit(fetch, record))
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()


def _fetch(
    record: BlockRecord,
    *,
    file: BlockFile,
    space: ArraySpace,
    cache: BlockCache,
    tell: Callable[[BlockRecord], str],
    team: Team,
) -> Fetched:
    if (held := cache.find(record)) is not None:
        return held
    try:
        block = file.read(record)
        data = blocks.parse_data(block.payload)
        if data.decoded != record.decoded:
            raise CorruptError("its decoded size is not the one that the index names")
        codec = BlockCodec(block.head.codec)
        if codec in (BlockCodec.PLANES, BlockCodec.VOLUME):
            slab = parse_slab(codec, data.coded, data.decoded)
            if stays_on_device(slab, space):
                return Fetched(record, data, slab, on_device=True)
            with team.at_work():
                samples = decode_samples(slab, threads=team)
            fetched = Fetched(record, replace(data, coded=_NOTHING), replace(slab, payload=_NOTHING), samples)
        else:
            content = decode_block(codec, data.coded, data.decoded)
            fetched = Fetched(record, replace(data, coded=_NOTHING), content=content)
    except CorruptError as error:
        why = str(error)
    else:
        cache.keep(fetched)
        return fetched
    # A new one: the traceback of the old would keep all that was allocated alive.
    raise CorruptError(_explain(why, record, tell))


def _explain(why: str, record: BlockRecord, tell: Callable[[BlockRecord], str]) -> str:
    what = tell(record)
    return f"{why} (block at byte {record.offset}{': ' if what else ''}{what})"


def _decode_batch(batch: Sequence[Fetched], space: ArraySpace, tell: Callable[[BlockRecord], str]) -> Iterator[Fetched]:
    """Decode the slabs of a batch side by side where the array lives."""
    if not batch:
        return
    try:
        decoded = space.decode([one.slab for one in batch if one.slab])
    except CorruptError as error:
        if len(batch) == 1:
            raise CorruptError(_explain(str(error), batch[0].record, tell)) from None
        for one in batch:  # one of them is damaged: each by itself, it is named
            yield from _decode_batch([one], space, tell)
        return
    for one, samples in zip(batch, decoded, strict=True):
        one.samples = samples
        yield one
