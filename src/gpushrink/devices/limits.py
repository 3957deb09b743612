"""Every kernel that ships, the numbers it is compiled with, and what it may use: the compile gate's table."""

from __future__ import annotations

from dataclasses import dataclass

from gpushrink.codec.volume.levels import TAP_SETS
from gpushrink.devices.device import Kernel
from gpushrink.devices.entropy_engine import RANS_DEFINES
from gpushrink.devices.pieces import PIECE_KERNELS
from gpushrink.devices.volume_program import TOKEN_DEFINES, volume_kernel

__all__ = ["KERNEL_LIMITS", "KernelLimit"]


@dataclass(frozen=True)
class KernelLimit:
    """What one kernel may use.

    Attributes
    ----------
    kernel
        The kernel with its defines.
    registers
        At most so many for each thread: 64 still lets 1024 threads share an SM, 32 fill it with 2048.
    shared_bytes
        Static shared memory at most.
    spill_bytes
        Local memory written and read at most, once a line: none but where named below.
    """

    kernel: Kernel
    registers: int
    shared_bytes: int = 0
    spill_bytes: int = 0


# Spills are not allowed: local memory would cost more than any of these kernels moves. The counts leave
# a few registers over the largest seen with NVRTC 12.9 and 13.5 on any architecture.
_VOLUME = {
    "volume_encode.cu": {
        "find_limits": (40, 0),
        "pad_planes": (32, 0),
        "pad_residuals": (32, 0),
        "predict_stage": (80, 0),
        "find_contexts": (72, 1024),
        "gather_values": (56, 5120),
    },
    "volume_fit.cu": {
        "draw_sample": (48, 0),
        "classify_sample": (56, 0),
        "order_sample": (32, 0),
        "measure_noise": (56, 0),
        "sum_products": (72, 18432),
        "gather_magnitudes": (48, 0),
    },
    "volume_decode.cu": {"decode_planes": (255, 5248), "unpad_planes": (32, 0)},
}

# The third stage's neighbours want 257 registers of NVRTC 13.5 for compute capability 10.0; there are 255.
_EXCEPTIONS = {("decode_planes", 2): (8,)}

KERNEL_LIMITS: tuple[KernelLimit, ...] = (
    KernelLimit(Kernel("rans.cu", "rans_encode", RANS_DEFINES), 40),
    KernelLimit(Kernel("rans.cu", "rans_gather", RANS_DEFINES), 40),
    KernelLimit(Kernel("rans.cu", "rans_fill_slots", RANS_DEFINES), 40),
    KernelLimit(Kernel("rans.cu", "rans_decode", RANS_DEFINES), 40),
    *(KernelLimit(kernel, 40) for kernel in PIECE_KERNELS),
    KernelLimit(Kernel("histogram.cu", "count_symbols"), 32, 1024),
    *(
        KernelLimit(Kernel("tokens.cu", name, TOKEN_DEFINES), 40, 64)
        for name in ("split_tokens", "sum_tiles", "write_raw_bits", "count_raw_bits", "join_tokens")
    ),
    *(
        KernelLimit(volume_kernel(file, name, tap_set), registers, shared_bytes, *_EXCEPTIONS.get((name, tap_set), ()))
        for tap_set in range(len(TAP_SETS))
        for file, kernels in _VOLUME.items()
        for name, (registers, shared_bytes) in kernels.items()
    ),
)
