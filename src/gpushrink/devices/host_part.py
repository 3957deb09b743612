"""Where the host's part of a batch runs: one thread for each slab, as many at once as there are processors.

What a device leaves to the host (fits, plans, the joining of bytes) is a few milliseconds a slab, most of it in
compiled code that lets other threads run. A pool that lives as long as the process saves the start of its threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

__all__ = ["on_host"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@cache
def _threads() -> ThreadPoolExecutor:
    # Of a container or a batch system a process often has a part only.
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(mine, thread_name_prefix="gpushrink-host")


def on_host(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call `work` on each item, side by side; results in order. `work` must not call this itself."""
    listed = list(items)
    if len(listed) == 1:
        return [work(listed[0])]
    return list(_threads().map(work, listed))
