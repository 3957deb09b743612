"""Slabs from many threads become batches: how many at once, whoever shares the device."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest

from gpushrink.codec.table import CPU
from gpushrink.devices.device import Device
from gpushrink.devices.device_pool import DevicePool
from gpushrink.devices.host import HostDevice
from gpushrink.errors import DeviceUnavailableError
from gpushrink.pipeline.device import DeviceSlabCodec

Result = TypeVar("Result")


class _Pool(DevicePool):
    """Count the batches that are at work at once."""

    def __init__(self) -> None:
        super().__init__([HostDevice()])
        self._lock, self.now, self.most = threading.Lock(), 0, 0

    def run(self, work: Callable[[Device], Result], *, need: int) -> Result:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.1)
        with self._lock:
            self.now -= 1
        return super().run(work, need=need)


@pytest.mark.parametrize(("parts", "most"), [(1, 3), (5, 1)])
def test_processes_that_share_a_device_each_have_one_batch_on_it(parts: int, most: int) -> None:
    """Slabs that come meanwhile gather; one process alone keeps three going."""
    try:
        pool = _Pool()
    except DeviceUnavailableError as missing:
        pytest.skip(f"no host device: {missing}")
    codec = DeviceSlabCodec(pool, parts=parts)
    stacks = [np.random.default_rng(k).integers(0, 99, (2, 12, 14)).astype(np.uint16) for k in range(12)]
    with ThreadPoolExecutor(12) as threads:
        coded = list(threads.map(lambda one: codec.encode(one, level="fast", references=((1, 2),)), stacks))
    assert pool.most == most
    for stack, parts_of_it in zip(stacks, coded, strict=True):
        assert b"".join(parts_of_it) == b"".join(CPU.encode(stack, level="fast", references=((1, 2),)))
