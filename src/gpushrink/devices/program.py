"""Put one kernel's text together: its own headers inlined, ready for any compiler that takes one text."""

from __future__ import annotations

import re

from gpushrink.kernels import read_kernel

__all__ = ["compose"]

_OWN_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[ \t]*$', re.MULTILINE)


def compose(name: str) -> str:
    """Return the text of a shipped kernel file with each own header inlined once.

    Parameters
    ----------
    name
        A ``.cu`` file of `gpushrink.kernels.kernel_names`.

    Raises
    ------
    FileNotFoundError
        If it, or a header it includes, does not ship.
    """
    text: str = read_kernel(name)
    return inline_headers(text, seen=set())


def inline_headers(text: str, *, seen: set[str]) -> str:
    """Replace ``#include "x.cuh"`` by the header's text; a header in `seen` by nothing."""

    def replace(match: re.Match[str]) -> str:
        header = match.group(1)
        if header in seen:
            return ""
        seen.add(header)
        body: str = inline_headers(read_kernel(header), seen=seen)
        # #pragma once warns in a main file, and each header comes in once anyway.
        return body.replace("#pragma once\n", "")

    return _OWN_INCLUDE.sub(replace, text)
