"""The entropy stage on a device gives the reference's bytes, in any schedule, and raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gpushrink.codec.entropy.engine import RangeInput
from gpushrink.codec.entropy.layout import join_ranges, range_chunk_bounds
from gpushrink.codec.entropy.reference import NumpyEngine
from gpushrink.codec.entropy.tables import Tables, levels_from_counts
from gpushrink.devices.emulation.build import Sanitizer, find_compiler
from gpushrink.devices.emulation.schedule import EVERY_SCHEDULE
from gpushrink.devices.entropy_engine import DeviceEngine
from gpushrink.devices.host import HostDevice
from gpushrink.errors import CorruptError, DeviceUnavailableError

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


def segments(seed: int, sizes: list[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return symbols of segments with unlike distributions, and the segments' bounds."""
    rng = np.random.default_rng(seed)
    parts = [np.append((rng.geometric(rng.uniform(0.01, 0.95), size - 2).clip(1, 256) - 1), [0, 255]) for size in sizes]
    return np.concatenate(parts).astype(np.uint8), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def range_input(symbols: NDArray[np.uint8], bounds: NDArray[np.int64], lanes: int, chunk_log2: int) -> RangeInput:
    """Give each segment a table of its own."""
    counts = NumpyEngine().count(symbols, bounds, threads=1)
    return RangeInput(
        bounds=range_chunk_bounds(len(symbols), chunk_log2),
        run_ends=bounds[1:],
        run_tables=np.arange(len(bounds) - 1),
        tables=Tables.from_levels(levels_from_counts(counts)),
        lanes=lanes,
    )


CASES = [
    (1, [5], 1, 8),
    (2, [300, 2, 700, 33], 32, 8),
    (3, [257, 255, 2, 2, 2, 1000], 8, 9),
    (4, [4000], 16, 10),
    (5, [40] * 50, 32, 8),
]


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
@pytest.mark.parametrize(("seed", "sizes", "lanes", "chunk_log2"), CASES)
def test_ranges_any_schedule_equal_the_reference(
    seed: int, sizes: list[int], lanes: int, chunk_log2: int, schedule: object
) -> None:
    """Counts, states, words and decoded symbols are the reference's, whatever the order of threads."""
    symbols, bounds = segments(seed, sizes)
    where = range_input(symbols, bounds, lanes, chunk_log2)
    reference, engine = NumpyEngine(), DeviceEngine(HostDevice(schedule=schedule))  # type: ignore[arg-type]
    assert (engine.count(symbols, bounds, threads=1) == reference.count(symbols, bounds, threads=1)).all()
    expected = reference.encode_ranges(symbols, where, threads=1)
    coded = engine.encode_ranges(symbols, where, threads=1)
    assert coded[0].tolist() == expected[0].tolist()
    assert join_ranges(coded[1]).tolist() == join_ranges(expected[1]).tolist()
    for parts in (coded, expected):
        assert (engine.decode_ranges(parts, where, threads=1) == symbols).all()
        assert (reference.decode_ranges(parts, where, threads=1) == symbols).all()


@pytest.mark.parametrize("sanitizer", [Sanitizer.ADDRESS, Sanitizer.THREAD])
def test_ranges_sanitized_raise_no_alarm(sanitizer: Sanitizer) -> None:
    """The kernels stay within their buffers and order their accesses."""
    symbols, bounds = segments(6, [200, 90, 300])
    where = range_input(symbols, bounds, 32, 8)
    engine = DeviceEngine(HostDevice(sanitizer=sanitizer))
    engine.count(symbols, bounds, threads=1)
    coded = engine.encode_ranges(symbols, where, threads=1)
    assert (engine.decode_ranges(coded, where, threads=1) == symbols).all()


@pytest.mark.parametrize("sanitizer", [Sanitizer.NONE, Sanitizer.ADDRESS])
@pytest.mark.parametrize("damage", ["state", "low state", "word", "missing words", "no words"])
def test_decode_damaged_chunk_is_refused_within_bounds(damage: str, sanitizer: Sanitizer) -> None:
    """States and words that were never written are refused, and never lead an access astray."""
    symbols, bounds = segments(7, [400, 300])
    where = range_input(symbols, bounds, 8, 8)
    counts, chunks = NumpyEngine().encode_ranges(symbols, where, threads=1)
    chunks, in_states = list(chunks), 2 * where.lanes
    if damage == "state":
        chunks[1][6:8] ^= 0x5A5A
        chunks[1][7] |= 1
    elif damage == "low state":
        chunks[0][:2] = 77, 0
    elif damage == "word":
        chunks[0][in_states + 10] ^= 0x1234
    elif damage == "missing words":
        chunks[-1] = chunks[-1][:-3]
    else:
        chunks = [chunk[:in_states] for chunk in chunks]
    counts = np.array([len(chunk) - in_states for chunk in chunks])
    with pytest.raises(CorruptError, match="rANS chunk"):
        DeviceEngine(HostDevice(sanitizer=sanitizer)).decode_ranges((counts, chunks), where, threads=1)


def test_zstd_chunks_round_trip_and_damage_is_refused() -> None:
    """The host device's frames are the ones the CPU path reads."""
    device = HostDevice()
    data = np.random.default_rng(8).integers(0, 9, 5000, dtype=np.uint8)
    bounds = np.array([0, 2000, 4000, 5000])
    frames = device.compress_chunks(device.put(data), bounds)
    assert (device.get(device.decompress_chunks(frames, np.diff(bounds))) == data).all()
    with pytest.raises(CorruptError):
        device.decompress_chunks([frames[0][:-3], *frames[1:]], np.diff(bounds))
    with pytest.raises(CorruptError):
        device.decompress_chunks(frames, np.array([2000, 1999, 1000]))
