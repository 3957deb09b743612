"""What a helping process runs: tasks from its standard input on a few threads, results to its standard output.

It holds nothing that its end could lose, and ends when its input does, which is when the process that began it does.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache

from gpushrink.pipeline.crew.messages import BEGUN, READY, read_message, widen, write_message
from gpushrink.pipeline.crew.tasks import EARLY_TASKS, TASKS, Setting, Workplace, most_seats

__all__ = ["main"]


def main() -> None:
    """Work until the input ends."""
    # Ctrl-C reaches all processes of a terminal: the first one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = io.FileIO(os.dup(0), "rb")
    results = io.FileIO(os.dup(1), "wb")
    # What libraries print must not come between messages, nor a child of theirs read them.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    widen(results)
    with suppress(EOFError, OSError):
        _serve(requests, results)
    os._exit(0)


def _serve(requests: io.FileIO, results: io.FileIO) -> None:
    setting: Setting = read_message(requests)
    writing = threading.Lock()

    def answer(message: object) -> None:
        try:
            with writing:
                write_message(results, message)
        except OSError:  # nobody listens any more
            os._exit(0)
        except BaseException:  # no memory for it, say: whoever waits for this answer hears of the end
            os._exit(1)

    opening: Future[Workplace] = Future()

    def open_workplace() -> None:
        try:
            place = Workplace(setting).__enter__()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        opening.set_result(place)
        answer((READY, True, (place.slab_codec.name, place.seats)))

    # By the first who asks for more than early tasks: both at once would hand the interpreter's lock to and fro at each
    # of the calls to the system that looking into files is made of, and take many times as long.
    begin_opening = cache(threading.Thread(target=open_workplace, daemon=True).start)

    def work(number: int, task: str, arguments: tuple[object, ...]) -> None:
        try:
            early = EARLY_TASKS.get(task)
            found = early(*arguments) if early is not None else TASKS[task](opening.result(), *arguments)
        except BaseException as error:
            # Only that it failed: the work is done again where it came from, and fails there with its own error.
            print(f"{task}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            answer((number, False, None))
        else:
            answer((number, True, found))

    answer((BEGUN, True, None))
    with ThreadPoolExecutor(most_seats(setting.threads)) as pool:
        while True:
            try:
                message = read_message(requests)
            except (EOFError, OSError):
                # At once: threads may be at work, but nobody waits for what comes of it.
                os._exit(0)
            if message[1] not in EARLY_TASKS:
                begin_opening()
            pool.submit(work, *message)
