"""The volume codec's numbers as a device takes them: neighbours as macros, a model as one array."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.fit import RUN
from gpushrink.codec.volume.geometry import LEFT, TOP, Layout
from gpushrink.codec.volume.levels import TAP_SETS, Tap
from gpushrink.codec.volume.parameters import COEFFICIENT_BITS, FLOOR_LEVELS, Model
from gpushrink.devices.device import Kernel

__all__ = [
    "PREDICT_TURNS",
    "TOKEN_DEFINES",
    "TOKEN_WARPS",
    "VOLUME_WARPS",
    "count_lag",
    "pack_model",
    "shared_coefficients",
    "volume_kernel",
]

# Eight warps: the ranks' matrix takes 4 KiB, and a line of 512 rows two turns.
VOLUME_WARPS: Final = 8
TOKEN_WARPS: Final = 8
TOKEN_DEFINES: Final = (("TOKEN_WARPS", TOKEN_WARPS),)
# How many times its threads a block of predict_stage goes through: its copy of the coefficients serves them all.
PREDICT_TURNS: Final = 16
_MOST_STAGES: Final = 3
# With a kernel's own 5 KiB less than the 48 KiB that every card gives without being asked.
_MOST_SHARED: Final = 40 << 10
# How often a block looks whether the plane it waits for has come far enough: seconds, where microseconds are usual.
_MOST_POLLS: Final = 1 << 24

# Where volume.cuh looks for things: MODEL_KIND(k) = 10 k, then the slab's own from 20.
_KIND_SIZE: Final = 10
_HEADER_SIZE: Final = 24


@cache
def volume_kernel(file: str, name: str, tap_set: int) -> Kernel:
    """Return one of the volume kernels for one set of neighbours."""
    taps = TAP_SETS[tap_set]

    def listed(macro: str, rows: Sequence[tuple[int, ...]]) -> str:
        return " ".join(f"{macro}({','.join(map(str, row))})" for row in rows)

    defines: list[tuple[str, int | str]] = [
        ("BLOCK_WARPS", VOLUME_WARPS),
        ("STAGES", len(taps.plain)),
        ("DIRECTIONS", taps.directions),
        ("COEFFICIENT_BITS", COEFFICIENT_BITS),
        ("FLOOR_LEVELS", FLOOR_LEVELS),
        ("MOST_POLLS", f"{_MOST_POLLS}u"),
        ("PREDICT_TURNS", f"{PREDICT_TURNS}u"),
        ("RUN", f"{RUN}u"),
        ("ENERGIES", listed("TAP", taps.energy)),
        ("STEPS", listed("STEP", [(*one, *other) for one, other in taps.steps])),
    ]
    for stage in range(_MOST_STAGES):
        here = stage < len(taps.plain)
        defines.append((f"PLAIN_{stage}", listed("TAP", taps.plain[stage]) if here else ""))
        echoes = [(source, *tap) for source, tap in taps.feedback[stage]] if here else []
        defines.append((f"ECHOES_{stage}", listed("ECHO", echoes)))
    return Kernel(file, name, tuple(defines))


def count_lag(tap_set: int) -> int:
    """Return how many lines a plane stays behind the plane before it.

    One more than the farthest line that is looked into: by the taps, by the classes (2, the place below), and to
    fill the rows above, 2 columns ahead of the line and out of a column that may lie one line further.
    """
    taps = TAP_SETS[tap_set]
    looked: list[Tap] = [tap for stage in taps.plain for tap in stage]
    looked += [tap for stage in taps.feedback for _, tap in stage]
    looked += [*taps.energy, *(tap for pair in taps.steps for tap in pair)]
    ahead = [column + 2 * row for role, row, column in looked if role > 0]
    return 1 + max([3, *ahead])


def shared_coefficients(model: Model, stage: int) -> int:
    """Return how many numbers of shared memory one stage's coefficients take, in rows of odd length; 0 if too many."""
    tables = [part.coefficients[stage] for part in model.plane_models.values()]
    most = max(len(table) * ((table.shape[1] + 1) | 1) for table in tables)  # W's coefficient is not stored
    return most if 4 * most <= _MOST_SHARED else 0


def pack_model(model: Model) -> NDArray[np.int32]:
    """Lay a slab's model out as the kernels read it: int32, a header of offsets, then what it points at."""
    numbers = np.zeros(_HEADER_SIZE, np.int32)
    parts: list[NDArray[np.int32]] = [numbers]
    size = _HEADER_SIZE

    def append(values: NDArray[np.int32]) -> int:
        nonlocal size
        parts.append(values.astype(np.int32).ravel())
        size += values.size
        return size - values.size

    layout = Layout(1, 1, 1, LEFT, TOP, 1)  # only the offsets depend on it, and those are not taken
    for kind, part in model.plane_models.items():
        bound = model.bind(kind, layout, 0, 0, 0)
        at = _KIND_SIZE * int(kind)
        numbers[at : at + 4] = append(part.spatial), len(part.spatial), append(part.temporal), len(part.temporal)
        numbers[at + 4] = append(part.weights)
        begin = append(bound.coefficients)
        for stage, row in enumerate(bound.stages):
            numbers[at + 5 + stage] = begin + int(row[0])
    numbers[20:24] = append(model.levels), len(model.levels), model.coarse, model.span
    return np.concatenate(parts)
