"""CUDA C++ sources, shipped as text and read by name.

They are compiled on the machine that runs them; nothing here is imported by the CPU path.
"""

from __future__ import annotations

from importlib.resources import files

__all__ = ["kernel_names", "read_kernel"]


def kernel_names() -> list[str]:
    """List the sources that ship, headers included, sorted by name."""
    return sorted(item.name for item in files(__name__).iterdir() if item.name.endswith((".cu", ".cuh")))


def read_kernel(name: str) -> str:
    """Return the text of one source.

    Parameters
    ----------
    name
        A file name out of `kernel_names`, for example ``"common.cuh"``.

    Raises
    ------
    FileNotFoundError
        If no such source ships.
    """
    return (files(__name__) / name).read_text(encoding="utf-8")
