"""The device ``auto``: the CPU at once, and cards as soon as they have shown that they write the same bytes.

A card takes a second or two to open, and ten to twenty the first time on a machine, for kernels to be compiled. So
work begins on the CPU; when there is enough of it, the cards are opened beside it, tried on a slab of the level in use,
and take over. No byte depends on when that is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts
from gpushrink.codec.parallel import Threads
from gpushrink.codec.table import CPU, SlabCodec

__all__ = ["AutoSlabCodec", "has_cuda_packages", "try_out"]

Result = TypeVar("Result")

# Below so many bytes of samples a card is not open before the CPU is done.
_WORTHWHILE_BYTES: Final = 512 << 20
_CHAIN: Final = ((1, 2),)


def has_cuda_packages() -> bool:
    """Tell whether the packages of a card's path are installed, without importing them."""
    try:
        return find_spec("cupy") is not None and find_spec("nvidia.nvcomp") is not None
    except ModuleNotFoundError:
        return False


class AutoSlabCodec:
    """Run the volume codec on the CPU, and on cards once they are open and proven; safe to call from many threads.

    Parameters
    ----------
    open_cards
        Opens them, on a thread of its own; gives None where none works. They must write the CPU's bytes.
    worthwhile_bytes
        After so many bytes of samples the cards are opened.
    """

    def __init__(
        self, open_cards: Callable[[], SlabCodec | None], *, worthwhile_bytes: int = _WORTHWHILE_BYTES
    ) -> None:
        self._open_cards, self._worthwhile = open_cards, worthwhile_bytes
        self._seen = 0
        self._lock = threading.Lock()
        self._opener: threading.Thread | None = None
        self._finished = False
        self._cards: SlabCodec | None = None

    @property
    def name(self) -> str:
        """Name what has been at work."""
        return CPU.name if self._cards is None else f"{CPU.name}, then {self._cards.name}"

    @property
    def has_cards(self) -> bool:
        """Tell whether cards are at work now."""
        return self._cards is not None

    def encode(
        self, stack: NDArray[Any], *, level: str, references: Sequence[tuple[int, int]], threads: Threads = 1
    ) -> Parts:
        """Encode; see `gpushrink.codec.table.SlabCodec`."""

        def work(codec: SlabCodec) -> Parts:
            return codec.encode(stack, level=level, references=references, threads=threads)

        return self._run(work, stack.nbytes, (level,))

    def decode(
        self, payload: Buffer, *, shape: tuple[int, int, int], dtype: np.dtype[Any], threads: Threads = 1
    ) -> NDArray[Any]:
        """Decode; see `gpushrink.codec.table.SlabCodec`."""

        def work(codec: SlabCodec) -> NDArray[Any]:
            return codec.decode(payload, shape=shape, dtype=dtype, threads=threads)

        return self._run(work, int(np.prod(shape)) * np.dtype(dtype).itemsize, ("default", "fast", "max"))

    def finish(self) -> None:
        """Say that the work is done: cards that are still being opened are given up at the next step."""
        self._finished = True

    def settle(self) -> None:
        """Wait for the cards, if they are being opened."""
        if self._opener is not None:
            self._opener.join()

    def _run(self, work: Callable[[SlabCodec], Result], size_bytes: int, levels: Sequence[str]) -> Result:
        """Work on what there is now; where a card fails, once more on the CPU.

        What fails there too is the archive's fault. Otherwise it is the card's, and cards get no more.
        """
        codec = self._choose(size_bytes, levels)
        try:
            return work(codec)
        except Exception:
            if codec is CPU:
                raise
        found = work(CPU)
        self._cards = None
        return found

    def _choose(self, size_bytes: int, levels: Sequence[str]) -> SlabCodec:
        cards = self._cards
        if cards is not None:
            return cards
        with self._lock:
            self._seen += size_bytes
            if self._opener is None and self._seen >= self._worthwhile:
                # No daemon: a process must not end within a driver's call. `_open` looks whether it is wanted still.
                self._opener = threading.Thread(target=self._open, args=[levels])
                self._opener.start()
        return CPU

    def _open(self, levels: Sequence[str]) -> None:
        """Open the cards and let them show what they do; what fails here leaves the work to the CPU."""
        try:
            cards = self._open_cards()
            if cards is not None and all(self._is_wanted() and _agrees(cards, level) for level in levels):
                self._cards = cards
        except Exception:  # whatever a driver may raise: `gpushrink doctor` is where it is looked into
            return

    def _is_wanted(self) -> bool:
        """Tell whether there is work still: neither it nor the process has come to its end meanwhile."""
        return not self._finished and threading.main_thread().is_alive()


def _agrees(cards: SlabCodec, level: str) -> bool:
    """Tell whether a small slab becomes the CPU's bytes on the cards, and these bytes the slab again."""
    expected = try_out(CPU, level)
    return expected is not None and try_out(cards, level) == expected


def try_out(codec: SlabCodec, level: str) -> bytes | None:
    """Code a small slab and back: loads what that needs, and returns the bytes, None if the slab did not come back."""
    z, y, x = np.ogrid[:4, :40, :50]
    stack = (300 * np.sin(x / 7 + z) + 9 * y + np.random.default_rng(1).normal(0, 9, (4, 40, 50))).astype(np.int16)
    coded = b"".join(codec.encode(stack, level=level, references=_CHAIN))
    back = codec.decode(coded, shape=(4, 40, 50), dtype=stack.dtype)
    return coded if np.array_equal(back, stack) else None
