"""Slabs on their way to bytes on a device: one padding for a batch, and one encoding for each way that a level tries.

All slabs of a batch go through each step together, one launch and one copy for all of them: a slab alone fills a part
of a card, and waits for the host as often as many do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import view_bytes
from gpushrink.codec.volume import fit
from gpushrink.codec.volume.geometry import Layout, References, resolve_references, wavefront_order
from gpushrink.codec.volume.levels import Level
from gpushrink.codec.volume.modelling import begin_model
from gpushrink.codec.volume.payload import write_front
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_stage import ResidentPayload, encode_resident
from gpushrink.devices.host_part import on_host
from gpushrink.devices.volume_fit import DrawnSamples
from gpushrink.devices.volume_program import PREDICT_TURNS, pack_model, shared_coefficients, volume_kernel
from gpushrink.devices.volume_shape import (
    BLOCK_THREADS,
    CONTEXTS,
    SAMPLE_TYPES,
    SlabGeometry,
    ValueTiles,
    bound_runs,
    resolve_distances,
)

__all__ = ["BatchEncoding", "PaddedBatch"]

# Samples of planes whose order is kept: 4 bytes each.
_MOST_KEPT: Final = 1 << 21


class PaddedBatch:
    """The padded planes of slabs on the device, and what all ways of encoding them share.

    Parameters
    ----------
    samples
        The slabs' planes one after another, shape (plane, row, column), on the device.
    depths
        How many planes each slab has.
    references
        Of each slab.
    """

    def __init__(
        self, device: Device, samples: DeviceArray, depths: Sequence[int], references: Sequence[References]
    ) -> None:
        self.device, self.depths = device, list(depths)
        self.geometry = geometry = SlabGeometry.of(samples.shape)
        self.layout = Layout.raster(geometry.rows, geometry.columns)
        self.patterns = [tuple((int(a), int(b)) for a, b in one) for one in references]
        self.pairs = [
            [resolve_references(z, pattern) for z in range(depth)]
            for depth, pattern in zip(depths, self.patterns, strict=True)
        ]
        steps = [resolve_distances(depth, pattern) for depth, pattern in zip(depths, self.patterns, strict=True)]
        self.slabs = np.repeat(np.arange(len(depths), dtype=np.int32), depths)
        fixed = np.stack([*(np.concatenate(both) for both in zip(*steps, strict=True)), self.slabs])
        self.first, self.second, slabs = device.put(fixed)
        raw, kind = samples.reshape(-1).view(np.uint8), np.uint32(SAMPLE_TYPES[np.dtype(samples.dtype)])
        self.least, self.span, self.start = self._find_limits(raw, kind, slabs)
        least, start = device.put(np.stack([self.least, self.start])[:, self.slabs])
        self.planes = device.empty(self.size, np.uint16)
        self.launch(
            "pad_planes",
            geometry.grid(self.layout.size),
            [raw, kind, *geometry.strides, *geometry.sizes, self.first, least, start, self.planes],
        )

    def _find_limits(self, raw: DeviceArray, kind: np.uint32, slabs: DeviceArray) -> NDArray[np.int32]:
        """Give each slab's least sample, its span, and what stands for what there is not: int32, shape (3, slabs)."""
        geometry, count = self.geometry, len(self.depths)
        extremes = np.tile(np.array([1 << 20, -(1 << 20)], np.int32), count)
        found = self.device.put(np.concatenate([extremes, np.zeros(count * geometry.columns, np.int32)]))
        self.launch(
            "find_limits",
            geometry.grid(-(-geometry.area // PREDICT_TURNS)),
            [
                raw, kind, np.uint64(geometry.area), np.int64(geometry.column_stride), np.uint32(geometry.columns),
                slabs, found[: 2 * count], found[2 * count :],
            ],
        )  # fmt: skip
        limits, lines = np.split(self.device.get(found), [2 * count])
        least, most = limits.reshape(count, 2).T
        start = np.sort(lines.reshape(count, geometry.columns), axis=1)[:, geometry.columns // 2] - least
        return np.stack([least, most - least, start])

    @property
    def size(self) -> int:
        """Give the places of all planes."""
        return self.layout.size * self.geometry.depth

    @property
    def surroundings(self) -> list[Any]:
        """Give what leads from a place to its neighbours, as kernels take it."""
        return [*self.geometry.sizes, self.first, self.second, np.uint64(self.size)]

    def launch(
        self, name: str, grid: tuple[int, ...], args: list[Any], tap_set: int = 0, *, shared_bytes: int = 0
    ) -> None:
        """Launch a kernel of volume_encode.cu; those that look at no neighbours take any tap set."""
        kernel = volume_kernel("volume_encode.cu", name, tap_set)
        self.device.launch(kernel, grid=grid, block=(BLOCK_THREADS,), args=args, shared_bytes=shared_bytes)


class BatchEncoding:
    """One way of encoding the slabs of a batch, on its way to bytes."""

    def __init__(self, padded: PaddedBatch, way: Level, *, judge: bool, own_zstd: bool) -> None:
        self._padded, self._steer, self._judge, self._own_zstd = padded, way, judge, own_zstd
        self._device, self._geometry, self._layout = padded.device, padded.geometry, padded.layout
        self._planes, self._stage_size = padded.planes, padded.size
        self._models = [
            begin_model(way, depth * padded.layout.size, least=least, span=span, start=start, references=pattern)
            for depth, least, span, start, pattern in zip(
                padded.depths, padded.least.tolist(), padded.span.tolist(), padded.start.tolist(), padded.patterns,
                strict=True,
            )
        ]  # fmt: skip
        self._stage_count = self._models[0].stage_count
        self._residuals = self._device.empty(self._stage_count * self._stage_size, np.int16)

    def run(self) -> list[ResidentPayload]:
        """Fit, predict, gather and code; give each slab's bytes, and the size to judge them by."""
        self._fit()
        return self._write()

    def _launch(self, name: str, grid: tuple[int, ...], args: list[Any], *, shared_bytes: int = 0) -> None:
        self._padded.launch(name, grid, args, self._steer.tap_set, shared_bytes=shared_bytes)

    def _put_models(self) -> list[DeviceArray]:
        """Give the models as one array, and where each plane's begins in it."""
        packed = [pack_model(model) for model in self._models]
        sizes = np.array([len(numbers) for numbers in packed])
        depth = self._geometry.depth
        begins = (depth + np.cumsum(sizes) - sizes)[self._padded.slabs]
        whole = self._device.put(np.concatenate([begins.astype(np.int32), *packed]))
        return [whole, whole[:depth]]

    def _predict(self, stage: int) -> None:
        """Predict every sample in one stage, edges included."""
        geometry = self._geometry
        rooms = [shared_coefficients(model, stage) for model in self._models]
        room = max(rooms) if min(rooms) else 0
        self._launch(
            "predict_stage",
            geometry.grid(-(-geometry.area // PREDICT_TURNS)),
            [
                self._planes, self._residuals, *self._put_models(), *self._padded.surroundings, np.uint32(stage),
                np.uint32(room),
            ],
            shared_bytes=4 * room,
        )  # fmt: skip
        echoes = self._residuals[stage * self._stage_size : (stage + 1) * self._stage_size]
        self._launch("pad_residuals", geometry.grid(self._layout.size), [*geometry.sizes, self._padded.first, echoes])

    def _fit(self) -> None:
        """Fit stage after stage, as `modelling.fit_model` does, with the sums taken on the device."""
        padded = self._padded
        drawn = DrawnSamples(padded, self._residuals, self._models, self._steer)
        for stage in range(self._stage_count):
            drawn.fit_stage(stage)
            self._predict(stage)
        energies = drawn.fit_weights()

        def choose(place: int) -> NDArray[np.int32]:
            places = padded.depths[place] * padded.layout.size
            return fit.choose_levels(self._steer, energies[place], padded.pairs[place], places)

        for model, levels in zip(self._models, on_host(choose, range(len(self._models))), strict=True):
            model.levels = levels

    def _write(self) -> list[ResidentPayload]:
        device = self._device
        counts, values = self._gather()
        del self._residuals  # its memory serves the entropy stage
        coded, raw = self._split(values)
        del values
        lengths = [own.sum(axis=0) for own in counts]
        mains = encode_resident(device, coded, lengths, judge=self._judge, own_zstd=self._own_zstd)

        def join(place: int) -> ResidentPayload:
            # A slab's parameters are a few thousand tokens: copies and launches would take longer than the host does.
            main = mains[place]
            front = write_front(self._models[place], counts[place], main.size, engine="auto")
            around = len(front) + len(raw[place])
            return ResidentPayload((front, *main.parts, view_bytes(raw[place])), around + main.judged_bytes)

        return [join(place) for place in range(len(mains))]

    def _gather(self) -> tuple[list[NDArray[np.int64]], DeviceArray]:
        """Count each plane's contexts, slab by slab, and lay each slab's residuals out context by context."""
        device, geometry = self._device, self._geometry
        contexts = device.empty(geometry.depth * geometry.area, np.uint8)
        found = device.zeros((geometry.depth, CONTEXTS), np.uint32)
        self._launch(
            "find_contexts",
            geometry.grid(geometry.area),
            [
                self._planes, self._residuals, *self._put_models(), *self._padded.surroundings, contexts, found,
            ],
        )  # fmt: skip
        depths = self._padded.depths
        by_slab = np.split(device.get(found), np.cumsum(depths)[:-1])
        counts = [
            own[:, : model.context_count].astype(np.int64) for own, model in zip(by_slab, self._models, strict=True)
        ]
        offsets = np.cumsum([0, *depths[:-1]]) * geometry.area
        begins = [bound_runs(own)[0] + np.uint32(at) for own, at in zip(counts, offsets.tolist(), strict=True)]
        values = device.empty(geometry.depth * geometry.area, np.uint16)
        last = self._residuals[(self._stage_count - 1) * self._stage_size :]
        order = device.put(_order(geometry.rows, geometry.columns))
        self._launch(
            "gather_values",
            (geometry.depth,),
            [last, contexts, order, device.put(np.concatenate(begins)), *geometry.sizes, values],
        )
        return counts, values

    def _split(self, values: DeviceArray) -> tuple[DeviceArray, list[NDArray[np.uint8]]]:
        """Give the tokens of all slabs, on the device, and each slab's raw bits."""
        device = self._device
        tiles = ValueTiles(device, [depth * self._geometry.area for depth in self._padded.depths])
        held = device.empty(tiles.total, np.uint8)
        tiles.launch("split_tokens", [values, tiles.begins, held, tiles.bits])
        bits = tiles.sum_bits()
        words = [-(-count // 32) for count in bits]
        begins = np.cumsum([0, *words])
        raw = device.zeros(int(begins[-1]) + 1, np.uint32)
        places = device.put(begins[:-1].astype(np.uint64))
        tiles.launch("write_raw_bits", [values, tiles.begins, tiles.bits, tiles.bit_begins, places, raw])
        whole = device.get(raw).astype("<u4", copy=False).view(np.uint8)
        return held, [
            whole[4 * at : 4 * at + (count + 7) // 8] for at, count in zip(begins.tolist(), bits, strict=False)
        ]


def _order(rows: int, columns: int) -> NDArray[np.uint32]:
    """Give the wavefront order of a plane; the slabs of a volume share it, if it does not hold too much memory."""
    return _kept_order(rows, columns) if rows * columns <= _MOST_KEPT else _find_order(rows, columns)


def _find_order(rows: int, columns: int) -> NDArray[np.uint32]:
    return wavefront_order(rows, columns).astype(np.uint32)


_kept_order = lru_cache(maxsize=4)(_find_order)
