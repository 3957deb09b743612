"""Put one kernel's text together: its own headers inlined, ready for any compiler that takes one text."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Final

__all__ = ["compose"]

# kernels/ lies outside the package's folder, where neither the import linter nor mypy would find it.
_KERNELS: Final = "gpushrink.kernels"
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
    return inline_headers(_read(name), seen=set())


def inline_headers(text: str, *, seen: set[str]) -> str:
    """Replace ``#include "x.cuh"`` by the header's text; a header in `seen` by nothing."""

    def replace(match: re.Match[str]) -> str:
        header = match.group(1)
        if header in seen:
            return ""
        seen.add(header)
        body = inline_headers(_read(header), seen=seen)
        # #pragma once warns in a main file, and each header comes in once anyway.
        return body.replace("#pragma once\n", "")

    return _OWN_INCLUDE.sub(replace, text)


def _read(name: str) -> str:
    text: str = import_module(_KERNELS).read_kernel(name)
    return text
