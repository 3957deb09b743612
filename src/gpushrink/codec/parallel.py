"""Work spread over threads: each job has one, and those that have no job of their own help with another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Team", "Threads", "most_of", "run_over"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Team:
    """Share a number of processors between jobs: a context manager, safe for threads.

    Who codes a job says so with `at_work`. While fewer are at work than there are processors, the others help whoever
    calls `run`; they leave when they are needed for a job. What comes out depends on none of this.

    Parameters
    ----------
    most
        How many processors there are, at least 1.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._busy = 0
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count the calling thread as one with a job."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            self._leave()

    def run(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        failed: Callable[[BaseException], None] = lambda error: None,
    ) -> list[Result]:
        """Call `work` on each item, here and on processors at rest; results in order.

        The first error is raised, when all calls have ended. `failed` is told of one at once: an item that others wait
        for may have been handed out and never begun.
        """
        task = _Task(work, items)
        helpers: list[Future[None]] = []
        try:
            going = True
            while going:
                for _ in range(min(task.left, self.most) - 1):
                    if not self._join():
                        break
                    helpers.append(self._helpers().submit(self._help, task))
                going = task.step()
        except BaseException as error:
            try:
                failed(error)
            finally:
                task.stop()
                wait(helpers)
                task.forget()
            raise
        wait(helpers)
        return task.results()

    def _helpers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.most)
            return self._pool

    def _join(self) -> bool:
        with self._lock:
            if self._busy >= self.most:
                return False
            self._busy += 1
            return True

    def _leave(self) -> None:
        with self._lock:
            self._busy -= 1

    def _help(self, task: _Task[Item, Result]) -> None:
        try:
            while self._busy <= self.most and task.step():
                pass
        except BaseException as error:  # raised where the work was asked for
            task.stop(error)
        finally:
            self._leave()


class _Task(Generic[Item, Result]):
    """Hand out items one by one and keep what comes of them."""

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self._work, self._items = work, items
        self._found: dict[int, Result] = {}
        self._next = 0
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """How many items nobody has begun."""
        return len(self._items) - self._next

    def step(self) -> bool:
        """Do the next item, if there is one."""
        with self._lock:
            if not self.left:
                return False
            k = self._next
            self._next += 1
        self._found[k] = self._work(self._items[k])
        return True

    def stop(self, error: BaseException | None = None) -> None:
        """Hand out no more."""
        with self._lock:
            self._next = len(self._items)
            self._error = self._error or error

    def forget(self) -> None:
        """Drop the error of another thread: another is on its way, and this one would hold itself and its memory."""
        self._error = None

    def results(self) -> list[Result]:
        """Return what came of all items, once they are done."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it would hold itself, by its traceback, and all that was allocated
        return [self._found[k] for k in range(len(self._items))]


Threads = int | Team
"""How many threads a function may use, or the team that it is one of; never changes what it returns."""


def most_of(threads: Threads) -> int:
    """Return how many threads that is at most."""
    return threads if isinstance(threads, int) else threads.most


def run_over(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: Threads,
    failed: Callable[[BaseException], None] = lambda error: None,
) -> list[Result]:
    """Call `work` on each item, on so many threads; see `Team.run`."""
    if isinstance(threads, Team):
        return threads.run(work, list(items), failed)
    if threads <= 1:
        return [work(item) for item in items]
    with Team(threads) as team, team.at_work():
        return team.run(work, list(items), failed)
