"""Begin helping processes, hand them tasks, do without those that fail."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from gpushrink.codec.compiling import prepare
from gpushrink.errors import UsageError
from gpushrink.pipeline.crew.messages import BEGUN, READY, read_message, widen, write_message
from gpushrink.pipeline.crew.tasks import Setting

__all__ = ["Crew", "HelperLostError", "Seat"]

Result = TypeVar("Result")

# Not multiprocessing: its children run the caller's main module once more, and a script that packs without asking
# whether it is `__main__` would pack again in each.
_PROGRAM: Final = "import sys; sys.path[:] = sys.argv[1:]; from gpushrink.pipeline.crew.helper import main; main()"
_END_S: Final = 5.0
# More threads of one process wait for its interpreter's lock more than they gain.
_THREADS_A_HELPER: Final = 4
# A helper is ready after some two seconds, with a card some three.
_WORTHWHILE_BYTES: Final = 4 << 30
# One failure may be the task's fault; a process without memory or its device fails again and again.
_MOST_FAILURES: Final = 3


class HelperLostError(Exception):
    """Say that a task came to nothing because of the process it was given to: it has to be done here."""


class _Helper:
    """One process, and what it has been given. All but `call` is for `Crew`, under its lock."""

    def __init__(self, setting: Setting, crew: Crew) -> None:
        self._crew = crew
        self.threads = self.seats = setting.threads
        self._failures = 0
        self.has_begun = self.ready = self.lost = False
        self.engine = ""
        self._asked: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._writing = threading.Lock()
        paths = [os.fspath(path) for path in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._requests = cast(io.RawIOBase, self._process.stdin)
        self._results = cast(io.RawIOBase, self._process.stdout)
        widen(self._requests)
        self._send(setting)
        self._listener = threading.Thread(target=self._listen, name="gpushrink-crew", daemon=True)
        self._listener.start()

    def call(self, task: str, arguments: tuple[object, ...]) -> Any:
        """Have a task done."""
        return self.ask(task, arguments).result()

    def ask(self, task: str, arguments: tuple[object, ...]) -> Future[Any]:
        """Ask for a task to be done."""
        answer: Future[Any] = Future()
        number = next(self._numbers)
        self._asked[number] = answer
        if self.lost:
            raise HelperLostError
        self._send((number, task, arguments))
        return answer

    def _send(self, message: object) -> None:
        try:
            with self._writing:
                write_message(self._requests, message)
        except (OSError, ValueError):  # its end of the pipe, or ours, is closed
            self._lose()
            raise HelperLostError from None

    def _listen(self) -> None:
        try:
            while True:
                number, done, found = read_message(self._results)
                if number == BEGUN:
                    self._crew.greet(self)
                elif number == READY:
                    self.engine, self.seats = found
                    self._crew.welcome(self)
                elif done:
                    self._asked.pop(number).set_result(found)
                else:
                    self._failures += 1
                    if self._failures == _MOST_FAILURES:
                        break
                    self._asked.pop(number).set_exception(HelperLostError())
        except Exception:  # an end, or what is no message: either way it is of no use any more
            pass
        self._lose()

    def _lose(self) -> None:
        self._crew.lose(self)
        for number in list(self._asked):
            answer = self._asked.pop(number, None)
            if answer is not None and not answer.done():
                with suppress(Exception):
                    answer.set_exception(HelperLostError())

    def dismiss(self) -> None:
        """Let the process end: it holds nothing that could be lost."""
        with suppress(OSError):
            self._requests.close()

    def kill(self) -> None:
        """End the process now; what it was asked for is lost."""
        self._process.kill()

    def end(self) -> None:
        """Wait for the end of a process that was dismissed."""
        try:
            self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_S)
        self._listener.join(_END_S)
        self._results.close()


class Seat:
    """Hold a place for one task: at a helper, or in this process."""

    def __init__(self, crew: Crew, helper: _Helper | None) -> None:
        self._crew, self._helper = crew, helper

    @property
    def is_here(self) -> bool:
        """Tell whether the task has to be done in this process."""
        return self._helper is None

    def call(self, task: str, *arguments: object) -> Any:
        """Have a task of `gpushrink.pipeline.crew.tasks` done by the helper.

        Raises
        ------
        HelperLostError
            If it came to nothing, whatever the reason.
        """
        assert self._helper is not None
        return self._helper.call(task, arguments)

    def __enter__(self) -> Seat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.leave(self._helper)


class Crew:
    """Share tasks between this process and helpers; safe to use from many threads.

    Parameters
    ----------
    threads
        How many tasks may run at once, helpers' included, once these are there; until then all of them run here.
    level, device, device_memory
        As for `gpushrink.pack`.
    processes
        How many helpers there shall be; None for what suits the threads and the amount of work.
    """

    def __init__(
        self,
        *,
        threads: int,
        level: str = "default",
        device: str = "cpu",
        device_memory: int | None = None,
        processes: int | None = None,
    ) -> None:
        if processes is not None and processes < 0:
            raise UsageError("processes cannot be fewer than none")
        self._threads, self._processes = threads, processes
        self._level, self._device, self._device_memory = level, device, device_memory
        self._beginning = threading.Lock()
        self._changed = threading.Condition()
        self._helpers: list[_Helper] = []
        self._here = 0

    def begin_for(self, size_bytes: int | None, *, opened: bool = True) -> bool:
        """Begin helping processes if there is enough work; they take part as soon as each is ready, within seconds.

        Parameters
        ----------
        size_bytes
            How much work there is, decoded; None where nobody knows: then only if a number of them was asked for.
        opened
            Have them open their codecs at once; else they wait for `open`, and can meanwhile be asked by `spread`.

        Returns
        -------
        bool
            Whether there are any.
        """
        with self._beginning:
            count = self._wanted(size_bytes)
            if count and not self._helpers:
                self._begin(count)
                if opened:
                    self.open()
            return bool(self._helpers)

    def open(self) -> None:
        """Have the helpers open their codecs, which takes them a second or more."""
        for helper in list(self._helpers):
            with suppress(HelperLostError):
                helper.ask("open", ())

    def _wanted(self, size_bytes: int | None) -> int:
        # Of a program that brings its interpreter along, `sys.executable` is the program.
        if not sys.executable or getattr(sys, "frozen", False):
            return 0
        if self._processes is not None:
            return self._processes
        many = self._threads // _THREADS_A_HELPER
        return many if many > 1 and size_bytes is not None and size_bytes >= _WORTHWHILE_BYTES else 0

    def _begin(self, count: int) -> None:
        prepare("encode")  # or each of them would
        setting = Setting(
            threads=max(1, self._threads // count),
            level=self._level,
            device=self._device,
            device_memory=self._device_memory,
            device_parts=count + 1,
        )
        for _ in range(count):
            try:
                helper = _Helper(setting, self)
            except (OSError, HelperLostError):  # no more processes to be had: it goes without
                break
            with self._changed:
                self._helpers.append(helper)

    @property
    def count(self) -> int:
        """Count the helpers that are at work."""
        return len(self._able())

    @property
    def engines(self) -> list[str]:
        """Name what runs the volume codec in the helpers that are at work, each once."""
        return sorted({helper.engine for helper in self._able()})

    def _able(self) -> list[_Helper]:
        return [helper for helper in self._helpers if helper.ready and not helper.lost]

    def take(self) -> Seat:
        """Wait for a place for a task: at a helper if one is free."""
        with self._changed:
            while True:
                able = self._able()
                helper = max(able, key=lambda one: one.seats, default=None)
                if helper is not None and helper.seats:
                    helper.seats -= 1
                    return Seat(self, helper)
                # Places are moved to helpers, not added: there are no more processors than before. All of them, since
                # this process has its lock to share among all that brings tasks and takes results.
                away = sum(one.threads for one in able)
                if self._here < self._threads - away:
                    self._here += 1
                    return Seat(self, None)
                self._changed.wait()

    def spread(self, task: str, here: Callable[..., Result], items: Iterable[tuple[object, ...]]) -> list[Result]:
        """Do a task that needs no codec on each item: at helpers, as soon as each has begun, and here.

        Parameters
        ----------
        here
            Does it in this process, also what a helper has failed at: its error is the one that is raised.

        Returns
        -------
        list
            The results, in the order of `items`.
        """
        left = deque(enumerate(items))
        results: list[Any] = [None] * len(left)
        given_up = threading.Event()

        def work(helper: _Helper | None) -> None:
            try:
                while helper is None or not helper.lost:
                    try:
                        place, item = left.popleft()
                    except IndexError:
                        return
                    try:
                        results[place] = here(*item) if helper is None else helper.call(task, item)
                    except HelperLostError:
                        if not given_up.is_set():
                            results[place] = here(*item)
            except BaseException:
                left.clear()
                raise

        def serve(helper: _Helper) -> None:
            with self._changed:
                self._changed.wait_for(lambda: helper.has_begun or helper.lost or not left)
            work(helper)

        with self._changed:
            helpers = list(self._helpers)
        with ThreadPoolExecutor(max(1, len(helpers))) as pool:
            serving = [pool.submit(serve, helper) for helper in helpers]
            try:
                work(None)
                self._notify()
                for one in wait(serving, return_when=FIRST_EXCEPTION).done:
                    one.result()
            except BaseException:
                # Nobody wants what helpers have in hand, nor any more of them.
                given_up.set()
                left.clear()
                for helper in helpers:
                    helper.kill()
                self._notify()
                raise
        return results

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def leave(self, helper: _Helper | None) -> None:
        """Give a place back."""
        with self._changed:
            if helper is None:
                self._here -= 1
            else:
                helper.seats += 1
            self._changed.notify_all()

    def greet(self, helper: _Helper) -> None:
        """Note that a helper has begun: it can be asked what needs no codec."""
        with self._changed:
            helper.has_begun = True
            self._changed.notify_all()

    def welcome(self, helper: _Helper) -> None:
        """Note that a helper is ready."""
        with self._changed:
            helper.ready = True
            self._changed.notify_all()

    def lose(self, helper: _Helper) -> None:
        """Note that a helper is of no use any more."""
        with self._changed:
            helper.lost = True
            self._changed.notify_all()

    def dismiss(self) -> None:
        """Let all helpers end, and wait for none: to let go of a card takes a process a while."""
        with self._changed:
            helpers = list(self._helpers)
        for helper in helpers:
            helper.dismiss()

    def close(self) -> None:
        """End all helpers."""
        self.dismiss()
        with self._changed:
            helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.end()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
