"""What each kernel must move and compute for a sample, and the bound that follows on a card.

python bench/cost_model.py                      prints the tables of docs/cost-model.md, computed
python bench/cost_model.py --measured RESULT    with a column of what a card had, out of a result of bench/gpu.py
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

LINE_US = (1.5, 3)
LAUNCH_US = 5
SAMPLE_BYTES = 2
WARP_LANES = 32


@dataclass(frozen=True)
class Card:
    """Public figures of a card: multiprocessors, boost clock, 32-bit integer lanes each, memory bandwidth."""

    name: str
    multiprocessors: int
    clock_ghz: float
    integer_lanes: int
    memory_gb_per_s: float


@dataclass(frozen=True)
class Cost:
    """What one sample costs in one kernel, counted from the source with the default level's taps.

    Attributes
    ----------
    instructions
        Of one lane, integer and address arithmetic together.
    transactions
        First-level cache passes a warp needs, for each of its samples: a load whose lanes lie side by side is one,
        one whose lanes ask 8 different lines is 8.
    memory_bytes
        To and from device memory; what the second-level cache holds is not counted.
    kernels
        The kernels that this is, by their names in kernels/; their bytes are those of the whole row.
    """

    way: str
    name: str
    instructions: float
    transactions: float
    memory_bytes: float
    kernels: tuple[str, ...] = ()


# NVIDIA's data sheets and tuning guides: H100 SXM5, RTX 4090, T4.
CARDS = (
    Card("H100 SXM", 132, 1.83, 64, 3350),
    Card("RTX 4090", 128, 2.52, 64, 1008),
    Card("T4", 40, 1.59, 64, 320),
)

# Of the voxels of a slab so many are fitted to, and fewer looked at for the contexts' weights (level default).
FITTED = 283_000 / (32 * 512 * 512)
WEIGHED = 40_000 / (32 * 512 * 512)

# predict_stage 1 and decode_planes: 40 coefficients of the class, from shared memory; that the classes of a warp
# take 1.5 passes a load is a guess, and the first thing to measure (out of a cache it would be 8). The fit has rows of
# sampled voxels: runs of 16 side by side, whose neighbours lie in some 26 sectors of 32 bytes for each run and array.
COSTS = (
    Cost("encode", "find_limits", 10, 1, 2, ("find_limits",)),
    Cost("encode", "pad_planes", 45, 2, 4, ("pad_planes",)),
    Cost("encode", "draw, classify, order", FITTED * 400, FITTED * 60, FITTED * 75,
         ("draw_sample", "classify_sample", "order_sample")),
    Cost("encode", "measure_noise", FITTED * 100, FITTED * 20, FITTED * 65, ("measure_noise",)),
    Cost("encode", "sum_products, both stages", FITTED * 6 * (209 + 819), FITTED * (2 * (209 + 819) + 120),
         FITTED * 200, ("sum_products",)),
    Cost("encode", "gather_magnitudes", WEIGHED * 300, WEIGHED * 80, WEIGHED * 160, ("gather_magnitudes",)),
    Cost("encode", "predict_stage, stage 0", 95, 30, 4),
    Cost("encode", "predict_stage, stage 1", 340, 125, 6, ("predict_stage",)),
    Cost("encode", "pad_residuals", 20, 0.2, 0.2, ("pad_residuals",)),
    Cost("encode", "find_contexts", 260, 84, 5, ("find_contexts",)),
    Cost("encode", "gather_values", 70, 14, 5, ("gather_values",)),
    Cost("encode", "split_tokens", 45, 3, 5, ("split_tokens", "write_raw_bits", "sum_tiles")),
    Cost("encode", "count_symbols", 8, 2, 1, ("count_symbols",)),
    Cost("encode", "rans_encode and gather", 60, 6, 4.1, ("rans_encode", "rans_gather")),
    Cost("encode", "copy_pieces", 3, 0.1, 2, ("copy_pieces",)),
    Cost("decode", "rans_decode and its slots", 45, 6, 1.7, ("rans_decode", "rans_fill_slots")),
    Cost("decode", "fill_pieces", 1, 0, 0.05, ("fill_pieces",)),
    Cost("decode", "join_tokens", 35, 3, 4, ("count_raw_bits", "join_tokens")),
    Cost("decode", "decode_planes", 710, 140, 13, ("decode_planes",)),
    Cost("decode", "unpad_planes", 25, 9, 4, ("unpad_planes",)),
)  # fmt: skip


def seconds_a_sample(cost: Cost, card: Card) -> tuple[float, str]:
    """Return the largest of the three bounds, and which it is."""
    lanes = card.multiprocessors * card.clock_ghz * 1e9
    bounds = {
        "integers": cost.instructions / (lanes * card.integer_lanes),
        "cache": cost.transactions / (lanes * WARP_LANES),
        "memory": cost.memory_bytes / (card.memory_gb_per_s * 1e9),
    }
    name = max(bounds, key=lambda key: bounds[key])
    return bounds[name], name


def decode_rate(card: Card, slabs: int, line_us: float) -> float:
    """Return GB/s of the wavefront alone for slabs of 32 planes of 512 x 512, two blocks to a multiprocessor.

    A slab takes its planes' lines and the lag of each behind the one before; where more planes wait than blocks fit,
    those that fit are never idle.
    """
    lines, lag, planes = 512 + 2 * 511 + 5, 4, 32 * slabs
    seconds = max(lines + lag * 31, planes * lines / (2 * card.multiprocessors)) * line_us * 1e-6
    return planes * 512 * 512 * SAMPLE_BYTES / seconds / 1e9


def measured_rate(cost: Cost, kernels: dict[str, dict[str, float]]) -> str:
    """Give GB/s of pixel data that a card had in a row's kernels, as `bench/gpu.py` found it; empty for none."""
    found = [kernels[name] for name in cost.kernels if name in kernels]
    if not found:
        return ""
    return f"{1 / sum(1 / kernel['gb_per_s_of_pixels'] for kernel in found):,.0f}"


def read_kernels(path: Path, content: str) -> dict[str, dict[str, float]]:
    """Read the kernels' times for one content, say "generated CT, default", from a result of `bench/gpu.py`."""
    steps = json.loads(path.read_text(encoding="utf-8"))
    kernels: dict[str, dict[str, float]] = steps["codec"]["result"]["kernels"][content]
    return kernels


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, help="a result of bench/gpu.py, for a column of what a card had")
    parser.add_argument("--content", default="ct-ge-lightspeed16-chest-1.25mm, default", help="which of its contents")
    options = parser.parse_args()
    kernels = read_kernels(options.measured, options.content) if options.measured else {}
    heads = " | ".join(card.name for card in CARDS) + (" | measured" if kernels else "")
    columns = len(CARDS) + bool(kernels)
    print(f"| way | kernel | instructions | cache passes | bytes | {heads} |\n|{'---|' * (5 + columns)}")
    for cost in COSTS:
        found = [seconds_a_sample(cost, card) for card in CARDS]
        cells = " | ".join(f"{SAMPLE_BYTES / seconds / 1e9:,.0f} ({name})" for seconds, name in found)
        cells += f" | {measured_rate(cost, kernels)}" if kernels else ""
        print(
            f"| {cost.way} | {cost.name} | {cost.instructions:.0f} | {cost.transactions:.0f} | {cost.memory_bytes:.3g}"
            f" | {cells} |"
        )
    for way in ("encode", "decode"):
        sums = [sum(seconds_a_sample(cost, card)[0] for cost in COSTS if cost.way == way) for card in CARDS]
        cells = " | ".join(f"**{SAMPLE_BYTES / total / 1e9:.0f}**" for total in sums)
        if kernels:
            rates = [one["gb_per_s_of_pixels"] for one in kernels.values() if one["way"] == way]
            cells += f" | **{1 / sum(1 / rate for rate in rates):.1f}**"
        print(f"| {way} | all, one after another | | | | {cells} |")
    heads = " | ".join(card.name for card in CARDS)
    print(f"\n| slabs at once | a line takes | {heads} |\n|{'---|' * (2 + len(CARDS))}")
    for slabs in (1, 4, 8, 30):
        for line_us in (*LINE_US, LAUNCH_US):
            cells = " | ".join(f"{decode_rate(card, slabs, line_us):.1f}" for card in CARDS)
            print(f"| {slabs} | {line_us:g} us | {cells} |")


if __name__ == "__main__":
    main()
