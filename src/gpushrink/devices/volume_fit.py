"""The fit of slabs' models on a device: sums over voxels are taken there, what follows is solved on the host.

The sums are of whole numbers, so they are those of `gpushrink.codec.volume.fit`, and both write one model. Beside
them only a sample's activity, noise and magnitudes come to the host, for order statistics: a tenth of the slab's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume import fit
from gpushrink.codec.volume.levels import Level, Tap, TapSet
from gpushrink.codec.volume.parameters import Model, PlaneModel
from gpushrink.devices.device import DeviceArray
from gpushrink.devices.host_part import on_host
from gpushrink.devices.volume_program import volume_kernel
from gpushrink.devices.volume_shape import BLOCK_THREADS

if TYPE_CHECKING:
    from gpushrink.devices.volume_encoder import PaddedBatch

__all__ = ["DrawnSamples"]

# Voxels that one block sums over: hundreds of blocks a slab, and what each adds to global memory is a small part.
_PIECE: Final = 1024
_MOST_COLUMNS: Final = 62


@dataclass(frozen=True)
class _Group:
    """What is drawn from one slab's planes of one kind.

    Attributes
    ----------
    kind
        Whether the planes have references.
    members
        The planes, as the batch numbers them.
    begin, count
        The drawn voxels among all groups'.
    """

    slab: int
    kind: bool
    members: NDArray[np.uint32]
    begin: int
    count: int

    @property
    def end(self) -> int:
        return self.begin + self.count


class DrawnSamples:
    """Voxels drawn from each slab's planes with references, and from those without, and what is fitted to them.

    Parameters
    ----------
    residuals
        Of all stages, one after another, on the device.
    models
        One for each slab; they get their plane models here.
    """

    def __init__(self, padded: PaddedBatch, residuals: DeviceArray, models: Sequence[Model], steer: Level) -> None:
        self._padded, self._residuals, self._models = padded, residuals, models
        self._steer = steer
        device, area = padded.device, padded.geometry.area
        # Kinds one after the other: what only one of them needs is then one stretch.
        self._groups: list[_Group] = []
        firsts = np.cumsum([0, *padded.depths[:-1]]).tolist()
        for kind in (False, True):
            for slab, (first, pairs) in enumerate(zip(firsts, padded.pairs, strict=True)):
                members = [first + z for z, pair in enumerate(pairs) if (pair is not None) == kind]
                if members:
                    count = fit.sample_count(len(members) * area, steer, len(members) / len(pairs))
                    begin = self._groups[-1].end if self._groups else 0
                    self._groups.append(_Group(slab, kind, np.array(members, np.uint32), begin, count))
        self._count = self._groups[-1].end
        sizes = np.cumsum([0, *(len(group.members) for group in self._groups)])
        table = np.array(
            [
                (group.count, group.begin, len(group.members) * area, at, group.kind)
                for group, at in zip(self._groups, sizes.tolist(), strict=False)
            ],
            np.uint32,
        )
        self._table = device.put(table)
        self._places = device.empty(self._count, np.int64)
        activity = device.empty((2, self._count), np.int32)
        directions = device.empty(self._count, np.uint8)
        members = device.put(np.concatenate([group.members for group in self._groups]))
        self._launch(
            "draw_sample",
            [
                padded.planes, self._table, members, *padded.geometry.sizes, padded.first, padded.second, self._places,
                activity[0], activity[1], directions,
            ],
        )  # fmt: skip
        self._parts = self._choose_classes(activity)
        self._order, self._sizes = self._sort(activity, directions)

    def _launch(self, name: str, args: list[Any], grid: tuple[int, ...] | None = None) -> None:
        kernel = volume_kernel("volume_fit.cu", name, self._steer.tap_set)
        if grid is None:
            grid = (-(-max(group.count for group in self._groups) // BLOCK_THREADS), len(self._groups))
        self._padded.device.launch(kernel, grid=grid, block=(BLOCK_THREADS,), args=args)

    def _choose_classes(self, activity: DeviceArray) -> list[PlaneModel]:
        """Choose each group's classes; each model gets its plane models."""
        device, steer = self._padded.device, self._steer
        spatial = device.get(activity[0])
        # Planes without references have no temporal classes, and some levels have none at all.
        skipped = next((group.begin for group in self._groups if group.kind), self._count)
        timed = steer.temporal_classes > 1 and skipped < self._count
        temporal = device.get(activity[1][skipped:]) if timed else np.zeros(self._count - skipped, np.int32)

        def choose(group: _Group) -> PlaneModel:
            own = temporal[group.begin - skipped : group.end - skipped] if group.kind else spatial[:0]
            directions = self._models[group.slab].taps(group.kind).directions
            return fit.choose_classes(steer, directions, spatial[group.begin : group.end], own, group.kind)

        parts = on_host(choose, self._groups)
        for group, part in zip(self._groups, parts, strict=True):
            self._models[group.slab].plane_models[group.kind] = part
        return parts

    def _sort(self, activity: DeviceArray, directions: DeviceArray) -> tuple[DeviceArray, list[NDArray[np.int64]]]:
        """List the voxels class by class, group after group; give the list and the sizes of each group's classes."""
        device = self._padded.device
        class_counts = [
            part.count_classes(self._models[group.slab].taps(group.kind).directions)
            for group, part in zip(self._groups, self._parts, strict=True)
        ]
        class_ends = np.cumsum(class_counts)
        thresholds = [np.concatenate([part.spatial, part.temporal]).astype(np.int32) for part in self._parts]
        rows = len(self._groups)
        begins = np.cumsum([0, *map(len, thresholds)])[:-1] + 4 * rows
        cuts = np.array(
            [
                (begin, len(part.spatial), len(part.temporal), end - count)
                for begin, part, end, count in zip(
                    begins.tolist(), self._parts, class_ends.tolist(), class_counts, strict=True
                )
            ],
            np.int32,
        )
        whole = device.put(np.concatenate([cuts.reshape(-1), *thresholds]))
        classes, found = device.empty(self._count, np.uint32), device.zeros(int(class_ends[-1]), np.uint32)
        self._launch(
            "classify_sample",
            [
                self._table, whole[: 4 * rows].view(np.uint32), activity[0], activity[1], directions, whole, classes,
                found,
            ],
        )  # fmt: skip
        sizes = device.get(found).astype(np.int64)
        order = device.empty(self._count, np.uint32)
        cursors = device.put((np.cumsum(sizes) - sizes).astype(np.uint32))
        grid = (-(-self._count // BLOCK_THREADS),)
        self._launch("order_sample", [classes, np.uint32(self._count), cursors, order], grid)
        return order, np.split(sizes, class_ends[:-1])

    def fit_stage(self, stage: int) -> None:
        """Fit one stage's coefficients, as `fit.fit_stage` does; the stages before are predicted, edges filled."""
        device, stages = self._padded.device, self._models[0].stage_count
        classed = stage > 0 or stages == 1
        noise = device.empty(self._count, np.int32)
        limits = [(0, 0)] * len(self._groups)
        if stage > 0:
            self._launch(
                "measure_noise",
                [
                    self._residuals, self._table, self._places, *self._padded.surroundings, np.uint32(stage - 1),
                    noise,
                ],
            )  # fmt: skip
            measured = device.get(noise)

            def limit(group: _Group) -> tuple[int, int]:
                model = self._models[group.slab]
                floor = fit.floor_of(measured[group.begin : group.end], len(model.taps(group.kind).energy))
                return floor, fit.weight_bits(model.span, group.count)

            limits = on_host(limit, self._groups)
        for kind in (False, True):
            chosen = [place for place, group in enumerate(self._groups) if group.kind == kind]
            if chosen:
                sizes = [
                    self._sizes[place] if classed else np.array([self._groups[place].count], np.int64)
                    for place in chosen
                ]
                self._solve_kind(stage, chosen, sizes, noise, limits)

    def _solve_kind(
        self, stage: int, chosen: list[int], sizes: list[NDArray[np.int64]], noise: DeviceArray,
        limits: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Add up and solve one stage of the groups of one kind."""
        device = self._padded.device
        table = self._columns(self._models[0].taps(self._groups[chosen[0]].kind), stage)
        width = len(table) - 1
        assert width <= _MOST_COLUMNS
        pieces: list[tuple[int, ...]] = []
        edges = np.cumsum([0, *map(len, sizes)]).tolist()
        for place, own, first in zip(chosen, sizes, edges, strict=False):
            pieces += [(*piece, *limits[place]) for piece in _cut_pieces(own, self._groups[place].begin, first)]
        sums = device.zeros((edges[-1], width, width + 1), np.uint64)
        self._launch(
            "sum_products",
            [
                self._padded.planes, self._residuals, self._places, self._order,
                device.put(np.array(pieces, np.uint32)), noise, *self._padded.surroundings, device.put(table),
                np.uint32(width), sums,
            ],
            (len(pieces),),
        )  # fmt: skip
        found = device.get(sums).view(np.int64)

        def solve(at: int) -> None:
            place = chosen[at]
            grain = self._models[self._groups[place].slab].grain
            solved = fit.solve_stage(found[edges[at] : edges[at + 1]], sizes[at], grain)
            self._parts[place].coefficients.append(solved)

        on_host(solve, range(len(chosen)))

    def _columns(self, taps: TapSet, stage: int) -> NDArray[np.int32]:
        """Give (stage or 0 for samples, role, step) of each column, the target last."""
        layout = self._padded.layout

        def row(source: int, tap: Tap) -> tuple[int, int, int]:
            return source, tap[0], tap[1] * layout.row_step + tap[2] * layout.column_step

        rows = [row(0, tap) for tap in taps.plain[stage][1:]]
        rows += [row(source + 1, tap) for source, tap in taps.feedback[stage]]
        return np.array([*rows, row(0, (0, 0, 0))], np.int32)

    def fit_weights(self) -> list[dict[bool, NDArray[np.int32]]]:
        """Fit the contexts' weights to the last stage's residuals; give each slab's energies of them."""
        device = self._padded.device
        counts = [_count_weighed(group.count) for group in self._groups]
        taps = [self._models[group.slab].taps(group.kind) for group in self._groups]
        rows = [len(one.energy) + len(one.steps) + 1 for one in taps]
        ends = np.cumsum([count * height for count, height in zip(counts, rows, strict=True)]).tolist()
        weighed = np.array(
            [
                (fit.weights_step(group.count), count, end - count * height)
                for group, count, height, end in zip(self._groups, counts, rows, ends, strict=True)
            ],
            np.uint32,
        )
        magnitudes = device.empty(ends[-1], np.uint16)
        self._launch(
            "gather_magnitudes",
            [
                self._padded.planes, self._residuals, self._table, device.put(weighed), self._places,
                *self._padded.surroundings, magnitudes,
            ],
            (-(-max(counts) // BLOCK_THREADS), len(self._groups)),
        )  # fmt: skip
        whole = device.get(magnitudes)

        def solve(place: int) -> NDArray[np.int32]:
            own = whole[ends[place] - counts[place] * rows[place] : ends[place]]
            found = own.reshape(rows[place], counts[place]).astype(np.int32)
            self._parts[place].weights, energies = fit.solve_weights(found[:-1], found[-1])
            return energies

        by_slab: list[dict[bool, NDArray[np.int32]]] = [{} for _ in self._models]
        for group, energies in zip(self._groups, on_host(solve, range(len(self._groups))), strict=True):
            by_slab[group.slab][group.kind] = energies
        return by_slab


@cache
def _count_weighed(count: int) -> int:
    return len(fit.list_weighed(count))


def _cut_pieces(sizes: NDArray[np.int64], begin: int, owner: int) -> list[tuple[int, int, int]]:
    """Cut classes that lie one after another into pieces: where each begins and ends, and whose it is."""
    pieces: list[tuple[int, int, int]] = []
    edges = (begin + np.concatenate([[0], np.cumsum(sizes)])).tolist()
    for own, (first, last) in enumerate(pairwise(edges), owner):
        pieces += [(at, end, own) for at, end in pairwise([*range(first, last, _PIECE), last])]
    return pieces
