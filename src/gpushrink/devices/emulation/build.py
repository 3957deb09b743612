"""Compile kernel text against the host shim, once for each text, compiler and sanitizer."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path

from gpushrink.errors import DeviceUnavailableError

__all__ = ["CompileError", "KernelRecord", "LaunchRecord", "Sanitizer", "build", "find_compiler", "kernel_names_in"]

_SOURCES = (
    "context.h",
    "driver.cpp",
    "fiber.h",
    "launch.h",
    "residents.h",
    "runtime.cpp",
    "runtime.h",
    "sanitizers.h",
    "shim.h",
)
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')
# No -fwrapv and no -fno-strict-aliasing: what a host compiler may assume, nvcc may too.
_WARNINGS = ("-Wall", "-Wextra", "-Werror=return-type", "-Wno-unknown-pragmas", "-Wno-unused-function")


class CompileError(Exception):
    """Say that kernel text does not compile; the message is the compiler's."""


class Sanitizer(Enum):
    """What watches a run. Everything but `NONE` runs in a process of its own."""

    NONE = "none"
    ADDRESS = "address"
    THREAD = "thread"


_SANITIZER_FLAGS: dict[Sanitizer, tuple[str, ...]] = {
    Sanitizer.NONE: ("-O2",),
    # -fsanitize-sections: GCC puts no red zones around variables of a named section unless told.
    Sanitizer.ADDRESS: (
        "-O1",
        "-g",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ),
    Sanitizer.THREAD: ("-O1", "-g", "-fsanitize=thread"),
}


class KernelRecord(ctypes.Structure):
    """Mirror `GsKernel` of runtime.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("parameter_count", ctypes.c_uint32),
        ("sizes", ctypes.POINTER(ctypes.c_uint32)),
        ("kinds", ctypes.POINTER(ctypes.c_uint32)),
    )


class LaunchRecord(ctypes.Structure):
    """Mirror `GsLaunch` of runtime.h."""

    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("dynamic_bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("first_block", ctypes.c_uint64),
        ("schedule", ctypes.c_uint32),
        ("reverse_blocks", ctypes.c_uint32),
        ("poison", ctypes.c_uint32),
        ("residents", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class _Compiler:
    path: str
    version: str

    @property
    def is_gcc(self) -> bool:
        return "clang" not in self.version.lower()


@functools.cache
def find_compiler() -> _Compiler:
    """Return the host compiler: ``$CXX``, else g++, else clang++.

    Raises
    ------
    DeviceUnavailableError
        If there is none, or the system is not Linux (the shim leans on ELF sections).
    """
    if sys.platform != "linux":
        raise DeviceUnavailableError("the host device emulates kernels on Linux only; use --device cpu")
    for name in (os.environ.get("CXX", ""), "g++", "clang++"):
        path = shutil.which(name) if name else None
        if path:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return _Compiler(path, done.stdout.splitlines()[0])
    raise DeviceUnavailableError("the host device needs a C++17 compiler: install g++, or name one in $CXX")


def kernel_names_in(code: str) -> list[str]:
    """List the names of the ``extern "C" __global__`` functions of a text, in order."""
    return _KERNEL.findall(code)


def build(code: str, *, options: tuple[str, ...] = (), sanitizer: Sanitizer = Sanitizer.NONE) -> Path:
    """Compile kernel text and return the shared library, or the driver executable of a sanitizer.

    Parameters
    ----------
    code
        CUDA C++ without ``#include`` of our own headers (`gpushrink.devices.program.compose` inlines them).
    options
        ``-D`` options, as given to NVRTC.
    sanitizer
        `Sanitizer.NONE` gives a library to load; the others an executable that takes a job and a result path.

    Raises
    ------
    CompileError
        If the compiler refuses the text.
    DeviceUnavailableError
        If there is no compiler.
    """
    compiler = find_compiler()
    folder = _cache_folder()
    flags = ["-std=c++17", *_SANITIZER_FLAGS[sanitizer], *_WARNINGS]
    if sanitizer is Sanitizer.ADDRESS and compiler.is_gcc:
        flags.append("-fsanitize-sections=gs_shared")
    names = kernel_names_in(code)
    if not names:
        raise CompileError('the text holds no extern "C" __global__ function')
    shims = {name: _shim_text(name) for name in _SOURCES}
    key = hashlib.sha256(
        "\0".join([compiler.path, compiler.version, *flags, *options, *shims.values(), code]).encode()
    ).hexdigest()[:32]
    is_library = sanitizer is Sanitizer.NONE
    target = folder / f"{key}{'.so' if is_library else '.exe'}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        for name, text in shims.items():
            (scratch / name).write_text(text, encoding="utf-8")
        table = ", ".join(f"GS_KERNEL({name})" for name in names)
        (scratch / "kernels.cpp").write_text(
            f'#include "shim.h"\n#line 1 "kernel"\n{code}\n'
            f'extern "C" __attribute__((visibility("default"))) const GsKernel* gs_kernels() {{\n'
            f"    static const GsKernel table[] = {{{table}, {{}}}};\n    return table;\n}}\n",
            encoding="utf-8",
        )
        _run([compiler.path, *flags, *options, "-fPIC", "-c", "kernels.cpp", "-o", "kernels.o"], scratch)
        # The runtime and the driver are built plain: what they do must neither alarm nor order.
        settings = [option for option in options if option.startswith("-DGS_")]
        plain = [compiler.path, "-std=c++17", "-O2", "-g", "-fPIC", *settings, "-c"]
        _run([*plain, "runtime.cpp", "-o", "runtime.o"], scratch)
        if is_library:
            _run([compiler.path, "-shared", "kernels.o", "runtime.o", "-o", "out"], scratch)
        else:
            _run([*plain, "driver.cpp", "-o", "driver.o"], scratch)
            link = [flag for flag in flags if flag.startswith("-fsanitize=")]
            _run([compiler.path, *link, "kernels.o", "runtime.o", "driver.o", "-o", "out"], scratch)
        (scratch / "out").replace(target)
    return target


@functools.cache
def _shim_text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _cache_folder() -> Path:
    named = os.environ.get("GPUSHRINK_EMULATION_CACHE")
    base = Path(named) if named else Path.home() / ".cache" / "gpushrink" / "emulation"
    base.mkdir(parents=True, exist_ok=True)
    return base


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{done.stderr}")
