"""A twin of CuPy's RawModule whose kernels run on numpy arrays, on the host."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gpushrink.devices.emulation.build import KernelRecord, LaunchRecord, Sanitizer, build, kernel_names_in
from gpushrink.devices.emulation.schedule import IN_ORDER, Schedule

__all__ = ["Argument", "EmulatedKernel", "EmulatedModule", "KernelFaultError"]

Argument: TypeAlias = "npt.NDArray[np.generic] | np.integer[npt.NBitBase] | int"

_POINTER_KIND = 1
_MESSAGE_BYTES = 2048
_DIAGNOSED = 4  # exit code of driver.cpp
_launching = threading.Lock()  # the runtime holds one launch at a time, and ctypes lets go of the interpreter lock


class KernelFaultError(Exception):
    """Say that a kernel, or its launch, breaks a rule of CUDA. The message begins with the kind of fault."""


class EmulatedModule:
    """Compile kernel text for the host, as `cupy.RawModule` does for a device.

    Parameters
    ----------
    code
        CUDA C++ with our own headers already inlined.
    options
        Compiler options; only ``-D`` ones have a meaning here, others are refused.
    schedule
        The order in which threads and blocks run.
    sanitizer
        Run each launch in a process of its own, watched.
    timeout_s
        How long a watched launch may take before it counts as stuck.
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str] = (),
        *,
        schedule: Schedule = IN_ORDER,
        sanitizer: Sanitizer = Sanitizer.NONE,
        timeout_s: float = 120.0,
    ) -> None:
        defines = tuple(options)
        if not all(option.startswith("-D") for option in defines):
            raise ValueError(f"only -D options reach the host compiler: {defines}")
        self.schedule = schedule
        self.sanitizer = sanitizer
        self.timeout_s = timeout_s
        self._names = kernel_names_in(code)
        self.library = _load(build(code, options=defines))
        self.executable = build(code, options=defines, sanitizer=sanitizer) if sanitizer != Sanitizer.NONE else None
        self._table = ctypes.cast(self.library.gs_kernels(), ctypes.POINTER(KernelRecord))

    def get_function(self, name: str) -> EmulatedKernel:
        """Return the kernel of this name.

        Raises
        ------
        KeyError
            If the text holds no such kernel.
        """
        if name not in self._names:
            raise KeyError(f"no kernel {name!r}; there are {self._names}")
        index = self._names.index(name)
        return EmulatedKernel(self, index, self._table[index])


class EmulatedKernel:
    """One kernel: call it with grid, block and arguments, as a `cupy.RawKernel`."""

    def __init__(self, module: EmulatedModule, index: int, record: KernelRecord) -> None:
        self.name = bytes(record.name).decode()
        self._module = module
        self._index = index
        self._record = record
        count = int(record.parameter_count)
        self.sizes = [int(record.sizes[i]) for i in range(count)]
        self.kinds = [int(record.kinds[i]) for i in range(count)]

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
    ) -> None:
        """Launch and wait.

        Raises
        ------
        KernelFaultError
            If the arguments do not fit the signature, or the run is diagnosed as faulty.
        """
        self._check(args)
        launch = self._record_of(grid, block, shared_mem)
        if self._module.executable is not None:
            self._launch_apart(self._module.executable, launch, args)
        else:
            self._launch_here(launch, args)

    def _record_of(self, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int) -> LaunchRecord:
        schedule = self._module.schedule
        three = ctypes.c_uint32 * 3
        grid3, block3 = ((*map(int, size), 1, 1, 1) for size in (grid, block))
        blocks = grid3[0] * grid3[1] * grid3[2]
        first = 0 if schedule.last_blocks is None else max(0, blocks - schedule.last_blocks)
        return LaunchRecord(
            grid=three(*grid3[:3]),
            block=three(*block3[:3]),
            dynamic_bytes=shared_mem,
            seed=schedule.seed,
            first_block=first,
            schedule=int(schedule.order),
            reverse_blocks=int(schedule.reverse_blocks),
            poison=schedule.poison,
            residents=schedule.residents,
        )

    def _check(self, args: Sequence[Any]) -> None:
        if len(args) != len(self.sizes):
            raise KernelFaultError(f"argument count: {self.name} takes {len(self.sizes)} arguments, {len(args)} given")
        for place, (value, size, kind) in enumerate(zip(args, self.sizes, self.kinds, strict=True)):
            is_array = isinstance(value, np.ndarray)
            if is_array != (kind == _POINTER_KIND):
                wants = "a pointer" if kind == _POINTER_KIND else "a scalar"
                raise KernelFaultError(f"argument kind: {self.name} argument {place} is {wants}, {type(value)} given")
            if isinstance(value, np.ndarray):
                if not value.flags.c_contiguous or not value.flags.aligned:
                    raise KernelFaultError(f"argument layout: {self.name} argument {place} is not contiguous")
                continue
            # CuPy passes a Python int as 8 bytes without a word; here the size must be the parameter's.
            given = value.dtype.itemsize if isinstance(value, np.generic) else 8
            if given != size:
                raise KernelFaultError(f"argument size: {self.name} argument {place} has {size} bytes, {given} given")

    def _launch_here(self, launch: LaunchRecord, args: Sequence[Any]) -> None:
        slots = (ctypes.c_void_p * max(1, len(args)))()
        kept: list[object] = []
        for place, value in enumerate(args):
            raw = np.array([value.ctypes.data], np.uint64) if isinstance(value, np.ndarray) else _scalar(value)
            kept.append(raw)
            slots[place] = raw.ctypes.data
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        with _launching:
            failed = self._module.library.gs_launch(
                ctypes.byref(self._record), ctypes.byref(launch), slots, message, _MESSAGE_BYTES
            )
        if failed:
            raise KernelFaultError(f"{message.value.decode()} (kernel {self.name})")

    def _launch_apart(self, executable: Path, launch: LaunchRecord, args: Sequence[Any]) -> None:
        parts = [b"GSJOB1\0\0", np.array([self._index, len(args)], "<u4").tobytes(), bytes(launch)]
        for value, kind in zip(args, self.kinds, strict=True):
            raw = value.tobytes() if isinstance(value, np.ndarray) else _scalar(value).tobytes()
            parts += [np.array([kind, len(raw)], "<u8").tobytes(), raw]
        with tempfile.TemporaryDirectory() as folder:
            job, result = Path(folder) / "job", Path(folder) / "result"
            job.write_bytes(b"".join(parts))
            try:
                done = subprocess.run(
                    [executable, job, result],
                    capture_output=True,
                    text=True,
                    timeout=self._module.timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired as stuck:
                raise KernelFaultError(f"stuck: {self.name} ran past {self._module.timeout_s} s") from stuck
            if done.returncode == _DIAGNOSED:
                raise KernelFaultError(f"{done.stderr.partition('diagnosis: ')[2].strip()} (kernel {self.name})")
            if done.returncode != 0 or done.stderr:
                raise KernelFaultError(f"{self._module.sanitizer.value} sanitizer: {self.name}\n{done.stderr}")
            written = result.read_bytes()
        at = 0
        for value in args:
            if isinstance(value, np.ndarray):
                fresh = np.frombuffer(written, value.dtype, value.size, at).reshape(value.shape)
                if value.flags.writeable:
                    value[...] = fresh
                at += value.nbytes


def _scalar(value: Argument) -> npt.NDArray[np.generic]:
    return np.array([value], np.int64) if isinstance(value, int) else np.atleast_1d(np.asarray(value))


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.gs_kernels.restype = ctypes.c_void_p
    library.gs_kernels.argtypes = []
    library.gs_launch.restype = ctypes.c_int
    library.gs_launch.argtypes = [
        ctypes.POINTER(KernelRecord),
        ctypes.POINTER(LaunchRecord),
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library
