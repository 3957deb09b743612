"""Compile loops for numba so that what is kept on disk never outlives any kernel's text.

numba looks at the file of the function alone, not at those of the functions it calls: after an update of one file it
could go on with the machine code of the old, writing and proving archives that no other reader understands.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any

import numba
from numba.core import sigutils

from gpushrink.codec.texts import digest_texts

__all__ = ["can_keep", "compiled", "compiled_text"]


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles as `numba.njit(cache=True, nogil=True)` does, but keeps other texts apart.

    Parameters
    ----------
    options
        Further options of `numba.njit`.
    """

    def wrap(function: Any) -> Any:
        try:
            dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
            kept = dispatcher._cache._cache_file
            kept._source_stamp = (kept._source_stamp, digest_texts())
            _mistrust(dispatcher._cache)
        except (AttributeError, RuntimeError):
            # A numba built otherwise, or one with nowhere to keep anything: rather slow to start than wrong.
            return numba.njit(nogil=True, **options)(function)
        return dispatcher

    return wrap


def can_keep() -> bool:
    """Tell whether this machine has a place where numba may keep machine code."""
    try:
        numba.njit(cache=True)(can_keep)
    except RuntimeError:
        return False
    return True


def _mistrust(cache: Any) -> None:
    """Let a cache that is damaged, full or out of reach cost time alone.

    numba writes its index and its code one after the other: of two processes, one may file the other's code.
    """
    load, save = cache.load_overload, cache.save_overload

    def load_checked(signature: Any, context: Any) -> Any:
        try:
            found = load(signature, context)
        except Exception:  # whatever pickle makes of damage
            with suppress(OSError):
                cache.flush()  # or the index would be met again at every start
            return None
        wanted, _ = sigutils.normalize_signature(signature)  # type: ignore[no-untyped-call]
        return found if found is not None and tuple(found.signature.args) == tuple(wanted) else None

    def save_if_possible(signature: Any, data: Any) -> None:
        with suppress(Exception):  # it reads the index first
            save(signature, data)

    cache.load_overload, cache.save_overload = load_checked, save_if_possible


def compiled_text(function: Callable[..., Any], **callees: Any) -> Any:
    """Compile the text of `function` so that it calls the compiled ones of the functions named."""
    names = {**function.__globals__, **callees}
    return compiled()(FunctionType(function.__code__, names, function.__name__))
