"""Calls from many threads, served together where they may be: how slabs that come one by one become batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Combiner"]

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Call(Generic[Request, Result]):
    """One thread's call: what it asks, and what became of it."""

    key: Hashable
    request: Request
    results: list[Result] = field(default_factory=list)
    error: BaseException | None = None
    taken: bool = False

    @property
    def done(self) -> bool:
        return bool(self.results) or self.error is not None


class Combiner(Generic[Request, Result]):
    """Serve calls in batches, on the threads that call.

    A thread whose call nobody has taken, and that finds a place free, serves it together with all that wait with the
    same key; the others wait. So nothing waits for a batch to fill, and batches are as large as the places are busy.

    Parameters
    ----------
    serve
        Gives the results of several requests, in their order.
    places
        How many batches are served at once.
    limit
        How many requests like this one may go together.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Request]], Sequence[Result]],
        *,
        places: int,
        limit: Callable[[Request], int],
    ) -> None:
        self._serve, self._places, self._limit = serve, places, limit
        self._waiting: list[_Call[Request, Result]] = []
        self._changed = threading.Condition()

    def call(self, key: Hashable, request: Request) -> Result:
        """Serve a request; what `serve` raises for it alone is raised here."""
        own: _Call[Request, Result] = _Call(key, request)
        with self._changed:
            self._waiting.append(own)
            self._changed.wait_for(lambda: own.done or (self._places and not own.taken))
            batch = [] if own.done else self._take(own)
        if batch:
            try:
                self._run(batch)
            finally:
                with self._changed:
                    self._places += 1
                    self._changed.notify_all()
        if own.error is not None:
            raise own.error
        return own.results[0]

    def _take(self, own: _Call[Request, Result]) -> list[_Call[Request, Result]]:
        """Take a place, and for it this call with the oldest of those that may go with it."""
        try:
            most = max(1, self._limit(own.request))
        except BaseException:
            self._waiting.remove(own)
            raise
        self._places -= 1
        like = [one for one in self._waiting if one.key == own.key and one is not own]
        batch = [own, *like[: most - 1]]
        for one in batch:
            one.taken = True
            self._waiting.remove(one)
        return batch

    def _run(self, batch: Sequence[_Call[Request, Result]]) -> None:
        try:
            results = self._serve([one.request for one in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            self._run_apart(batch)
            return
        except BaseException as error:  # an interrupt reaches one thread; the others must not wait for ever
            for one in batch:
                one.error = one.error if one.done else error
            raise
        for one, result in zip(batch, results, strict=True):
            one.results.append(result)

    def _run_apart(self, batch: Sequence[_Call[Request, Result]]) -> None:
        """Serve each call by itself, so that each finds its own end."""
        try:
            for one in batch:
                self._run([one])
        except BaseException as error:
            for one in batch:
                one.error = one.error if one.done else error
            raise
