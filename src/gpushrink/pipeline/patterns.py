"""Choose reference patterns of slabs with one round of trials a volume, whatever the order in which threads come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager

from gpushrink.codec.table import Likely, References, choose_slab_references
from gpushrink.dicom.series import Frame
from gpushrink.model import SampleFormat, SlabShape

__all__ = ["Pattern", "Patterns"]


class Pattern:
    """Choose the pattern of one slab.

    The first slab of a volume goes through the trials and tells what it found. Others, where the same patterns look
    good, take its word: that it is always the first slab's, and nobody else's, keeps archives the same.
    """

    def __init__(self, found: Future[tuple[Likely, References]], *, first: bool) -> None:
        self._found, self._first = found, first

    def choose(self, data: memoryview, shape: SlabShape, sample: SampleFormat) -> References:
        """Return the pattern for a slab."""
        if self._first:
            if not self._found.done():
                self._found.set_result(choose_slab_references(data, shape, sample))
            return self._found.result()[1]
        return choose_slab_references(data, shape, sample, self._ask)[1]

    def _ask(self, likely: Likely) -> References | None:
        if not likely:
            return None
        same, best = self._found.result()
        return best if same == likely else None


class Patterns:
    """Hold what first slabs have found. Their jobs must begin before those of the others: these wait for them."""

    def __init__(self) -> None:
        self._found: dict[Frame, Future[tuple[Likely, References]]] = {}
        self._lock, self._stopped = threading.Lock(), False

    @contextmanager
    def turn(self, volume: Frame, *, first: bool) -> Iterator[Pattern]:
        """Give what chooses a slab's pattern; a first slab that comes to nothing lets no other wait for it.

        Parameters
        ----------
        volume
            The first frame of the slab's volume.
        """
        with self._lock:
            found = self._found.setdefault(volume, Future())
            if self._stopped:
                found.cancel()
        try:
            yield Pattern(found, first=first)
        finally:
            if first:
                found.cancel()  # does nothing to one that has its result

    def know(self, volume: Frame, found: tuple[Likely, References]) -> None:
        """Take what another process has found for a volume's first slab."""
        with self._lock:
            place = self._found.setdefault(volume, Future())
            if not place.done():
                place.set_result(found)

    def wait(self, volume: Frame) -> tuple[Likely, References] | None:
        """Wait for what the first slab of a volume finds; None where that came to nothing."""
        with self._lock:
            found = self._found.setdefault(volume, Future())
            if self._stopped:
                found.cancel()
        try:
            return found.result()
        except CancelledError:
            return None

    def stop(self) -> None:
        """Let nobody wait any longer: jobs that have not begun will not."""
        with self._lock:
            self._stopped = True
            for found in self._found.values():
                found.cancel()
