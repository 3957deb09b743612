"""The orders in which threads and blocks get their turn: a correct kernel cannot tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["EVERY_SCHEDULE", "IN_ORDER", "Order", "Schedule"]


class Order(IntEnum):
    """In which order the threads of a block are given their turn between two barriers."""

    IN_ORDER = 0
    MIRRORED = 1
    RANDOM = 2


@dataclass(frozen=True)
class Schedule:
    """One way to run a launch.

    Parameters
    ----------
    order
        The order of threads within a block.
    reverse_blocks
        Whether the last block runs first.
    seed
        Of the random order.
    poison
        The word that fills shared memory before each block. Two that differ expose a read before a write.
    last_blocks
        Run only so many blocks, the last of the grid: for grids too large to run whole. None runs all.
    residents
        Blocks that are under way at once and overtake each other; 1 runs them one after the other.
    """

    order: Order = Order.IN_ORDER
    reverse_blocks: bool = False
    seed: int = 1
    poison: int = 0xDEADBEEF
    last_blocks: int | None = None
    residents: int = 1

    def __str__(self) -> str:
        blocks = "reverse" if self.reverse_blocks else "forward"
        together = f"-{self.residents}-at-once" if self.residents > 1 else ""
        return f"{self.order.name.lower()}-{blocks}-{self.poison:08x}{together}"


IN_ORDER = Schedule()

EVERY_SCHEDULE = (
    IN_ORDER,
    Schedule(Order.MIRRORED, reverse_blocks=True, poison=0x00000000),
    Schedule(Order.RANDOM, seed=20, poison=0xA5A5A5A5),
    Schedule(Order.RANDOM, reverse_blocks=True, seed=21, poison=0xFFFFFFFF),
    Schedule(Order.IN_ORDER, reverse_blocks=True, poison=0x01010101),
    Schedule(Order.MIRRORED, poison=0x7F7F7F7F),
    Schedule(Order.RANDOM, seed=22, poison=0x80808080, residents=3),
)
