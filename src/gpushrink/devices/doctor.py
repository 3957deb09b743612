"""What this machine has for the CUDA device, and the exact line that installs each thing it lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np

from gpushrink.devices.device import Device
from gpushrink.devices.device_check import check_device
from gpushrink.devices.nvrtc import Nvrtc, find_nvrtc
from gpushrink.errors import DeviceUnavailableError

__all__ = ["Finding", "examine", "is_usable"]

Status = Literal["ok", "missing", "failed"]

# The oldest driver that each CUDA family runs on: CuPy's installation guide.
_DRIVERS = {12: 525, 13: 580}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes
    ----------
    what
        The thing, as a user knows it.
    status
        Whether it is there and works.
    detail
        Version, or what went wrong.
    remedy
        The line that puts it right; empty if nothing is wrong.
    """

    what: str
    status: Status
    detail: str
    remedy: str = ""


def examine(open_device: Callable[[], Device] | None = None) -> list[Finding]:
    """Look for everything that ``--device cuda`` needs, and try it.

    Parameters
    ----------
    open_device
        Makes the device for the trial; None makes the first CUDA device.
    """
    cupy = _try_import("cupy")
    major = _cuda_major()
    findings = [
        _package("CuPy", {12: "cupy-cuda12x", 13: "cupy-cuda13x"}, major, cupy),
        _nvrtc(major),
        _package("nvCOMP", {12: "nvidia-nvcomp-cu12", 13: "nvidia-nvcomp-cu13"}, major, _try_import("nvidia.nvcomp")),
    ]
    if isinstance(cupy, str):
        findings.append(Finding("driver and card", "missing", "not looked for without CuPy", findings[0].remedy))
    else:
        findings += _cards(cupy, major)
    findings.append(_trial(open_device))
    return findings


def is_usable(findings: list[Finding]) -> bool:
    """Tell whether ``--device cuda`` would work."""
    return all(finding.status == "ok" for finding in findings)


def _try_import(name: str) -> Any:
    """Return the module, or the reason why not as a string."""
    try:
        return import_module(name)
    except Exception as error:  # a broken installation raises anything
        return f"{type(error).__name__}: {error}"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda_major() -> int:
    """Give the CUDA family that is installed here in part; 12, which runs on older drivers and cards, if none is."""
    for major in (13, 12):
        names = (f"cupy-cuda{major}x", f"nvidia-nvcomp-cu{major}")
        if any(_installed(name) for name in names):
            return major
    return 12


def _package(what: str, packages: dict[int, str], major: int, module: Any) -> Finding:
    remedy = f'pip install "gpushrink[cuda{major}]"'
    found = _installed(packages[major])
    if found is None and isinstance(module, str):
        return Finding(what, "missing", f"{packages[major]} is not installed", remedy)
    if isinstance(module, str):
        return Finding(what, "failed", module, f"pip install --force-reinstall {packages[major]}")
    return Finding(what, "ok", f"{packages[major]} {found or getattr(module, '__version__', '')}".strip())


def _nvrtc(major: int) -> Finding:
    package = "nvidia-cuda-nvrtc-cu12" if major == 12 else '"nvidia-cuda-nvrtc>=13,<14"'
    path = find_nvrtc(major)
    if path is None:
        return Finding("NVRTC", "missing", f"no NVRTC {major} from a wheel", f"pip install {package}")
    try:
        number = ".".join(map(str, Nvrtc(path).version))
    except OSError as error:
        return Finding("NVRTC", "failed", str(error), f"pip install --force-reinstall {package}")
    return Finding("NVRTC", "ok", number)


def _cards(cupy: Any, major: int) -> list[Finding]:
    runtime = cupy.cuda.runtime
    remedy = f"install NVIDIA's driver {_DRIVERS[major]} or newer, then restart"
    try:
        driver = runtime.driverGetVersion()
        count = runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError, which only a working CuPy could name
        return [Finding("driver and card", "missing", str(error), remedy)]
    findings = [Finding("driver", "ok", f"supports CUDA {driver // 1000}.{driver % 1000 // 10}")]
    for ordinal in range(count):
        properties = runtime.getDeviceProperties(ordinal)
        capability = properties["major"] * 10 + properties["minor"]
        detail = (
            f"{properties['name'].decode()}, compute capability {capability / 10}, "
            f"{properties['totalGlobalMem'] / 2**30:.1f} GiB"
        )
        old = capability < (75 if major == 13 else 70)
        remedy = 'pip install "gpushrink[cuda12]"' if old and capability >= 70 else ""
        findings.append(Finding(f"card {ordinal}", "failed" if old else "ok", detail, remedy))
    return findings


def _trial(open_device: Callable[[], Device] | None) -> Finding:
    what = "kernels and zstd round trip"
    try:
        if open_device is None:
            from gpushrink.devices.cuda import CudaDevice

            device: Device = CudaDevice()
        else:
            device = open_device()
        check_device(device, np.random.default_rng(1))
    except DeviceUnavailableError as error:
        return Finding(what, "missing", str(error), "see the findings above")
    except Exception as error:  # anything: this is where an unlike pair of versions shows
        return Finding(what, "failed", f"{type(error).__name__}: {error}", "report it with this whole list")
    return Finding(what, "ok", device.name)
