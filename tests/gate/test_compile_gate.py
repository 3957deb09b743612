"""Every kernel compiles with NVRTC 12 and 13 for every card in question, within its limits, without spills."""

from __future__ import annotations

import functools
import re

import pytest
from gpushrink.kernels import kernel_names, read_kernel

from gpushrink.devices.limits import KERNEL_LIMITS
from gpushrink.devices.nvrtc import CompiledKernel, Nvrtc, NvrtcError, find_nvrtc
from gpushrink.devices.program import compose

ARCHITECTURES = {12: (70, 75, 80, 86, 89, 90, 100, 120), 13: (75, 80, 86, 89, 90, 100, 120)}
PROGRAMS = sorted({(limit.kernel.file, limit.kernel.options) for limit in KERNEL_LIMITS})


@functools.cache
def nvrtc(major: int) -> Nvrtc:
    """Load NVRTC or skip with the reason."""
    path = find_nvrtc(major)
    if path is None:
        package = "nvidia-cuda-nvrtc-cu12" if major == 12 else "'nvidia-cuda-nvrtc>=13,<14'"
        pytest.skip(f"no NVRTC {major}: pip install {package}, or name its folder in $GPUSHRINK_NVRTC_PATH")
    return Nvrtc(path)


@functools.cache
def compiled(major: int, architecture: int, file: str, options: tuple[str, ...]) -> dict[str, CompiledKernel]:
    """Compile once for all tests."""
    found = nvrtc(major).compile(compose(file), options, architecture=architecture)
    return {kernel.name: kernel for kernel in found}


@pytest.mark.parametrize(("major", "architecture"), [(m, a) for m, all_ in ARCHITECTURES.items() for a in all_])
@pytest.mark.parametrize(("file", "options"), PROGRAMS)
def test_kernel_compiles_within_limits(major: int, architecture: int, file: str, options: tuple[str, ...]) -> None:
    """Registers, shared memory and local memory stay within the table; no kernel is missing from it."""
    if architecture not in nvrtc(major).architectures():
        pytest.skip(f"NVRTC {nvrtc(major).version} does not know sm_{architecture}")
    kernels = compiled(major, architecture, file, options)
    limits = {
        limit.kernel.name: limit
        for limit in KERNEL_LIMITS
        if (limit.kernel.file, limit.kernel.options) == (file, options)
    }
    assert set(kernels) == set(limits)
    for name, kernel in kernels.items():
        assert max(kernel.stack_bytes, kernel.spill_bytes) <= limits[name].spill_bytes, kernel
        assert kernel.registers <= limits[name].registers, kernel
        assert kernel.shared_bytes <= limits[name].shared_bytes, kernel


@pytest.mark.parametrize("major", ARCHITECTURES)
def test_compile_broken_text_is_refused(major: int) -> None:
    """The gate can fail: text with an error raises, with the compiler's words."""
    with pytest.raises(NvrtcError, match="undefined"):
        nvrtc(major).compile('extern "C" __global__ void f() { missing(); }', (), architecture=75)


@pytest.mark.parametrize("major", ARCHITECTURES)
def test_compile_spilling_kernel_is_seen(major: int) -> None:
    """The gate can fail: an array indexed at run time shows as a stack frame."""
    code = (
        'extern "C" __global__ void f(int* p, int n) { int a[64]; for (int i = 0; i < 64; ++i) a[i] = p[i];'
        " for (int i = 0; i < n; ++i) a[p[i] & 63] += i; p[0] = a[n & 63]; }"
    )
    assert nvrtc(major).compile(code, (), architecture=75)[0].stack_bytes > 0


def test_kernel_files_keep_to_the_small_language() -> None:
    """What cannot be proven without a device is not written: no inline PTX, no std headers, no active masks."""
    for name in kernel_names():
        code = re.sub(r"//[^\n]*", "", read_kernel(name))
        forbidden = r"\basm\b|__activemask|cooperative_groups|#include\s*<|\bfloat\b|\bdouble\b|goto"
        assert re.search(forbidden, code) is None, name


def test_kernel_files_are_all_in_the_table() -> None:
    """A file that ships is compiled by this gate."""
    assert {name for name in kernel_names() if name.endswith(".cu")} == {file for file, _ in PROGRAMS}
