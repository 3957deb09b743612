"""Segments of several payloads that lie one after another on a device: joined, taken apart, put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import view_bytes
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.pieces import copy_pieces, put_pieces

__all__ = ["Part", "Segments", "bytes_of", "cut"]

Sliceable = TypeVar("Sliceable", memoryview, "list[bytes]")


@dataclass(frozen=True)
class Part:
    """The segments of one payload: from `first` to before `last`."""

    first: int
    last: int


class Segments:
    """The segments of several payloads.

    Parameters
    ----------
    sizes
        Symbols in each segment, none of them empty, an array for each payload.

    Attributes
    ----------
    sizes, bounds
        int64: of all segments, and where they begin and end.
    """

    def __init__(self, sizes: Sequence[NDArray[np.int64]]) -> None:
        self.sizes = np.concatenate(sizes)
        self.bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes)])
        edges = np.cumsum([0, *map(len, sizes)]).tolist()
        self.parts = [Part(first, last) for first, last in pairwise(edges)]

    def sum_by_part(self, chosen: NDArray[np.bool_]) -> list[int]:
        """Add up the chosen segments of each payload."""
        return [int(self.sizes[p.first : p.last][chosen[p.first : p.last]].sum()) for p in self.parts]

    def gather(self, device: Device, symbols: DeviceArray, chosen: NDArray[np.bool_]) -> DeviceArray:
        """Join the chosen segments; all of them are not copied."""
        if chosen.all():
            return symbols
        return copy_pieces(device, symbols, *self._stretches(chosen))

    def scatter(self, device: Device, symbols: DeviceArray, chosen: NDArray[np.bool_], source: DeviceArray) -> None:
        """Put joined segments back in their places."""
        put_pieces(device, source, symbols, *self._stretches(chosen))

    def _stretches(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give where runs of neighbouring chosen segments begin, and their sizes."""
        edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        begins = self.bounds[edges[:, 0]]
        return begins, self.bounds[edges[:, 1]] - begins


def bytes_of(device: Device, symbols: DeviceArray) -> memoryview:
    """Bring symbols to the host."""
    return view_bytes(device.get(symbols)) if len(symbols) else memoryview(b"")


def cut(whole: Sliceable, sizes: Sequence[int]) -> list[Sliceable]:
    """Cut a sequence into consecutive parts."""
    edges = np.cumsum([0, *sizes]).tolist()
    return [whole[begin:end] for begin, end in pairwise(edges)]
