"""Prove an archive while it goes down a pipe, where it cannot be read back."""

from __future__ import annotations

import io
import queue
import threading
from typing import BinaryIO, cast

from gpushrink.archive.writer import ByteSink
from gpushrink.codec.buffers import Buffer
from gpushrink.pipeline.crew import Crew
from gpushrink.pipeline.restore_report import RestoreReport
from gpushrink.pipeline.unpacking import verify_archive

__all__ = ["ProvingTee"]

_QUEUED = 8


class ProvingTee:
    """Pass bytes on and decode a copy of them in a thread, a few blocks behind.

    The queue is bounded: where decoding is slower than the pipe, the writer waits, and memory stays small.
    """

    def __init__(self, sink: ByteSink, *, threads: int, crew: Crew | None = None) -> None:
        self._sink = sink
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._report: RestoreReport | None = None
        self._error: BaseException | None = None
        self._threads, self._crew = threads, crew
        self._thread = threading.Thread(target=self._prove, name="gpushrink-verify", daemon=True)
        self._thread.start()

    def write(self, data: Buffer) -> None:
        """Pass `data` on."""
        self._sink.write(data)
        self._queue.put(bytes(data))

    def finish(self) -> RestoreReport:
        """Wait for the proof and return its report."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._report is not None
        return self._report

    def abandon(self) -> None:
        """Stop proving: the archive will not be finished."""
        self._queue.put(None)
        self._thread.join()

    def _prove(self) -> None:
        stream = _QueueStream(self._queue)
        try:
            self._report = verify_archive(cast(BinaryIO, stream), threads=self._threads, crew=self._crew)
        except BaseException as error:
            self._error = error
        finally:
            stream.drain()


class _QueueStream(io.RawIOBase):
    """Read what a queue delivers, up to its None."""

    def __init__(self, source: queue.Queue[bytes | None]) -> None:
        self._source = source
        self._rest = memoryview(b"")
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        while not self._rest and not self._ended:
            item = self._source.get()
            if item is None:
                self._ended = True
            else:
                self._rest = memoryview(item)
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)

    def seekable(self) -> bool:
        return False

    def drain(self) -> None:
        """Take what is left, so that the writer never waits for a reader that is gone."""
        while not self._ended:
            self._ended = self._source.get() is None
