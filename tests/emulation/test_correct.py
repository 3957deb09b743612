"""Correct kernels give the right result in every schedule and under every sanitizer, and raise no alarm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpushrink.devices.emulation.build import Sanitizer, find_compiler
from gpushrink.devices.emulation.module import EmulatedModule
from gpushrink.devices.emulation.schedule import EVERY_SCHEDULE, Schedule
from gpushrink.errors import DeviceUnavailableError

CORRECT = Path(__file__).parent / "correct"
SANITIZERS = list(Sanitizer)

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


def load(name: str, schedule: Schedule, sanitizer: Sanitizer) -> EmulatedModule:
    """Compile one of the correct kernels."""
    code = (CORRECT / f"{name}.cu").read_text(encoding="utf-8")
    return EmulatedModule(code, schedule=schedule, sanitizer=sanitizer)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
def test_reduce_any_schedule_gives_the_sum(schedule: Schedule, sanitizer: Sanitizer) -> None:
    """Shuffles, shared memory, a barrier and atomics together give numpy's sum."""
    values = np.random.default_rng(1).integers(0, 1 << 32, 1000, dtype=np.uint32)
    total = np.zeros(1, np.uint64)
    load("reduce", schedule, sanitizer).get_function("reduce")((3,), (64,), [values, total, np.uint64(values.size)])
    assert total[0] == values.sum(dtype=np.uint64)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
def test_rank_any_schedule_gives_stable_positions(schedule: Schedule, sanitizer: Sanitizer) -> None:
    """Match and popcount rank equal keys by row and lane."""
    rows = 5
    keys = np.random.default_rng(2).integers(0, 8, (2, rows * 32), dtype=np.uint32)
    positions = np.zeros_like(keys)
    load("rank", schedule, sanitizer).get_function("rank_keys")((1,), (64,), [keys, positions, np.uint32(rows)])
    expected = [[int((warp[:at] == key).sum()) for at, key in enumerate(warp)] for warp in keys]
    assert positions.tolist() == expected


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
def test_last_block_any_schedule_sees_all_partials(schedule: Schedule, sanitizer: Sanitizer) -> None:
    """A ticket behind a fence orders the blocks' results, and TSan accepts it."""
    partial, ticket, total = np.zeros(7, np.uint32), np.zeros(1, np.uint32), np.zeros(1, np.uint32)
    load("last_block", schedule, sanitizer).get_function("last_block")((7,), (32,), [partial, ticket, total])
    assert total[0] == 28


def test_reduce_over_ucontext_gives_the_sum() -> None:
    """On machines without a stack switch of their own, the portable one gives the same."""
    values = np.arange(777, dtype=np.uint32)
    total = np.zeros(1, np.uint64)
    module = EmulatedModule((CORRECT / "reduce.cu").read_text(encoding="utf-8"), ("-DGS_FORCE_UCONTEXT",))
    module.get_function("reduce")((2,), (96,), [values, total, np.uint64(values.size)])
    assert total[0] == values.sum()


def shuffled(row: int, x: list[int], lane: int) -> int:
    """Answer rows 8 to 14 of intrinsics.cu as the CUDA C++ guide defines them."""
    low8 = lane - lane % 8
    source = {
        8: lane * 5 % 32,
        9: lane - 3 if lane >= 3 else lane,
        10: lane + 3 if lane + 3 < 32 else lane,
        11: lane ^ 5,
        12: low8 + 1,
        13: lane - 1 if lane > low8 else lane,
        14: lane + 1 if lane + 1 < low8 + 8 else lane,
    }[row]
    return x[source]


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=str)
def test_intrinsics_random_words_agree_with_their_definitions(schedule: Schedule) -> None:
    """Each intrinsic of the shim gives what the CUDA C++ guide says."""
    words = np.random.default_rng(3).integers(0, 1 << 32, 32, dtype=np.uint32)
    words[[3, 4]] = [0, 77]
    out = np.zeros((32, 24), np.uint32)
    load("intrinsics", schedule, Sanitizer.NONE).get_function("intrinsics")((1,), (32,), [words, out])
    x = [int(word) for word in words]
    odd = sum((word & 1) << lane for lane, word in enumerate(x))
    for lane, word in enumerate(x):
        nxt = x[(lane + 1) % 32]
        pair = nxt << 32 | word
        eight = pair.to_bytes(8, "little")
        expected = [
            word.bit_count() if hasattr(word, "bit_count") else bin(word).count("1"),
            32 - word.bit_length(),
            (word & -word).bit_length(),
            int(f"{word:032b}"[::-1], 2),
            (pair << lane >> 32) & 0xFFFFFFFF,
            (pair >> lane) & 0xFFFFFFFF,
            word * nxt >> 32,
            int.from_bytes(bytes([eight[0], eight[4], eight[1], eight[5]]), "little"),
            *[shuffled(row, x, lane) for row in range(8, 15)],
            odd,
            1,
            0,
            sum(1 << other for other, value in enumerate(x) if value & 7 == word & 7),
            odd.bit_count() if hasattr(odd, "bit_count") else bin(odd).count("1"),
            0,
            1,
            min(word, nxt),
            max(word, nxt),
        ]
        assert out[lane].tolist() == expected
