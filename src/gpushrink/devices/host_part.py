"""Where the host's part of a batch runs: beside each other, where that is faster.

What a device leaves to the host is a few milliseconds a slab. Compiled code in it lets other threads run, and several
slabs are worth as many threads. Python does not: threads only hand its lock to and fro, which takes longer than what
each then does, and holds up the threads of other batches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar

__all__ = ["on_host"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# What is left after the first item must take so long to be worth handing out.
_WORTHWHILE_SECONDS: Final = 1.5e-3


@cache
def _threads() -> ThreadPoolExecutor:
    # Kept: their start takes as long as their work. Of a container or a batch system a process often has a part.
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(mine, thread_name_prefix="gpushrink-host")


def on_host(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call `work`, most of it compiled, on each item; results in order. `work` must not call this itself."""
    listed = list(items)
    began = time.perf_counter()
    found = [work(one) for one in listed[:1]]
    left = listed[1:]
    if (time.perf_counter() - began) * len(left) < _WORTHWHILE_SECONDS:
        return [*found, *map(work, left)]
    return [*found, *_threads().map(work, left)]
