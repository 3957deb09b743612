"""What plans of the entropy stage look at, of symbols that lie on a device."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy.plan import sample_part
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.pieces import copy_pieces
from gpushrink.devices.segments import bytes_of

__all__ = ["TriedSymbols"]


# Where zstd wins on a part of a segment, the whole is asked for. Most that are won are small, and what is fetched with
# others costs their bytes; alone it would cost a wait for the device.
_FETCHED_WHOLE: Final = 1 << 17


def _first_look(length: int) -> tuple[int, int]:
    """Give where the part of a segment begins that is fetched at once, and its size."""
    at, size = sample_part(length)
    return (0, length) if size > 0 and length <= _FETCHED_WHOLE else (at, size)


class TriedSymbols:
    """Give plans their trials: what they look at first came to the host at once, more of it comes when asked for."""

    def __init__(self, device: Device, symbols: DeviceArray, bounds: NDArray[np.int64]) -> None:
        self._device, self._symbols = device, symbols
        self._lock = threading.Lock()
        looks = map(_first_look, np.diff(bounds).tolist())
        parts = [(begin + at, size) for begin, (at, size) in zip(bounds, looks, strict=False) if size]
        pieces = np.array(parts, np.int64).reshape(-1, 2)
        self._ends = np.cumsum(pieces[:, 1])
        self._begins = pieces[:, 0]
        self._held = bytes_of(device, copy_pieces(device, symbols, self._begins, pieces[:, 1]))

    def part(self, begin: int, end: int) -> _Part:
        """Give some of the symbols."""
        return _Part(self, begin, end)

    def read(self, begin: int, end: int) -> bytes:
        """Give symbols."""
        place = int(np.searchsorted(self._begins, begin, side="right")) - 1
        if place >= 0:
            first = int(self._ends[place - 1]) if place else 0
            at = first + begin - int(self._begins[place])
            if at + end - begin <= self._ends[place]:
                return bytes(self._held[at : at + end - begin])
        with self._lock:  # plans are made side by side, a queue is one thread's
            return self._device.get(self._symbols[begin:end]).tobytes()


@dataclass(frozen=True)
class _Part:
    """A stretch of symbols, as a plan slices it."""

    whole: TriedSymbols
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, part: slice) -> _Part:
        begin, end, _ = part.indices(len(self))
        return _Part(self.whole, self.begin + begin, self.begin + end)

    def tobytes(self) -> bytes:
        return self.whole.read(self.begin, self.end)
