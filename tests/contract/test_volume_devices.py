"""The emulated device over the inputs that the CPU's engines are held to: one meaning, the same bytes, both ways."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpushrink.codec.table import frames_as_samples
from gpushrink.codec.volume import decode_slab, encode_slab
from gpushrink.devices.emulation.build import find_compiler
from gpushrink.devices.emulation.schedule import EVERY_SCHEDULE
from gpushrink.devices.host import HostDevice
from gpushrink.devices.volume_engine import DeviceVolumeCodec
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.source import read_ranges
from gpushrink.dicom.walk import walk_sources
from gpushrink.errors import DeviceUnavailableError
from gpushrink.model import SlabShape

pytest.importorskip("numba")
try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


def engines_inputs() -> Any:
    """Load the generators of the engines' own contract, which lies beside this file."""
    spec = spec_from_file_location("volume_engines_inputs", Path(__file__).with_name("test_volume_engines.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INPUTS = engines_inputs()
DEVICES = {schedule: HostDevice(schedule=schedule) for schedule in EVERY_SCHEDULE}


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(shape=INPUTS.SHAPES, dtype=INPUTS.DTYPES, content=INPUTS.CONTENTS, seed=st.integers(0, 9999),
       level=st.sampled_from(["fast", "default", "max"]), schedule=st.sampled_from(EVERY_SCHEDULE))  # fmt: skip
def test_slab_of_any_shape_type_and_content_is_the_same_on_a_device(
    shape: tuple[int, int, int], dtype: type, content: str, seed: int, level: str, schedule: Any
) -> None:
    """What the kernels write in any schedule is what the engines write, and each reads the other's."""
    samples = INPUTS.make(shape, dtype, content, seed)
    stored = encode_slab(samples, level=level)
    codec = DeviceVolumeCodec(DEVICES[schedule])
    assert codec.encode_slab(samples, level=level) == stored
    decoded = codec.decode_slab(stored, shape=shape, dtype=dtype)
    assert decoded.dtype == samples.dtype
    np.testing.assert_array_equal(decoded, samples)
    np.testing.assert_array_equal(decode_slab(stored, shape=shape, dtype=dtype), samples)


def crops(folder: Path) -> Iterator[NDArray[Any]]:
    """Give a crop out of the middle of each volume of some folder that has 3 planes or more."""
    found = walk_sources([folder]).found
    for volume in scan_files(found).volumes:
        if len(volume.frames) < 3 or volume.sample.item_bytes > 2 or volume.sample.components > 1:
            continue
        middle = len(volume.frames) // 2
        frames = volume.frames[max(0, middle - 2) : middle + 2]
        data = b"".join(read_ranges(found[one.file_id], [(one.offset, volume.frame_bytes)])[0] for one in frames)
        samples = frames_as_samples(data, SlabShape(len(frames), volume.rows, volume.columns), volume.sample)
        whole = samples.reshape(len(frames), volume.rows, volume.columns)
        kind = np.dtype(f"{'i' if volume.sample.signed else 'u'}{volume.sample.item_bytes}")
        top, left = max(0, volume.rows // 2 - 24), max(0, volume.columns // 2 - 30)
        yield np.ascontiguousarray(whole[:, top : top + 48, left : left + 60]).view(kind)


def test_crops_of_real_series_are_the_same_on_a_device(real_set: Path) -> None:
    """Real slices, at fast and default: the kernels' streams are the CPU's."""
    if sum(entry.stat().st_size for entry in os.scandir(real_set) if entry.is_file()) > 1 << 28:
        pytest.skip("too large for a quick look")
    codec = DeviceVolumeCodec(DEVICES[EVERY_SCHEDULE[0]])
    some = list(islice(crops(real_set), 3))
    if not some:
        pytest.skip("no volume of three planes")
    for number, samples in enumerate(some):
        for level in ("fast", "default"):
            stored = encode_slab(samples, level=level)
            assert codec.encode_slab(samples, level=level) == stored, (number, level)
            found = codec.decode_slab(stored, shape=samples.shape, dtype=samples.dtype)
            np.testing.assert_array_equal(found, samples)
