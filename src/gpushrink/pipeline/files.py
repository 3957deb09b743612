"""Open and close what the stories read and write: files under temporary names, standard streams."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from gpushrink.codec.buffers import Buffer
from gpushrink.errors import DestinationError, InputError

__all__ = ["NewFile", "StandardOutput", "default_threads", "open_archive"]

# Enough at a time for a disk to be at its best, little enough to leave not much for the end.
_SYNC_BYTES = 64 << 20


def default_threads() -> int:
    """Return the number of processors this process may use."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


@contextlib.contextmanager
def open_archive(archive: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open an archive for reading; ``-`` is standard input.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    if os.fspath(archive) == "-":
        yield sys.stdin.buffer
        return
    path = Path(archive)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read archive {str(path)!r}: {error.strerror}") from None
    with stream:
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder, not an archive")
        yield stream


@contextlib.contextmanager
def _explained_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise DestinationError("the reader of standard output went away before the archive was whole") from None
    except OSError as error:  # Windows says EINVAL where others say EPIPE
        raise DestinationError(f"cannot write to standard output: {error.strerror}") from None


class StandardOutput:
    """Write an archive to standard output, saying plainly when the reader went away."""

    def write(self, data: Buffer) -> None:
        """Write all of `data`.

        Raises
        ------
        DestinationError
            If the pipe is closed at the other end, or what lies behind it is full.
        """
        left = memoryview(data)
        with _explained_output():
            while left:  # unbuffered (python -u), a write may take less than it is given
                left = left[sys.stdout.buffer.write(left) :]

    def flush(self) -> None:
        """Hand everything to the system."""
        with _explained_output():
            sys.stdout.buffer.flush()


class NewFile:
    """Write a file under a temporary name beside its own; it takes its name only by `commit`.

    A context manager: leaving it without `commit` removes the temporary file.

    Raises
    ------
    DestinationError
        If the file exists and `force` is False, or cannot be written.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path
        self._force = force
        # A random name: what a killed run left behind must not be in the way of the next.
        self._part = path.with_name(f".gpushrink-{secrets.token_hex(8)}.part")
        self._stream: io.BufferedRandom | None = None
        self._syncer = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None
        self._unsynced = 0

    def __enter__(self) -> NewFile:
        if self.path.is_dir():
            raise DestinationError(f"{str(self.path)!r} is a folder; name a file in it")
        if os.path.lexists(self.path) and not self._force:
            raise DestinationError(f"{str(self.path)!r} exists already; use --force to replace it")
        try:
            self._stream = self._part.open("x+b")
        except OSError as error:
            raise DestinationError(f"cannot write {str(self.path)!r}: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._syncer.shutdown(cancel_futures=True)  # waits: the file must not be closed under it
        if self._stream is not None:
            with contextlib.suppress(OSError):  # a full disk: what could not be flushed is thrown away anyway
                self._stream.close()
            self._part.unlink(missing_ok=True)

    def write(self, data: Buffer) -> None:
        """Write all of `data`.

        What was written goes to the disk while more is made: `commit` then has little left to wait for.
        """
        with self._explained():
            self._open.write(data)
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_BYTES and (self._syncing is None or self._syncing.done()):
                self._wait_for_sync()
                self._open.flush()
                self._unsynced = 0
                self._syncing = self._syncer.submit(os.fsync, self._open.fileno())

    def _wait_for_sync(self) -> None:
        """Wait for what goes to the disk; the system tells of a failure once, so it must be heard."""
        if self._syncing is not None:
            self._syncing.result()

    def reopen(self) -> BinaryIO:
        """Return the file, at its start, for reading what was written."""
        with self._explained():
            self._open.flush()
            self._open.seek(0)
        return self._open

    def commit(self) -> None:
        """Make the bytes durable and give the file its name."""
        with self._explained():
            self._open.flush()
            self._wait_for_sync()
            os.fsync(self._open.fileno())
            self._open.close()
            if self._force:
                self._part.replace(self.path)
            else:
                self._rename_new()
            _sync_folder(self.path.parent)

    def _rename_new(self) -> None:
        """Rename without replacing a file that somebody made meanwhile."""
        try:
            if os.name == "nt":
                self._part.rename(self.path)  # refuses by itself
                return
            try:
                self.path.hardlink_to(self._part)  # so does this, where there are hard links
            except FileExistsError:
                raise
            except (OSError, NotImplementedError):
                if os.path.lexists(self.path):
                    raise FileExistsError from None
                self._part.replace(self.path)
        except FileExistsError:
            raise DestinationError(f"{str(self.path)!r} appeared meanwhile; use --force to replace it") from None

    @property
    def _open(self) -> io.BufferedRandom:
        assert self._stream is not None, "used outside its with statement"
        return self._stream

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "; free some space" if error.errno == errno.ENOSPC else ""
            raise DestinationError(f"cannot write {str(self.path)!r}: {error.strerror}{hint}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no such call and needs none."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
