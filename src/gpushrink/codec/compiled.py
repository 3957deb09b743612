"""Compile loops for numba so that what is kept on disk never outlives any kernel's text.

numba looks at the file of the function alone, not at those of the functions it calls: after an update of one file it
could go on with the machine code of the old, writing and proving archives that no other reader understands.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba

from gpushrink.codec.texts import digest_texts

__all__ = ["compiled", "compiled_text"]


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles as `numba.njit(cache=True, nogil=True)` does, but keeps other texts apart.

    Parameters
    ----------
    options
        Further options of `numba.njit`.
    """

    def wrap(function: Any) -> Any:
        dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
        try:
            kept = dispatcher._cache._cache_file
            kept._source_stamp = (kept._source_stamp, digest_texts())
        except AttributeError:
            # A numba built otherwise, or one with nowhere to keep anything: rather slow to start than wrong.
            return numba.njit(nogil=True, **options)(function)
        return dispatcher

    return wrap


def compiled_text(function: Callable[..., Any], **callees: Any) -> Any:
    """Compile the text of `function` so that it calls the compiled ones of the functions named."""
    names = {**function.__globals__, **callees}
    return compiled()(FunctionType(function.__code__, names, function.__name__))
