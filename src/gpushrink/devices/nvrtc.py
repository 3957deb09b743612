"""Compile kernel text with NVRTC by ctypes: no driver, no CuPy. For the compile gate and for doctor."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CompiledKernel", "Nvrtc", "NvrtcError", "find_nvrtc"]

# Where the pip wheels put the library, below a site folder.
_PLACES = {
    12: ("nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "nvidia/cuda_nvrtc/bin/nvrtc64_120_0.dll"),
    13: ("nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cu13/bin/x86_64/nvrtc64_130_0.dll"),
}
_USAGE = re.compile(
    r"Compiling entry function '(\w+)' for '\w+'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)
_SHARED = re.compile(r"(\d+) bytes smem")


class NvrtcError(Exception):
    """Say that NVRTC refuses; the message is its log."""


@dataclass(frozen=True)
class CompiledKernel:
    """What ptxas reports of one kernel."""

    name: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int


def find_nvrtc(major: int) -> Path | None:
    """Find the library of a pip wheel, on ``sys.path`` or in the folders of ``$GPUSHRINK_NVRTC_PATH``."""
    named = os.environ.get("GPUSHRINK_NVRTC_PATH", "")
    for folder in [*named.split(os.pathsep), *sys.path]:
        for place in _PLACES[major]:
            if folder and (Path(folder) / place).exists():
                return Path(folder) / place
    return None


class Nvrtc:
    """One loaded NVRTC library.

    Parameters
    ----------
    path
        As `find_nvrtc` gives it.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> tuple[int, int]:
        """Give major and minor version."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def architectures(self) -> list[int]:
        """List the compute capabilities that it compiles for, as 70, 75, ..."""
        count = ctypes.c_int()
        self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._library.nvrtcGetSupportedArchs(found)
        return list(found)

    def compile(self, code: str, options: tuple[str, ...], *, architecture: int) -> list[CompiledKernel]:
        """Compile to machine code and return what each kernel uses.

        Raises
        ------
        NvrtcError
            If the text does not compile for this architecture.
        """
        program = ctypes.c_void_p()
        self._library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernel.cu", 0, None, None)
        texts = [f"--gpu-architecture=sm_{architecture}", "--std=c++17", "--ptxas-options=-v", *options]
        array = (ctypes.c_char_p * len(texts))(*[text.encode() for text in texts])
        status = self._library.nvrtcCompileProgram(program, len(texts), array)
        size = ctypes.c_size_t()
        self._library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value + 1)
        self._library.nvrtcGetProgramLog(program, buffer)
        self._library.nvrtcDestroyProgram(ctypes.byref(program))
        log = buffer.value.decode(errors="replace")
        if status != 0:
            raise NvrtcError(f"{self._library.nvrtcGetErrorString(status).decode()} for sm_{architecture}\n{log}")
        return [
            CompiledKernel(
                name,
                int(registers),
                int(stack),
                int(stores) + int(loads),
                int(shared.group(1)) if (shared := _SHARED.search(rest)) else 0,
            )
            for name, stack, stores, loads, registers, rest in _USAGE.findall(log)
        ]
