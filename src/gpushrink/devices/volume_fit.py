"""The fit of a slab's model on a device: sums over voxels are taken there, what follows is solved on the host.

The sums are of whole numbers, so they are those of `gpushrink.codec.volume.fit`, and both write one model. Beside
them only a sample's activity, noise and magnitudes come to the host, for order statistics: a tenth of the slab's bytes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume import fit
from gpushrink.codec.volume.levels import Level, Tap
from gpushrink.codec.volume.parameters import Model, PlaneModel
from gpushrink.devices.device import DeviceArray
from gpushrink.devices.volume_program import volume_kernel
from gpushrink.devices.volume_shape import BLOCK_THREADS

if TYPE_CHECKING:
    from gpushrink.devices.volume_encoder import PaddedSlab

__all__ = ["DrawnSample"]

# Voxels that one block sums over: hundreds of blocks a slab, and what each adds to global memory is a small part.
_PIECE: Final = 1024
_MOST_COLUMNS: Final = 62


class DrawnSample:
    """Voxels drawn from the planes that have references, or from those that have none, and what is fitted to them.

    Parameters
    ----------
    kind
        Whether the planes have references.
    residuals
        Of all stages, one after another, on the device.
    """

    def __init__(self, padded: PaddedSlab, residuals: DeviceArray, model: Model, steer: Level, *, kind: bool) -> None:
        self._padded, self._residuals, self._model, self._kind = padded, residuals, model, kind
        self._tap_set, self._taps = steer.tap_set, model.taps(kind)
        device, geometry = padded.device, padded.geometry
        members = np.array([z for z, pair in enumerate(padded.pairs) if (pair is not None) == kind], np.uint32)
        total = len(members) * geometry.area
        self.count = count = fit.sample_count(total, steer)
        self._places = device.empty(count, np.int64)
        spatial, temporal = device.empty(count, np.int32), device.empty(count, np.int32)
        directions = device.empty(count, np.uint8)
        self._launch(
            "draw_sample",
            [
                padded.planes, device.put(members), np.uint64(total), np.uint32(count), *geometry.sizes, padded.first,
                padded.second, np.uint32(kind), self._places, spatial, temporal, directions,
            ],
        )  # fmt: skip
        self.part = fit.choose_classes(steer, self._taps.directions, device.get(spatial), device.get(temporal), kind)
        self._order, self._sizes = self._sort(self.part, spatial, temporal, directions)

    def _launch(self, name: str, args: list[Any], blocks: int | None = None, count: int | None = None) -> None:
        kernel = volume_kernel("volume_fit.cu", name, self._tap_set)
        grid = blocks or -(-(count or self.count) // BLOCK_THREADS)
        self._padded.device.launch(kernel, grid=(grid,), block=(BLOCK_THREADS,), args=args)

    def _sort(
        self, part: PlaneModel, spatial: DeviceArray, temporal: DeviceArray, directions: DeviceArray
    ) -> tuple[DeviceArray, NDArray[np.int64]]:
        """List the voxels class by class; give the list and the classes' sizes."""
        device, count = self._padded.device, np.uint32(self.count)
        class_count = part.count_classes(self._taps.directions)
        classes, found = device.empty(self.count, np.uint32), device.zeros(class_count, np.uint32)
        # One number more, so that no array is empty.
        thresholds = np.concatenate([part.spatial, part.temporal, np.zeros(1, np.int32)]).astype(np.int32)
        lengths = [np.uint32(len(part.spatial)), np.uint32(len(part.temporal))]
        self._launch(
            "classify_sample",
            [spatial, temporal, directions, count, device.put(thresholds), *lengths, classes, found],
        )
        sizes = device.get(found).astype(np.int64)
        order = device.empty(self.count, np.uint32)
        cursors = device.put((np.cumsum(sizes) - sizes).astype(np.uint32))
        self._launch("order_sample", [classes, count, cursors, order])
        return order, sizes

    @property
    def _surroundings(self) -> list[Any]:
        padded = self._padded
        return [*padded.geometry.sizes, padded.first, padded.second, np.uint64(padded.size)]

    def fit_stage(self, stage: int) -> NDArray[np.int32]:
        """Fit one stage's coefficients, as `fit.fit_stage` does; the stages before are predicted, edges filled."""
        device, model = self._padded.device, self._model
        classed = stage > 0 or model.stage_count == 1
        sizes = self._sizes if classed else np.array([self.count], np.int64)
        noise, floor, bits = device.empty(self.count, np.int32), 0, 0
        if stage > 0:
            self._launch(
                "measure_noise",
                [
                    self._residuals, self._places, np.uint32(self.count), *self._surroundings,
                    np.uint32(stage - 1), np.uint32(self._kind), noise,
                ],
            )  # fmt: skip
            floor = fit.floor_of(device.get(noise), len(self._taps.energy))
            bits = fit.weight_bits(model.span, self.count)
        table = self._columns(stage)
        width = len(table) - 1
        assert width <= _MOST_COLUMNS
        begins, ends, owners = _cut_pieces(sizes)
        sums = device.zeros((len(sizes), width, width + 1), np.uint64)
        self._launch(
            "sum_products",
            [
                self._padded.planes, self._residuals, self._places, self._order, device.put(begins), device.put(ends),
                device.put(owners), noise, np.uint32(floor), np.uint32(bits), *self._surroundings,
                device.put(table), np.uint32(width), sums,
            ],
            blocks=len(owners),
        )  # fmt: skip
        found = device.get(sums).view(np.int64)
        row, column = np.tril_indices(width, -1)
        found[:, row, column] = found[:, column, row]
        return fit.solve_stage(found, sizes, model.grain)

    def _columns(self, stage: int) -> NDArray[np.int32]:
        """Give (stage or 0 for samples, role, step) of each column, the target last."""
        layout = self._padded.layout

        def row(source: int, tap: Tap) -> tuple[int, int, int]:
            return source, tap[0], tap[1] * layout.row_step + tap[2] * layout.column_step

        rows = [row(0, tap) for tap in self._taps.plain[stage][1:]]
        rows += [row(source + 1, tap) for source, tap in self._taps.feedback[stage]]
        return np.array([*rows, row(0, (0, 0, 0))], np.int32)

    def fit_weights(self) -> NDArray[np.int32]:
        """Fit the context's weights to the last stage's residuals; give the energies of the voxels looked at."""
        device, taps = self._padded.device, self._taps
        stride = fit.weights_step(self.count)
        count, rows = len(fit.list_weighed(self.count)), len(taps.energy) + len(taps.steps)
        magnitudes = device.empty((rows + 1, count), np.uint16)
        self._launch(
            "gather_magnitudes",
            [
                self._padded.planes, self._residuals, self._places, np.uint32(stride), np.uint32(count),
                *self._surroundings, np.uint32(self._kind), magnitudes,
            ],
            count=count,
        )  # fmt: skip
        found = device.get(magnitudes).astype(np.int32)
        self.part.weights, energies = fit.solve_weights(found[:-1], found[-1])
        return energies


def _cut_pieces(sizes: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Cut classes that lie one after another into pieces: where each begins and ends, and whose it is."""
    begins: list[int] = []
    ends: list[int] = []
    owners: list[int] = []
    edges = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    for owner, (begin, end) in enumerate(pairwise(edges)):
        cuts = [*range(begin, end, _PIECE), end]
        begins += cuts[:-1]
        ends += cuts[1:]
        owners += [owner] * (len(cuts) - 1)
    return np.array(begins, np.uint32), np.array(ends, np.uint32), np.array(owners, np.uint32)
