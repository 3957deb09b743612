"""Calls served together: each gets its own result or error, whatever it was served with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpushrink.devices.combining import Combiner


class Server:
    """Double numbers; hold the first batch until told."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, requests: Sequence[int]) -> list[int]:
        """Serve."""
        with self._lock:
            self.batches.append(list(requests))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        assert self.go.wait(30)
        with self._lock:
            self.at_once -= 1
        if any(request < 0 for request in requests):
            raise ValueError(f"negative among {list(requests)}")
        return [2 * request for request in requests]


def wait_until_waiting(combiner: Combiner[int, int], count: int) -> None:
    """Wait until so many calls wait."""
    for _ in range(3000):
        with combiner._changed:
            if len(combiner._waiting) == count:
                return
        threading.Event().wait(0.01)
    raise AssertionError("the calls never came")


def test_calls_that_wait_are_served_together_by_key_up_to_the_limit() -> None:
    """While one batch runs others gather; those of one key go together, up to the limit, each with its result."""
    server = Server()
    combiner: Combiner[int, int] = Combiner(server, places=1, limit=lambda _: 3)
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(combiner.call, "odd", 1)
        assert server.begun.wait(30)
        others = [threads.submit(combiner.call, "odd" if number % 2 else "even", number) for number in range(2, 10)]
        wait_until_waiting(combiner, 8)
        server.go.set()
        assert first.result(30) == 2
        assert [other.result(30) for other in others] == [2 * number for number in range(2, 10)]
    assert server.batches[0] == [1]
    assert all(len({number % 2 for number in batch}) == 1 for batch in server.batches)
    assert sorted(map(len, server.batches)) == [1, 1, 1, 3, 3]
    assert server.most_at_once == 1


def test_places_are_all_used_and_no_more() -> None:
    """As many batches run at once as there are places."""
    server = Server()
    combiner: Combiner[int, int] = Combiner(server, places=2, limit=lambda _: 1)
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(combiner.call, 0, number) for number in range(6)]
        wait_until_waiting(combiner, 4)
        assert server.most_at_once == 2
        server.go.set()
        assert [call.result(30) for call in calls] == [0, 2, 4, 6, 8, 10]
    assert server.most_at_once == 2


def test_one_that_fails_fails_alone() -> None:
    """A request that cannot be served takes nobody with it."""
    server = Server()
    combiner: Combiner[int, int] = Combiner(server, places=1, limit=lambda _: 8)
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(combiner.call, 0, 7)
        assert server.begun.wait(30)
        calls = [threads.submit(combiner.call, 0, number) for number in (1, -1, 2, 3)]
        wait_until_waiting(combiner, 4)
        server.go.set()
        assert first.result(30) == 14
        assert [calls[place].result(30) for place in (0, 2, 3)] == [2, 4, 6]
        with pytest.raises(ValueError, match=r"among \[-1\]"):
            calls[1].result(30)
    assert combiner.call(0, 4) == 8  # the place is free again


@pytest.mark.timeout(60)
@pytest.mark.parametrize("when", ["together", "one by one"])
def test_interrupted_batch_ends_for_all(when: str) -> None:
    """What is no error but an interrupt reaches every call of the batch; nobody waits for ever."""
    server = Server()

    def serve(requests: Sequence[int]) -> list[int]:
        found = server(requests)
        if len(requests) > 1 and when == "one by one":
            raise ValueError("together")
        if len(requests) > 1 or requests[0] < 7:
            raise KeyboardInterrupt
        return found

    combiner: Combiner[int, int] = Combiner(serve, places=1, limit=lambda _: 8)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(combiner.call, 0, 7)
        assert server.begun.wait(30)
        others = [threads.submit(combiner.call, 0, number) for number in range(3)]
        wait_until_waiting(combiner, 3)
        server.go.set()
        assert first.result(30) == 14
        for other in others:
            with pytest.raises(KeyboardInterrupt):
                other.result(30)
    assert combiner.call(0, 9) == 18


def test_limit_that_raises_is_that_call_s_error_alone() -> None:
    """The place and the queue are as before."""

    def limit(request: int) -> int:
        if request < 0:
            raise KeyError(request)
        return 1

    combiner: Combiner[int, int] = Combiner(lambda requests: list(requests), places=1, limit=limit)
    for _ in range(3):
        with pytest.raises(KeyError):
            combiner.call(0, -1)
    assert combiner.call(0, 5) == 5
    assert not combiner._waiting
