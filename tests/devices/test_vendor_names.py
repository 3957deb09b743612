"""The names that the CUDA device and the bench use are those of the installed wheels; a driver is not needed to tell.

Without the wheels these skip, and say which line installs them.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from gpushrink.devices import cuda
from gpushrink.devices.cuda import NVCOMP_ALGORITHM, NVCOMP_BITSTREAM

BENCH = Path(__file__).parents[2] / "bench" / "gpu_vendor.py"


@pytest.fixture(scope="module")
def nvcomp() -> Any:
    """Give nvCOMP."""
    return pytest.importorskip("nvidia.nvcomp", reason="nvCOMP is not installed: pip install nvidia-nvcomp-cu12")


@pytest.fixture(scope="module")
def cupy() -> Any:
    """Give CuPy."""
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x")


def vendor_coders() -> list[tuple[str, dict[str, Any]]]:
    """List what the bench opens: algorithm and options."""
    spec = importlib.util.spec_from_file_location("gpu_vendor", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    found: list[tuple[str, dict[str, Any]]] = [(one.algorithm, one.options) for one in module.CODERS]
    return found


def open_coder(nvcomp: Any, **options: Any) -> None:
    """Open a coder as far as this machine can: a name that is unknown raises ValueError before any driver is asked."""
    try:
        nvcomp.Codec(**options)
    except RuntimeError as error:
        assert "CUDA" in str(error)  # noqa: PT017 - without a driver this is as far as it goes


def test_nvcomp_knows_every_algorithm_and_option(nvcomp: Any) -> None:
    """Those of the device, and those that the bench measures; names that do not exist are told apart."""
    kind = getattr(nvcomp.BitstreamKind, NVCOMP_BITSTREAM)
    open_coder(nvcomp, algorithm=NVCOMP_ALGORITHM, bitstream_kind=kind, device_id=0, cuda_stream=0)
    for algorithm, options in vendor_coders():
        open_coder(nvcomp, algorithm=algorithm, bitstream_kind=kind, **options)
    with pytest.raises(ValueError, match="Unknown algorithm"):
        nvcomp.Codec(algorithm="Zstdd", bitstream_kind=kind)
    with pytest.raises(ValueError, match="Unsupported argument"):
        nvcomp.Codec(algorithm="Zstd", bitstream_kind=kind, chunk=1)


def test_nvcomp_calls_take_what_the_device_gives(nvcomp: Any) -> None:
    """Batches are carved out of one buffer by offsets and sizes, and coded into buffers of ours (nvCOMP 6)."""
    assert "buffer: object, offsets: list[int], sizes: list[int], cuda_stream: int" in nvcomp.as_arrays.__doc__
    for call in (nvcomp.Codec.encode, nvcomp.Codec.decode):
        assert re.search(r"srcs: [\w.]*BatchArray.*out: object", call.__doc__)
    assert hasattr(nvcomp.BatchArray, "buffer_sizes")
    assert callable(nvcomp.Codec.get_max_comp_buffer_size)
    assert "cuda_stream" in nvcomp.as_array.__doc__


def test_cupy_has_every_name_that_the_device_asks_for(cupy: Any) -> None:
    """Each attribute path in the device's source, from cupy itself and from what its calls return, exists."""
    source = inspect.getsource(cuda)
    paths = set(re.findall(r"self\._cupy\.((?:\w+\.)*\w+)", source))
    assert {"empty", "zeros", "asnumpy", "RawModule", "cuda.MemoryPool", "cuda.Stream"} <= paths
    for path in paths:
        found = cupy
        for name in path.split("."):
            found = getattr(found, name)
    for owner, prefix in (
        (cupy.cuda.MemoryPool, r"self\._pool\.(\w+)"),
        (cupy.cuda.Stream, r"self\._stream\.(\w+)"),
        (cupy.cuda.Event, r"_staged\[0\]\[0\]\.(\w+)"),
        (cupy.ndarray, r"target\.(\w+)\("),
    ):
        names = set(re.findall(prefix, source)) - {"ptr"}  # a stream's address: its instances alone have it
        assert names
        assert all(hasattr(owner, name) for name in names), names
    assert "stream=None" in cupy.ndarray.set.__doc__
    assert {"stream", "out", "blocking"} <= set(inspect.signature(cupy.asnumpy).parameters)
    assert {"code", "options"} <= set(re.findall(r"\w+", cupy.RawModule.__doc__))


def test_cupy_without_a_driver_is_a_clear_error(cupy: Any) -> None:
    """The device says what is missing instead of letting a runtime error through."""
    if cupy.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(Exception, match="doctor") as caught:
        cuda.CudaDevice()
    assert type(caught.value).__name__ == "DeviceUnavailableError"
    assert cuda.CudaDevice.count() == 0
