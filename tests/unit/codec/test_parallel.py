"""Threads that help each other: results in order, errors where they were asked for, nobody waited for in vain."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from gpushrink.codec.parallel import Team, most_of, run_over

PATIENCE = 30.0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads: int) -> None:
    """Whoever does them."""
    assert run_over(lambda x: x * x, range(100), threads=threads) == [x * x for x in range(100)]


@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_to_do_is_done(threads: int) -> None:
    """An empty list is a list."""
    assert run_over(lambda x: x, [], threads=threads) == []


def _meeting(count: int) -> Callable[[object], int]:
    """Make work that ends when so many are at it at once, and tells which thread did it."""
    barrier = threading.Barrier(count, timeout=PATIENCE)

    def work(_: object) -> int:
        barrier.wait()
        return threading.get_ident()

    return work


def test_those_at_rest_help() -> None:
    """One job, three processors: three threads."""
    with Team(3) as team, team.at_work():
        assert len(set(team.run(_meeting(3), range(3)))) == 3


def test_nobody_helps_while_all_are_at_work() -> None:
    """Two jobs, two processors: each alone."""
    with Team(2) as team, team.at_work(), team.at_work():
        assert set(team.run(lambda _: threading.get_ident(), range(20))) == {threading.get_ident()}


def test_who_is_needed_for_a_job_stops_helping() -> None:
    """A helper leaves after the item in hand once its processor has a job."""
    helped, needed = threading.Event(), threading.Event()
    here = threading.get_ident()
    after: list[int] = []

    def work(k: int) -> None:
        if needed.is_set():
            after.append(threading.get_ident())
        elif threading.get_ident() == here:
            assert helped.wait(PATIENCE)
            assert needed.wait(PATIENCE)
        else:
            helped.set()
            assert needed.wait(PATIENCE)

    with Team(2) as team, team.at_work():

        def begin_a_job() -> None:
            assert helped.wait(PATIENCE)
            with team.at_work():
                needed.set()
                assert done.wait(PATIENCE)

        done = threading.Event()
        other = threading.Thread(target=begin_a_job)
        other.start()
        team.run(work, range(40))
        done.set()
        other.join()
    assert set(after) == {here}


def test_help_comes_when_a_job_ends_meanwhile() -> None:
    """A processor that comes to rest while items are left is used."""
    with Team(2) as team, team.at_work():
        other = team.at_work()
        other.__enter__()
        threads: list[int] = []
        meet = _meeting(2)

        def work(k: int) -> None:
            if k == 0:
                other.__exit__(None, None, None)
            else:
                threads.append(meet(k))

        team.run(work, range(3))
    assert len(set(threads)) == 2


@pytest.mark.parametrize("at", [0, 1, 7, 19])
@pytest.mark.parametrize("most", [1, 2, 4])
def test_an_error_is_raised_when_all_have_ended(most: int, at: int) -> None:
    """No item is begun after it, and the team goes on."""
    begun: list[int] = []
    ended: list[int] = []

    def work(k: int) -> None:
        begun.append(k)
        if k == at:
            raise ZeroDivisionError(k)
        ended.append(k)

    with Team(most) as team, team.at_work():
        with pytest.raises(ZeroDivisionError, match=f"^{at}$"):
            team.run(work, range(20))
        assert len(begun) == len(ended) + 1
        assert team.run(lambda k: k, range(5)) == list(range(5))


def test_an_error_of_a_helper_is_raised_here() -> None:
    """Not lost in its thread."""
    here = threading.get_ident()
    failed = threading.Event()

    def work(k: int) -> None:
        if threading.get_ident() == here:
            assert failed.wait(PATIENCE)
        else:
            failed.set()
            raise ZeroDivisionError

    with Team(2) as team, team.at_work(), pytest.raises(ZeroDivisionError):
        team.run(work, range(20))


def test_many_jobs_share_a_team() -> None:
    """Nested and side by side; nobody is counted for ever."""
    with Team(3) as team:
        found: dict[int, list[int]] = {}

        def job(number: int) -> None:
            with team.at_work():
                for _ in range(50):
                    # Work within work, as slabs have it.
                    found[number] = team.run(lambda k: sum(team.run(lambda j: j * number, range(k))), range(8))

        threads = [threading.Thread(target=job, args=(number,)) for number in range(3)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(PATIENCE)
        assert found == {n: [n * k * (k - 1) // 2 for k in range(8)] for n in range(3)}
        with team.at_work():
            assert len(set(team.run(_meeting(3), range(3)))) == 3  # nobody is still counted as busy


def test_most_of() -> None:
    """Of either kind."""
    assert most_of(3) == 3
    assert most_of(Team(5)) == 5


def test_who_waits_for_an_item_that_is_never_begun_is_told() -> None:
    """An interruption may strike between taking an item and beginning it."""
    here = threading.get_ident()
    waiting, told = threading.Event(), threading.Event()

    def work(k: int) -> None:
        if threading.get_ident() == here:
            assert waiting.wait(PATIENCE)
            raise KeyboardInterrupt
        waiting.set()
        assert told.wait(PATIENCE)

    with Team(2) as team, team.at_work(), pytest.raises(KeyboardInterrupt):
        team.run(work, range(20), lambda error: told.set())
    assert told.is_set()


def test_errors_of_two_hold_no_memory() -> None:
    """Where caller and helper fail alike, what the helper had in hand goes at once, without the collector."""

    class Load:
        pass

    both, kept = threading.Barrier(2, timeout=PATIENCE), []

    def work(_: int) -> None:
        load = Load()
        kept.append(weakref.ref(load))
        both.wait()
        raise ValueError("bad")

    def fail() -> None:
        with Team(2) as team, team.at_work(), pytest.raises(ValueError, match="bad"):
            team.run(work, range(2))

    gc.disable()
    try:
        fail()
        assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()


def test_helpers_are_waited_for_whatever_the_callback_raises() -> None:
    """Nobody works on when `run` has ended."""
    begun, ended = threading.Event(), threading.Event()
    here = threading.get_ident()

    def work(_: int) -> None:
        if threading.get_ident() == here:
            assert begun.wait(PATIENCE)
            raise ValueError("bad")
        begun.set()
        time.sleep(0.2)
        ended.set()

    def refuse(error: BaseException) -> None:
        raise RuntimeError("worse") from error

    with Team(2) as team, team.at_work():
        with pytest.raises(RuntimeError, match="worse"):
            team.run(work, range(2), refuse)
        assert ended.is_set()
