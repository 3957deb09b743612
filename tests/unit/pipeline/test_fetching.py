"""What is kept of decoded blocks."""

from __future__ import annotations

from array import array

from gpushrink.archive.blocks import DataBlock
from gpushrink.archive.index import BlockRecord
from gpushrink.archive.layout import BlockType
from gpushrink.pipeline.fetching import BlockCache, Fetched


def fetched(offset: int, decoded: int, targets: int) -> Fetched:
    """Make a decoded block of so many bytes and targets."""
    numbers = array("q", bytes(8 * targets))
    data = DataBlock(decoded, numbers, numbers, numbers, numbers, memoryview(b""))
    return Fetched(BlockRecord(BlockType.DATA, 0, 0, offset, 100, decoded, ()), data, content=bytes(decoded))


def test_cache_counts_targets_as_it_counts_bytes() -> None:
    """A block of one byte may have half a million targets: a few such blocks must not be free."""
    cache = BlockCache(1 << 20)
    for k in range(40):
        cache.keep(fetched(k, 1, 10_000))
    held = [k for k in range(40) if cache.find(fetched(k, 1, 0).record)]
    assert held == [37, 38, 39]
    cache.keep(fetched(99, 1, 40_000))
    assert not cache.find(fetched(99, 1, 0).record)
    cache.clear()
    for k in range(40):
        cache.keep(fetched(k, 20_000, 1))
    assert sum(cache.find(fetched(k, 0, 0).record) is not None for k in range(40)) == 40
