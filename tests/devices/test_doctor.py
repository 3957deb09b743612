"""Doctor names what is missing and how to get it, and tries what is there."""

from __future__ import annotations

import numpy as np
import pytest

from gpushrink.devices import doctor
from gpushrink.devices.cuda import CudaDevice
from gpushrink.devices.device_check import check_device
from gpushrink.devices.emulation.build import find_compiler
from gpushrink.devices.host import HostDevice
from gpushrink.errors import DeviceUnavailableError, VerifyError


def has_compiler() -> bool:
    """Tell whether kernels can be emulated here."""
    try:
        find_compiler()
    except DeviceUnavailableError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no host compiler for the emulation")


def test_examine_without_cupy_gives_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing package comes with its pip line, and nothing raises."""
    monkeypatch.setattr(doctor, "_try_import", lambda name: f"ModuleNotFoundError: {name}")
    monkeypatch.setattr(doctor, "_installed", lambda package: None)
    findings = {finding.what: finding for finding in doctor.examine(_unavailable)}
    assert findings["CuPy"].remedy == 'pip install "gpushrink[cuda12]"'
    assert findings["nvCOMP"].status == "missing"
    assert not doctor.is_usable(list(findings.values()))
    assert all(finding.remedy for finding in findings.values() if finding.status != "ok")


def _unavailable() -> HostDevice:
    raise DeviceUnavailableError("no device")


@needs_compiler
def test_examine_with_a_working_device_reports_its_trial() -> None:
    """The trial runs real kernels and a zstd round trip through the protocol."""
    trial = doctor.examine(HostDevice)[-1]
    assert (trial.what, trial.status) == ("kernels and zstd round trip", "ok")


@needs_compiler
def test_check_device_that_loses_a_byte_is_refused() -> None:
    """A device whose copies are wrong does not pass."""

    class Lossy(HostDevice):
        def get(self, array: object) -> np.ndarray:  # type: ignore[type-arg]
            copy = super().get(array)
            copy.reshape(-1).view(np.uint8)[-1:] ^= 1
            return copy

    with pytest.raises(VerifyError):
        check_device(Lossy(), np.random.default_rng(1))


def test_cuda_without_cupy_or_driver_says_so() -> None:
    """Asking for CUDA where it cannot be had is its own error; where it can, a device opens."""
    try:
        device = CudaDevice()
    except DeviceUnavailableError as error:
        assert "doctor" in str(error)  # noqa: PT017 - either outcome is right, on its own machine
    else:
        assert device.name.startswith("cuda:0")
