"""The entropy stage's loops on a device: an `Engine` whose bytes equal the reference's.

Source: docs/format-entropy.md; kernels/rans.cu, kernels/histogram.cu.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.engine import Engine, RangeInput, RangeParts, resolve_engine
from gpushrink.codec.entropy.layout import join_ranges
from gpushrink.codec.entropy.tables import SCALE_BITS, Tables
from gpushrink.codec.parallel import Threads
from gpushrink.devices.device import Device, DeviceArray, Kernel
from gpushrink.errors import CorruptError

__all__ = ["RANS_DEFINES", "DeviceEngine"]

# Four warps: enough to fill an SM's slots block by block, few enough that a short chunk does not hold up many.
_WARPS: Final = 4
RANS_DEFINES: Final = (("SCALE_BITS", SCALE_BITS), ("RANS_WARPS", _WARPS))

_ENCODE = Kernel("rans.cu", "rans_encode", RANS_DEFINES)
_GATHER = Kernel("rans.cu", "rans_gather", RANS_DEFINES)
_DECODE = Kernel("rans.cu", "rans_decode", RANS_DEFINES)
_FILL = Kernel("rans.cu", "rans_fill_slots", RANS_DEFINES)
_COUNT = Kernel("histogram.cu", "count_symbols")

# 2 KiB of atomics for each piece: 3 % of this.
_PIECE_BYTES = 1 << 16

_FAULTS = {
    1: "starts in a state below 2^16",
    2: "needs more words than it has",
    4: "does not end in the state it was begun from",
}


class DeviceEngine:
    """Implement `Engine` over a `Device`; heads and what shares a table are the host's work."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._host: Engine = resolve_engine("auto")[1]

    def count(self, symbols: NDArray[np.uint8], bounds: NDArray[np.int64], *, threads: Threads) -> NDArray[np.int64]:
        """See `Engine`; threads are not used."""
        return self.count_resident(self._device.put(symbols), bounds)

    def count_resident(self, symbols: DeviceArray, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count symbols that are on the device already."""
        device = self._device
        sizes = np.diff(bounds)
        pieces = -(-sizes // _PIECE_BYTES)
        owners = np.repeat(np.arange(len(sizes)), pieces)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        begins = bounds[:-1][owners] + within * _PIECE_BYTES
        ends = np.minimum(begins + _PIECE_BYTES, bounds[1:][owners])
        counts = device.zeros((len(sizes), 256), np.uint64)
        if len(owners):
            device.launch(
                _COUNT,
                grid=(len(owners),),
                block=(256,),
                args=[symbols, device.put(begins), device.put(ends), device.put(owners.astype(np.uint32)), counts],
            )
        return device.get(counts).astype(np.int64)

    def cluster(
        self, histograms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Tables]:
        """See `Engine`; on the host."""
        return self._host.cluster(histograms)

    def encode_ranges(self, symbols: NDArray[np.uint8], where: RangeInput, *, threads: Threads) -> RangeParts:
        """See `Engine`; threads are not used."""
        return self.encode_resident(self._device.put(symbols), [where])[0]

    def encode_resident(self, symbols: DeviceArray, wheres: Sequence[RangeInput]) -> list[RangeParts]:
        """Encode the symbols of several payloads, one after another on the device; give each payload's parts."""
        device, whole = self._device, _RangeBatch(wheres)
        bounds, *runs, entries = whole.put(device)
        state_begins = device.put(whole.state_begins)
        scratch = device.empty(whole.symbols, np.uint16)
        states = device.empty(int(whole.state_begins[-1]), np.uint32)
        word_counts = device.empty(whole.chunks, np.uint32)
        device.launch(
            _ENCODE,
            grid=(-(-whole.chunks // _WARPS),),
            block=(32 * _WARPS,),
            args=[
                symbols, bounds, *runs, entries, state_begins, np.uint32(whole.chunks), scratch, states, word_counts,
            ],
        )  # fmt: skip
        counts = device.get(word_counts).astype(np.int64)
        begins = whole.range_begins(counts)
        ranges = device.empty(int(begins[-1]), np.uint16)
        args = [scratch, bounds, states, state_begins, device.put(begins), ranges]
        device.launch(_GATHER, grid=(whole.chunks,), block=(256,), args=args)
        held, edges = device.get(ranges), whole.chunk_edges
        return [(counts[first:last], [held[begins[first] : begins[last]]]) for first, last in pairwise(edges)]

    def decode_ranges(self, parts: RangeParts, where: RangeInput, *, threads: Threads) -> NDArray[np.uint8]:
        """See `Engine`; threads are not used."""
        symbols: NDArray[np.uint8] = self._device.get(self.decode_resident([parts], [where]))
        return symbols

    def decode_resident(self, parts: Sequence[RangeParts], wheres: Sequence[RangeInput]) -> DeviceArray:
        """Decode several payloads and leave their symbols on the device, one after another.

        Raises
        ------
        CorruptError
            If words or states do not come out even.
        """
        device, whole = self._device, _RangeBatch(wheres)
        bounds, *runs, entries = whole.put(device)
        tables = sum(len(where.tables.frequencies) for where in wheres)
        slots = device.empty(tables << SCALE_BITS, np.uint8)
        device.launch(_FILL, grid=(tables,), block=(256,), args=[entries, slots])
        symbols = device.empty(whole.symbols, np.uint8)
        faults = device.empty(whole.chunks, np.uint32)
        begins = whole.range_begins(np.concatenate([counts for counts, _ in parts]))
        ranges = device.put_all([join_ranges(own) for _, own in parts])
        device.launch(
            _DECODE,
            grid=(-(-whole.chunks // _WARPS),),
            block=(32 * _WARPS,),
            args=[
                ranges, device.put(begins), bounds, *runs, slots, entries,
                device.put(whole.state_begins), np.uint32(whole.chunks), symbols, faults,
            ],
        )  # fmt: skip
        found = device.get(faults)
        for chunk in np.flatnonzero(found):
            raise CorruptError(f"rANS chunk {chunk} {_FAULTS[int(found[chunk])]}")
        return symbols

    def write_head(self, kinds: NDArray[np.int64], values: NDArray[np.int64], levels: NDArray[np.int64]) -> bytes:
        """See `Engine`."""
        return self._host.write_head(kinds, values, levels)

    def read_head(self, head: bytes, segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """See `Engine`."""
        return self._host.read_head(head, segments)


class _RangeBatch:
    """Several payloads' ranges as one sequence: chunks, runs and tables numbered across them."""

    def __init__(self, wheres: Sequence[RangeInput]) -> None:
        self._wheres = wheres
        counts = np.array([len(where.bounds) - 1 for where in wheres], np.int64)
        self.chunks = int(counts.sum())
        self.chunk_edges = np.cumsum([0, *counts]).tolist()
        sizes = np.array([where.bounds[-1] for where in wheres], np.int64)
        self._begins = np.cumsum(sizes) - sizes
        self.symbols = int(sizes.sum())
        lanes = np.repeat(np.array([where.lanes for where in wheres], np.uint32), counts)
        self.state_begins = np.concatenate([np.zeros(1, np.uint32), np.cumsum(lanes, dtype=np.uint32)])

    def range_begins(self, word_counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give where each chunk's states and words begin, and where the last one's end, in halves of states."""
        sizes = 2 * np.diff(self.state_begins.astype(np.int64)) + word_counts
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    def put(self, device: Device) -> list[DeviceArray | np.generic]:
        """Give the arguments that say which symbol is whose: bounds, run_ends, run_tables, runs, and the tables."""
        tables = [where.tables.packed() for where in self._wheres]
        heights = np.array([len(where.tables.frequencies) for where in self._wheres], np.int64)
        firsts = np.cumsum(heights) - heights
        bounds, ends, owners = [np.zeros(1, np.int64)], [], []
        for where, begin, first in zip(self._wheres, self._begins, firsts, strict=True):
            bounds.append(where.bounds[1:] + begin)
            ends.append(where.run_ends + begin)
            owners.append((where.run_tables + first).astype(np.uint32))
        return [
            device.put(np.concatenate(bounds)), device.put(np.concatenate(ends)), device.put(np.concatenate(owners)),
            np.uint32(sum(map(len, ends))), device.put(np.concatenate(tables)),
        ]  # fmt: skip
