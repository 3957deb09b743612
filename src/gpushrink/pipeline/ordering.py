"""Run the jobs of a plan on many threads and give their results in order, within bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from gpushrink.model import Role
from gpushrink.pipeline.coding import Coded, Coder
from gpushrink.pipeline.plan import BatchJob, BytesJob, HashJob, Job, SlabJob

__all__ = ["run_in_order"]

# Source bytes of jobs that are not done: each costs several while it is coded. Room for twenty large slabs: sixteen at
# work, and some for the threads to go on with; and for a large slab each where there are more threads.
_FLIGHT_BYTES = 320 << 20
_FLIGHT_BYTES_EACH = 20 << 20
# Coded bytes that wait for their turn to be written: where many are at work, one that takes long must not stop all.
_WAITING_BYTES = 128 << 20
_WAITING_BYTES_EACH = 8 << 20
_BLOCK_COST = 32  # a block's header and its share of the index, in bytes
# A file in several blocks is hashed in one go; of a larger one than this that begins before its last block is coded.
_LONG_HASH = 32 << 20


class _Promise:
    """Wait for the parts of a job, and for what they may be together."""

    def __init__(self, apart: list[Future[list[Coded]]], solid: Future[list[Coded]] | None = None) -> None:
        self.futures = [*apart, *([solid] if solid else [])]
        self._apart, self._solid = apart, solid

    def done(self) -> bool:
        """Tell whether `result` will not wait."""
        return all(future.done() for future in self.futures)

    def cancel(self) -> None:
        """Forget what has not begun."""
        for future in self.futures:
            future.cancel()

    def result(self, coder: Coder) -> list[Coded]:
        """Return what is smaller."""
        apart = [coded for future in self._apart for coded in future.result()]
        together = self._solid.result() if self._solid else []
        if not together:
            return apart
        return min(apart, together, key=lambda some: sum(one.size + _BLOCK_COST for one in some))


class _HashPromise(_Promise):
    """Wait for the hashes of a job."""

    def __init__(self, job: HashJob, futures: list[Future[list[Coded]]]) -> None:
        super().__init__(futures)
        self._job = job

    def result(self, coder: Coder) -> list[Coded]:
        """Return the hashes, those that earlier jobs have made among them."""
        super().result(coder)
        return [coder.take_hashes(self._job)]


@dataclass
class _Flight:
    """Count what is on its way: jobs that are not done by their source bytes, others by what came out."""

    ahead: int
    jobs: int = 0
    source: int = 0
    waiting: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        threads = self.ahead // 2
        self._most_source = max(_FLIGHT_BYTES, threads * _FLIGHT_BYTES_EACH)
        self._most_waiting = max(_WAITING_BYTES, threads * _WAITING_BYTES_EACH)

    def has_room(self, size: int) -> bool:
        """Tell whether a job of this size may begin; the first may in any case."""
        if self.waiting > self._most_waiting:
            return False
        return not self.jobs or (self.jobs < self.ahead and self.source + size <= self._most_source)

    def begin(self, promise: _Promise, size: int) -> None:
        """Count a job until all its parts are done."""
        left = len(promise.futures)

        def land(future: Future[list[Coded]]) -> None:
            nonlocal left
            failed = future.cancelled() or future.exception() is not None
            with self.changed:
                left -= 1
                if not left:
                    self.jobs -= 1
                    self.source -= size
                self.waiting += 0 if failed else sum(coded.size for coded in future.result())
                self.changed.notify()

        if left:
            with self.changed:
                self.jobs += 1
                self.source += size
            for future in promise.futures:
                future.add_done_callback(land)

    def end(self, promise: _Promise) -> None:
        """Forget what came out of a job that is done."""
        with self.changed:
            self.waiting -= sum(coded.size for future in promise.futures for coded in future.result())


class _Submitter:
    """Hand jobs to the threads of a pool."""

    def __init__(self, pool: ThreadPoolExecutor, coder: Coder) -> None:
        self._pool, self._coder = pool, coder
        self._hashing: dict[int, Future[list[Coded]]] = {}
        self._begun: set[int] = set()

    def submit(self, job: Job) -> _Promise:
        """Begin a job; those of a batch each by itself and all their bytes together; long hashes before their turn."""
        if isinstance(job, HashJob):
            ids = [group[0] for group in job.groups if group[0] not in job.known]
            return _HashPromise(job, [self._hashing.pop(i) if i in self._hashing else self._hash(i) for i in ids])
        parts = job.jobs if isinstance(job, BatchJob) else (job,)
        apart = [self._pool.submit(self._coder.run, one) for one in parts]
        for one in parts:
            self._hash_early(one)
        solid = self._pool.submit(self._coder.run_together, job) if isinstance(job, BatchJob) else None
        return _Promise(apart, solid)

    def cancel(self) -> None:
        """Forget the hashes that have not begun."""
        for future in self._hashing.values():
            future.cancel()

    def _hash_early(self, job: BytesJob | SlabJob) -> None:
        if isinstance(job, SlabJob):
            ids = {frame.file_id for frame, whole in zip(job.frames, job.whole, strict=True) if not whole}
        else:
            ids = {piece.file_id for piece in job.pieces} if job.role is not Role.HEADER else set()
        for file_id in sorted(ids):
            if self._coder.size_of(file_id) > _LONG_HASH and file_id not in self._begun:
                self._begun.add(file_id)
                self._hashing[file_id] = self._hash(file_id)

    def _hash(self, file_id: int) -> Future[list[Coded]]:
        return self._pool.submit(self._coder.hash, file_id)


def run_in_order(
    pool: ThreadPoolExecutor, jobs: Iterator[Job], coder: Coder, *, ahead: int
) -> Generator[Coded, None, None]:
    """Run jobs in parallel and yield their results in order.

    Parameters
    ----------
    ahead
        The most jobs that are begun and not done: two for each thread. Bytes are bounded too.
    """
    window: deque[_Promise] = deque()
    flight, submitter = _Flight(ahead), _Submitter(pool, coder)

    def can_go_on(size: int) -> bool:
        return flight.has_room(size) or bool(window and window[0].done())

    def settle() -> list[Coded]:
        promise = window.popleft()
        found = promise.result(coder)
        flight.end(promise)
        return found

    try:
        for job in jobs:
            size = 0 if isinstance(job, HashJob) else job.size
            while True:
                # What can be written is written before more is begun: memory goes to what waits least.
                while window and window[0].done():
                    yield from settle()
                with flight.changed:
                    if flight.has_room(size):
                        break
                    flight.changed.wait_for(partial(can_go_on, size))
            promise = submitter.submit(job)
            window.append(promise)
            flight.begin(promise, size)
        while window:
            yield from settle()
    finally:
        for promise in window:
            promise.cancel()
        submitter.cancel()
        coder.stop()
