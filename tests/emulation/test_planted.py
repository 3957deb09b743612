"""Each planted bug is caught, by the mode named here; the same modes stay silent over correct kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gpushrink.devices.emulation.build import Sanitizer, find_compiler
from gpushrink.devices.emulation.module import Argument, EmulatedModule, KernelFaultError
from gpushrink.devices.emulation.schedule import EVERY_SCHEDULE, IN_ORDER, Order, Schedule
from gpushrink.errors import DeviceUnavailableError

PLANTED = Path(__file__).parent / "planted"

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


def out(count: int = 64) -> npt.NDArray[np.uint32]:
    """Return a zeroed output."""
    return np.zeros(count, np.uint32)


def arguments(name: str) -> list[Argument]:
    """Return the arguments that lead a planted kernel into its bug."""
    if name in {"out_of_bounds", "left_lane"}:
        return [out(20), np.uint32(20)]
    if name == "signed_overflow":
        return [np.full(64, 50000, np.int32)]
    if name == "misaligned_vector":
        return [out(1024), out(128)]
    return [out(128)]


def launch(name: str, *, schedule: Schedule = IN_ORDER, sanitizer: Sanitizer = Sanitizer.NONE) -> list[Argument]:
    """Run a planted kernel and return its arguments as it left them."""
    code = (PLANTED / f"{name}.cu").read_text(encoding="utf-8")
    module = EmulatedModule(code, schedule=schedule, sanitizer=sanitizer, timeout_s=60)
    grids = {"spin": 2, "two_blocks_one_word": 4, "packed_neighbours": 1, "block_order": 4, "uninitialised_shared": 2}
    blocks = {"mask_mismatch": 32, "unnamed_lane": 32, "left_lane": 32, "missing_syncwarp": 32, "deadlock": 32}
    blocks |= {"shared_out_of_bounds": 32, "shift_by_width": 32}
    args = arguments(name)
    module.get_function("planted")(
        (grids.get(name, 1),), (blocks.get(name, 64),), args, shared_mem=16 if name == "uninitialised_dynamic" else 0
    )
    return args


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("mask_mismatch", "mask mismatch"),
        ("unnamed_lane", "unnamed lane"),
        ("left_lane", "left lane"),
        ("divergent_barrier", "divergent barrier"),
        ("barrier_after_leaving", "divergent barrier"),
        ("deadlock", "deadlock"),
    ],
)
@pytest.mark.parametrize("schedule", EVERY_SCHEDULE[:3], ids=str)
def test_run_broken_rule_is_diagnosed(name: str, fault: str, schedule: Schedule) -> None:
    """The runtime itself names the rule that was broken, in every order of threads."""
    with pytest.raises(KernelFaultError, match=rf"^{fault}"):
        launch(name, schedule=schedule)


def test_run_spin_on_a_later_block_is_diagnosed() -> None:
    """A block that waits for one that has not begun stands still where blocks run forward."""
    with pytest.raises(KernelFaultError, match=r"^deadlock: threads spin"):
        launch("spin")


def test_run_blocks_at_once_wait_for_each_other() -> None:
    """The same wait ends where both blocks are under way, whichever comes first."""
    for reverse in (False, True):
        launch("spin", schedule=Schedule(Order.RANDOM, reverse_blocks=reverse, residents=2))


@pytest.mark.parametrize(
    "name",
    [
        "missing_syncthreads",
        "uninitialised_shared",
        "uninitialised_dynamic",
        "block_order",
        "thread_order",
    ],
)
def test_schedules_order_dependent_kernel_gives_different_outputs(name: str) -> None:
    """Outputs that hang on the order of threads or blocks, or on old memory, differ between schedules."""
    outputs = {np.asarray(launch(name, schedule=schedule)[-1]).tobytes() for schedule in EVERY_SCHEDULE}
    assert len(outputs) > 1


@pytest.mark.parametrize(
    ("name", "alarm"),
    [
        ("out_of_bounds", "heap-buffer-overflow"),
        ("shared_out_of_bounds", "global-buffer-overflow|insufficient space"),
        ("shift_by_width", "shift exponent"),
        ("signed_overflow", "signed integer overflow"),
        ("misaligned_vector", "misaligned address"),
    ],
)
def test_address_sanitizer_bad_access_or_operation_raises_alarm(name: str, alarm: str) -> None:
    """ASan and UBSan see short buffers, shared ones too, and operations without a defined value."""
    with pytest.raises(KernelFaultError, match=rf"(?s)^address sanitizer.*({alarm})"):
        launch(name, sanitizer=Sanitizer.ADDRESS)


@pytest.mark.parametrize(
    "name", ["missing_syncthreads", "missing_syncwarp", "two_blocks_one_word", "packed_neighbours"]
)
def test_thread_sanitizer_unordered_access_raises_alarm(name: str) -> None:
    """TSan sees two threads at one word with no barrier between, even where the output is right."""
    with pytest.raises(KernelFaultError, match=r"(?s)^thread sanitizer.*data race"):
        launch(name, sanitizer=Sanitizer.THREAD)


def test_run_32_bit_index_misses_the_end_of_a_huge_grid() -> None:
    """The last blocks of a grid over more than 2^32 samples write the array's end, unless the index wraps."""
    count = (1 << 32) + 512
    code = (PLANTED / "index_wrap.cu").read_text(encoding="utf-8")
    right = code.replace("const uint32_t i = blockIdx.x", "const unsigned long long i = (unsigned long long)blockIdx.x")
    ends = []
    for text in (code, right):
        sparse = np.zeros(count, np.uint8)  # pages come into being when touched
        module = EmulatedModule(text, schedule=Schedule(Order.IN_ORDER, last_blocks=2))
        module.get_function("planted")(((count + 255) // 256,), (256,), [sparse, np.uint64(count)])
        ends.append(bool(sparse[-512:].all()))
    assert ends == [False, True]


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        ([out(), np.uint32(3)], "argument count"),
        ([out(), 3, np.uint64(1)], "argument size"),
        ([out(), np.uint32(3), np.uint32(1)], "argument size"),
        ([np.uint64(0), np.uint32(3), np.uint64(1)], "argument kind"),
        ([out(), out(), np.uint64(1)], "argument kind"),
        ([out()[::2], np.uint32(3), np.uint64(1)], "argument layout"),
    ],
)
def test_call_wrong_arguments_are_refused(args: list[Argument], fault: str) -> None:
    """An argument that CuPy would pass on with the wrong size or meaning is refused before the launch."""
    module = EmulatedModule((PLANTED / "scalar_arguments.cu").read_text(encoding="utf-8"))
    with pytest.raises(KernelFaultError, match=rf"^{fault}"):
        module.get_function("planted")((1,), (32,), args)


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [((1,), (1025,), 0), ((0,), (32,), 0), ((1, 70000), (32,), 0), ((1,), (32,), 1 << 20)],
)
def test_call_impossible_launch_is_refused(grid: tuple[int, ...], block: tuple[int, ...], shared: int) -> None:
    """A geometry that no device takes is refused here too."""
    module = EmulatedModule((PLANTED / "scalar_arguments.cu").read_text(encoding="utf-8"))
    with pytest.raises(KernelFaultError, match=r"^bad launch"):
        module.get_function("planted")(grid, block, [out(), np.uint32(3), np.uint64(1)], shared_mem=shared)


def test_thread_sanitizer_barrier_of_one_block_does_not_order_the_next() -> None:
    """A word that one block writes and the next one reads races, whatever barriers both have gone through."""
    code = (
        'extern "C" __global__ void planted(unsigned* words) {'
        " __syncthreads(); if (threadIdx.x == blockIdx.x) words[blockIdx.x ? 1 : 0] = words[0] + 1u; __syncthreads(); }"
    )
    module = EmulatedModule(code, sanitizer=Sanitizer.THREAD, timeout_s=60)
    with pytest.raises(KernelFaultError, match=r"(?s)^thread sanitizer.*data race"):
        module.get_function("planted")((2,), (64,), [out(2)])
