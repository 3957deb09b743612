"""The numbers of a slab's model, and their place in the stream.

Source: docs/format-volume.md, section "Parameters".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume.geometry import Layout, References
from gpushrink.codec.volume.levels import TAP_SETS, TapSet
from gpushrink.errors import CorruptError

__all__ = ["COEFFICIENT_BITS", "FLOOR_LEVELS", "Bound", "Model", "PlaneModel"]

COEFFICIENT_BITS: Final = 12
WEIGHT_BITS: Final = 8
# Predictions nearer to the slab's least value than this have contexts of their own.
FLOOR_LEVELS: Final = 7
_MOST_THRESHOLDS: Final = 63
_MOST_PERIOD: Final = 8
_MOST_NUMBER: Final = 1 << 29


@dataclass
class PlaneModel:
    """Hold what is fitted for planes with, or without, reference planes.

    coefficients[s] has the shape (classes, plain taps without the first + feedback taps), int32,
    in units of 2**-12; stage 0 of several has one class.
    """

    spatial: NDArray[np.int32]
    temporal: NDArray[np.int32]
    coefficients: list[NDArray[np.int32]] = field(default_factory=list)
    weights: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def count_classes(self, directions: int) -> int:
        """Return the number of classes of the classed stages."""
        return (len(self.spatial) + 1) * (len(self.temporal) + 1) * directions


@dataclass(frozen=True)
class Bound:
    """Hold a plane model bound to a layout: flat arrays that both engines take.

    stages[s] = (first coefficient, first offset, plain taps, feedback taps, classes, taps in all).
    A feedback offset leads into the residuals of all stages laid one after another.
    """

    coefficients: NDArray[np.int32]
    offsets: NDArray[np.int64]
    stages: NDArray[np.int64]
    fixed: NDArray[np.int64]
    spatial: NDArray[np.int32]
    temporal: NDArray[np.int32]
    directions: int
    has_references: bool
    energy: NDArray[np.int64]
    steps: NDArray[np.int64]
    weights: NDArray[np.int32]


@dataclass
class Model:
    """Hold all that a slab's decoder needs beside its streams."""

    tap_set: int
    least: int
    span: int
    start: int
    references: References
    levels: NDArray[np.int32]
    coarse: int
    grain: int
    plane_models: dict[bool, PlaneModel]

    def taps(self, has_references: bool) -> TapSet:
        """Return the neighbours used in planes with or without references."""
        whole = TAP_SETS[self.tap_set]
        return whole if has_references else whole.within_plane()

    @property
    def stage_count(self) -> int:
        """Return how many stages of prediction there are."""
        return len(TAP_SETS[self.tap_set].plain)

    @property
    def context_count(self) -> int:
        """Return how many contexts there are: energies, energies near the floor, two flat ones."""
        levels = len(self.levels) + 1
        return levels + FLOOR_LEVELS * (-(-levels // self.coarse)) + 2

    def bind(self, has_references: bool, layout: Layout, first: int, second: int, stage_size: int) -> Bound:
        """Lay a plane model out for an engine; `first` and `second` lead to the reference planes."""
        taps, part = self.taps(has_references), self.plane_models[has_references]
        offsets: list[int] = []
        stages = []
        flat = []
        at = 0
        for plain, feedback, table in zip(taps.plain, taps.feedback, part.coefficients, strict=False):
            begin = len(offsets)
            offsets += [layout.offset(tap, first, second) for tap in plain]
            offsets += [stage * stage_size + layout.offset(tap, first, second) for stage, tap in feedback]
            west = (1 << COEFFICIENT_BITS) - table[:, : len(plain) - 1].sum(axis=1, dtype=np.int32)
            full = np.hstack([west[:, None].astype(np.int32), table])
            flat.append(full.ravel())
            stages.append((at, begin, len(plain), len(feedback), len(table), full.shape[1]))
            at += full.size
        # While a model is being fitted its later stages are still empty.
        stages += [(0, 0, 0, 0, 0, 0)] * (self.stage_count - len(stages))
        return Bound(
            coefficients=np.concatenate(flat) if flat else np.zeros(0, np.int32),
            offsets=np.array(offsets, np.int64),
            stages=np.array(stages, np.int64).reshape(-1, 6),
            fixed=np.array([layout.column_step, layout.row_step, first, second], np.int64),
            spatial=part.spatial,
            temporal=part.temporal,
            directions=taps.directions,
            has_references=has_references,
            energy=np.array([layout.offset(tap, first, second) for tap in taps.energy], np.int64)
            + (self.stage_count - 1) * stage_size,
            steps=np.array(
                [[layout.offset(tap, first, second) for tap in pair] for pair in taps.steps], np.int64
            ).reshape(-1, 2),
            weights=part.weights,
        )

    def to_numbers(self) -> tuple[list[int], list[int]]:
        """Return the model as two lists of whole numbers: all but the coefficients, and those."""
        head = [self.tap_set, self.least, self.span, self.start, len(self.references)]
        for pair in self.references:
            head += pair
        head += [self.coarse, self.grain, len(self.levels), *np.diff(self.levels, prepend=0).tolist()]
        head.append(sum(1 << int(kind) for kind in self.plane_models))
        numbers: list[int] = []
        for kind in sorted(self.plane_models):
            part = self.plane_models[kind]
            for thresholds in (part.spatial, part.temporal):
                head += [len(thresholds), *np.diff(thresholds, prepend=0).tolist()]
            head += part.weights.tolist()
            for table in part.coefficients:
                # Each class is stored against the class before, tap by tap.
                numbers += np.diff(table >> self.grain, axis=0, prepend=0).ravel().tolist()
        return head, numbers

    @classmethod
    def from_numbers(cls, head: NDArray[np.int64], numbers: NDArray[np.int64]) -> Model:
        """Rebuild a model.

        Raises
        ------
        CorruptError
            If a number is missing, left over, or outside its limits.
        """
        reader = _Reader(head)
        tap_set = reader.take(0, len(TAP_SETS) - 1)
        least = reader.take(-(1 << 15), (1 << 16) - 1)
        span = reader.take(0, (1 << 16) - 1)
        start = reader.take(0, span)
        references = tuple(
            (reader.take(0, 1 << 16), reader.take(0, 1 << 16)) for _ in range(reader.take(1, _MOST_PERIOD))
        )
        coarse = reader.take(1, _MOST_THRESHOLDS + 1)
        grain = reader.take(0, COEFFICIENT_BITS)
        levels = reader.thresholds()
        kinds = reader.take(1, 3)
        model = cls(tap_set, least, span, start, references, levels, coarse, grain, {})
        if model.context_count > 256:
            raise CorruptError("a volume slab names more than 256 contexts; the archive is damaged")
        at = 0
        for kind in (False, True):
            if not kinds >> int(kind) & 1:
                continue
            taps = model.taps(kind)
            part = PlaneModel(reader.thresholds(), reader.thresholds())
            part.weights = reader.many(len(taps.energy) + len(taps.steps))
            for stage, (plain, feedback) in enumerate(zip(taps.plain, taps.feedback, strict=True)):
                shape = (
                    1 if stage == 0 and model.stage_count > 1 else part.count_classes(taps.directions),
                    len(plain) - 1 + len(feedback),
                )
                piece = numbers[at : at + shape[0] * shape[1]]
                if len(piece) != shape[0] * shape[1]:
                    raise CorruptError("a volume slab lacks coefficients; the archive is damaged")
                at += len(piece)
                part.coefficients.append((piece.reshape(shape).cumsum(axis=0) << grain).astype(np.int32))
            model.plane_models[kind] = part
        if at != len(numbers) or not reader.is_empty():
            raise CorruptError("a volume slab has parameters left over; the archive is damaged")
        return model


class _Reader:
    """Take numbers one after another, each within its limits."""

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self._numbers = numbers
        self._at = 0

    def take(self, least: int, most: int) -> int:
        if self._at >= len(self._numbers) or not least <= (value := int(self._numbers[self._at])) <= most:
            raise CorruptError(f"parameter {self._at} of a volume slab is missing or out of range; it is damaged")
        self._at += 1
        return value

    def many(self, count: int) -> NDArray[np.int32]:
        return np.array([self.take(-_MOST_NUMBER, _MOST_NUMBER) for _ in range(count)], np.int32)

    def thresholds(self) -> NDArray[np.int32]:
        return self.many(self.take(0, _MOST_THRESHOLDS)).cumsum().astype(np.int32)

    def is_empty(self) -> bool:
        return self._at == len(self._numbers)
