"""Several slabs in flight on several devices, within their memory: what overlaps copies, kernels and the host's part.

Each slab runs on a queue of its own. While one queue waits for a copy or for what the host solves, another's kernels
run. A slab's bytes depend on nothing here: neither on the device nor on what else is in flight.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from gpushrink.devices.device import Device
from gpushrink.errors import DeviceUnavailableError

__all__ = ["DevicePool"]

Result = TypeVar("Result")

# Queues of one device: kernels of a slab fill a fraction of a card, and each waits for the host a few times.
_MOST_QUEUES: Final = 8
# A share of what is free stays so: for contexts, compiled kernels and what nvCOMP takes beside the pool.
_KEPT_PERCENT: Final = 10
# Three batches of eight large slabs: with less a process would make a card slower, not faster.
_LEAST_PART: Final = 4 << 30


@dataclass
class _Card:
    """One device: its queues that rest, what those at work were promised, whether one wants it to itself."""

    device: Device
    budget: int
    resting: list[Device] = field(default_factory=list)
    queues: int = 0
    promised: int = 0
    wanted_alone: bool = False

    def has_room(self, need: int) -> bool:
        """Tell whether a slab of this need may begin; one larger than the budget may where nothing else runs."""
        if self.wanted_alone or self.queues == _MOST_QUEUES:
            return False
        return not self.queues or self.promised + need <= self.budget


class DevicePool:
    """Lend devices to threads.

    Parameters
    ----------
    devices
        One for each card. Their free memory is read once, here.
    memory_bytes
        The most to use of each; None for what is free.
    parts
        How many processes share what is free.

    Raises
    ------
    DeviceUnavailableError
        If a device has too little to be shared.
    """

    def __init__(self, devices: Sequence[Device], *, memory_bytes: int | None = None, parts: int = 1) -> None:
        self._cards = [_Card(device, _budget(device, memory_bytes, parts), [device]) for device in devices]
        if parts > 1 and self.budget < _LEAST_PART:
            raise DeviceUnavailableError(f"{self.name} has too little memory for {parts} processes")
        self._changed = threading.Condition()

    @property
    def name(self) -> str:
        """Name the devices."""
        return ", ".join(card.device.name for card in self._cards)

    @property
    def device_count(self) -> int:
        """Count the devices."""
        return len(self._cards)

    @property
    def budget(self) -> int:
        """Give the bytes that may be used of the device with least."""
        return min(card.budget for card in self._cards)

    def run(self, work: Callable[[Device], Result], *, need: int) -> Result:
        """Run work on a device that has room; should memory run out all the same, once more with a device to itself.

        Where memory ran out, fewer slabs share the device from then on.

        Parameters
        ----------
        work
            Is called a second time where the first one raised MemoryError.
        need
            What it takes, in bytes: an estimate, that decides how much runs at once.

        Raises
        ------
        MemoryError
            If a whole device is too small.
        """
        card = self._take(need)
        try:
            with self._queue(card, need) as device:
                return work(device)
        except MemoryError:
            with self._changed:
                if card.promised:  # by others beside it: of one alone nothing follows for those that are smaller
                    card.budget = min(card.budget, card.promised)
        self._take_alone(card, need)
        try:
            with self._queue(card, need) as device:
                device.release()
                return work(device)
        finally:
            with self._changed:
                card.wanted_alone = False
                self._changed.notify_all()

    def _take(self, need: int) -> _Card:
        """Wait for a card with room, and take it on the one with most."""
        with self._changed:
            while not (fit := [card for card in self._cards if card.has_room(need)]):
                self._changed.wait()
            card = max(fit, key=lambda one: one.budget - one.promised)
            card.queues += 1
            card.promised += need
            return card

    def _take_alone(self, card: _Card, need: int) -> None:
        """Keep others off a card, and wait until those on it are done."""
        with self._changed:
            self._changed.wait_for(lambda: not card.wanted_alone)
            card.wanted_alone = True
            self._changed.wait_for(lambda: not card.queues)
            card.queues += 1
            card.promised += need

    @contextmanager
    def _queue(self, card: _Card, need: int) -> Iterator[Device]:
        """Give a queue of a card that was taken; give the card back at the end."""
        device = None
        try:
            with self._changed:
                device = card.resting.pop() if card.resting else None
            if device is None:
                device = card.device.sibling()
            yield device
        finally:
            with self._changed:
                card.queues -= 1
                card.promised -= need
                if device is not None:
                    card.resting.append(device)
                self._changed.notify_all()


def _budget(device: Device, memory_bytes: int | None, parts: int) -> int:
    free = device.memory().free_bytes
    usable = (free - free * _KEPT_PERCENT // 100) // parts
    return usable if memory_bytes is None else min(usable, memory_bytes)
