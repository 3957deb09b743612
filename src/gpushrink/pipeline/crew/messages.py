"""Messages between processes of one program: Python objects whose large buffers travel beside them, uncopied.

Both ends run this code, started one by the other, over pipes that nobody else holds: that is why pickle will do. A
message is the size of its pickle and the number of its buffers, each buffer's size, the pickle, the buffers.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, Final, SupportsIndex

import numpy as np

from gpushrink.codec.buffers import Buffer
from gpushrink.pipeline.coding import Coded

__all__ = ["BEGUN", "READY", "Large", "carry_coded", "read_message", "widen", "write_message"]

BEGUN: Final = -2
"""In the place of a request's number: the helper runs, and takes what needs no codec."""
READY: Final = -1
"""The same: its codec is open."""

_HEAD: Final = struct.Struct("<QI")
_SIZE: Final = struct.Struct("<Q")
# Pipes hold 64 KiB unless told otherwise: a slab would take a hundred turns of both sides.
_PIPE_BYTES: Final = 1 << 20


class Large:
    """Mark bytes that a message carries beside its pickle; a memoryview arrives."""

    def __init__(self, data: Buffer) -> None:
        self._data = data

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[memoryview], tuple[pickle.PickleBuffer]]:
        # Made here and let go of by `write_message`: CPython 3.11 crashes when its garbage collection meets one.
        return memoryview, (pickle.PickleBuffer(self._data),)


def carry_coded(coded: Coded) -> Coded:
    """Mark a job's payload so."""
    return replace(coded, parts=tuple(map(Large, coded.parts)))  # type: ignore[arg-type]  # Buffers at the other end


def write_message(stream: io.RawIOBase, message: object) -> None:
    """Write a message whole; one thread at a time."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    with ExitStack() as held:
        for buffer in buffers:
            held.callback(buffer.release)
        raws = [held.enter_context(buffer.raw()) for buffer in buffers]
        head = _HEAD.pack(len(body), len(raws)) + b"".join(_SIZE.pack(raw.nbytes) for raw in raws)
        for view in (memoryview(head + body), *raws):
            at = 0
            while at < view.nbytes:
                at += stream.write(view[at:]) or 0


def read_message(stream: io.RawIOBase) -> Any:
    """Read a message whole.

    Raises
    ------
    EOFError
        If the stream ends before it does.
    """
    body_size, count = _HEAD.unpack(_read(stream, _HEAD.size))
    sizes = [_SIZE.unpack(_read(stream, _SIZE.size))[0] for _ in range(count)]
    body = _read(stream, body_size)
    return pickle.loads(body, buffers=[_read(stream, size) for size in sizes])


def _read(stream: io.RawIOBase, size: int) -> memoryview:
    whole = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]  # numpy's stubs lack the protocol before 3.12
    at = 0
    while at < size:
        count = stream.readinto(whole[at:])
        if not count:
            raise EOFError("the other process is gone")
        at += count
    return whole


def widen(stream: io.RawIOBase) -> None:
    """Let a pipe hold more at a time, where the system can."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        set_size: Callable[..., int] = fcntl.fcntl
        set_size(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
