"""The entropy stage's loops on a device: an `Engine` whose bytes equal the reference's.

Source: docs/format-entropy.md; kernels/rans.cu, kernels/histogram.cu.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.engine import Engine, RangeInput, resolve_engine
from gpushrink.codec.entropy.tables import SCALE_BITS, Tables
from gpushrink.devices.device import Device, DeviceArray, Kernel
from gpushrink.errors import CorruptError

__all__ = ["RANS_DEFINES", "DeviceEngine"]

# Four warps: enough to fill an SM's slots block by block, few enough that a short chunk does not hold up many.
_WARPS: Final = 4
RANS_DEFINES: Final = (("SCALE_BITS", SCALE_BITS), ("RANS_WARPS", _WARPS))

_ENCODE = Kernel("rans.cu", "rans_encode", RANS_DEFINES)
_GATHER = Kernel("rans.cu", "rans_gather_words", RANS_DEFINES)
_DECODE = Kernel("rans.cu", "rans_decode", RANS_DEFINES)
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

    def count(self, symbols: NDArray[np.uint8], bounds: NDArray[np.int64], *, threads: int) -> NDArray[np.int64]:
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

    def encode_ranges(
        self, symbols: NDArray[np.uint8], where: RangeInput, *, threads: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.int64]]:
        """See `Engine`; threads are not used."""
        return self.encode_resident(self._device.put(symbols), where)

    def encode_resident(
        self, symbols: DeviceArray, where: RangeInput
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.int64]]:
        """Encode symbols that are on the device already."""
        device = self._device
        chunks = len(where.bounds) - 1
        bounds, *runs = _put_ranges(device, where)
        scratch = device.empty(int(where.bounds[-1]), np.uint16)
        states = device.empty((chunks, where.lanes), np.uint32)
        word_counts = device.empty(chunks, np.uint32)
        entries = device.put(where.tables.packed())
        numbers = [np.uint32(where.lanes), np.uint32(chunks)]
        device.launch(
            _ENCODE,
            grid=(-(-chunks // _WARPS),),
            block=(32 * _WARPS,),
            args=[symbols, bounds, *runs, entries, *numbers, scratch, states, word_counts],
        )
        word_ends = np.cumsum(device.get(word_counts).astype(np.int64))
        total = int(word_ends[-1])
        words = device.empty(max(1, total), np.uint16)
        device.launch(_GATHER, grid=(chunks,), block=(256,), args=[scratch, bounds, device.put(word_ends), words])
        return device.get(states), device.get(words)[:total], word_ends

    def decode_ranges(
        self,
        states: NDArray[np.uint32],
        words: NDArray[np.uint16],
        word_ends: NDArray[np.int64],
        where: RangeInput,
        *,
        threads: int,
    ) -> NDArray[np.uint8]:
        """See `Engine`; threads are not used."""
        symbols: NDArray[np.uint8] = self._device.get(self.decode_resident(states, words, word_ends, where))
        return symbols

    def decode_resident(
        self, states: NDArray[np.uint32], words: NDArray[np.uint16], word_ends: NDArray[np.int64], where: RangeInput
    ) -> DeviceArray:
        """Decode and leave the symbols on the device.

        Raises
        ------
        CorruptError
            If words or states do not come out even.
        """
        device = self._device
        chunks = len(where.bounds) - 1
        bounds, *runs = _put_ranges(device, where)
        symbols = device.empty(int(where.bounds[-1]), np.uint8)
        faults = device.empty(chunks, np.uint32)
        # An empty array has no address on some devices.
        stored = device.put(words if len(words) else np.zeros(1, np.uint16))
        tables = [device.put(where.tables.slots()), device.put(where.tables.packed())]
        numbers = [np.uint32(where.lanes), np.uint32(chunks)]
        device.launch(
            _DECODE,
            grid=(-(-chunks // _WARPS),),
            block=(32 * _WARPS,),
            args=[device.put(states), stored, device.put(word_ends), bounds, *runs, *tables, *numbers, symbols, faults],
        )
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


def _put_ranges(device: Device, where: RangeInput) -> list[DeviceArray | np.generic]:
    """Give the arguments that say which symbol is whose: bounds, run_ends, run_tables, runs."""
    return [
        device.put(where.bounds),
        device.put(where.run_ends),
        device.put(where.run_tables.astype(np.uint32)),
        np.uint32(len(where.run_ends)),
    ]
