"""A slab on its way to bytes on a device: one padding, and one encoding for each way that a level tries."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.volume import fit
from gpushrink.codec.volume.geometry import Layout, References, resolve_references, wavefront_order
from gpushrink.codec.volume.levels import Level
from gpushrink.codec.volume.modelling import begin_model
from gpushrink.codec.volume.payload import join_payload
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_stage import ResidentPayload, encode_resident
from gpushrink.devices.volume_fit import DrawnSample
from gpushrink.devices.volume_program import PREDICT_TURNS, pack_model, shared_coefficients, volume_kernel
from gpushrink.devices.volume_shape import (
    BLOCK_THREADS,
    CONTEXTS,
    SAMPLE_TYPES,
    TILE_VALUES,
    SlabGeometry,
    bound_runs,
    resolve_distances,
    sum_tiles,
    token_kernel,
)

__all__ = ["PaddedSlab", "SlabEncoding"]


class PaddedSlab:
    """A slab's padded planes on the device, and what all ways of encoding it share."""

    def __init__(self, device: Device, samples: NDArray[Any], references: References) -> None:
        self.device = device
        self.geometry = geometry = SlabGeometry.of(cast(tuple[int, int, int], samples.shape))
        self.layout = Layout.raster(geometry.rows, geometry.columns)
        self.pattern = tuple((int(a), int(b)) for a, b in references)
        self.pairs = [resolve_references(z, self.pattern) for z in range(geometry.depth)]
        first, second = resolve_distances(geometry.depth, self.pattern)
        self.first, self.second = device.put(first), device.put(second)
        raw, kind = device.put(samples.reshape(-1).view(np.uint8)), np.uint32(SAMPLE_TYPES[samples.dtype])
        limits = device.put(np.array([1 << 20, -(1 << 20)], np.int32))
        blocks = min(1024, -(-samples.size // BLOCK_THREADS))
        self.launch("find_limits", (blocks,), [raw, kind, np.uint64(samples.size), limits])
        self.least, most = (int(value) for value in device.get(limits))
        self.span = most - self.least
        line = samples[0, :, 0] if geometry.row_stride == 1 else samples[0, 0]
        self.start = int(np.sort(line)[geometry.columns // 2]) - self.least
        self.planes = device.empty(self.size, np.uint16)
        self.launch(
            "pad_planes",
            geometry.grid(self.layout.size),
            [raw, kind, *geometry.strides, *geometry.sizes, self.first, np.int32(self.least), np.uint32(self.start),
             self.planes],
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Give the places of all planes."""
        return self.layout.size * self.geometry.depth

    def launch(
        self, name: str, grid: tuple[int, ...], args: list[Any], tap_set: int = 0, *, shared_bytes: int = 0
    ) -> None:
        """Launch a kernel of volume_encode.cu; those that look at no neighbours take any tap set."""
        kernel = volume_kernel("volume_encode.cu", name, tap_set)
        self.device.launch(kernel, grid=grid, block=(BLOCK_THREADS,), args=args, shared_bytes=shared_bytes)


class SlabEncoding:
    """One way of encoding a slab, on its way to bytes."""

    def __init__(self, padded: PaddedSlab, way: Level, *, judge: bool) -> None:
        self._padded, self._steer, self._judge = padded, way, judge
        self._device, self._geometry, self._layout = padded.device, padded.geometry, padded.layout
        self._planes, self._stage_size = padded.planes, padded.size
        self._first, self._second = padded.first, padded.second
        self._model = begin_model(
            way, padded.size, least=padded.least, span=padded.span, start=padded.start, references=padded.pattern
        )
        self._residuals = self._device.empty(self._model.stage_count * self._stage_size, np.int16)

    def run(self) -> ResidentPayload:
        """Fit, predict, gather and code; give the slab's bytes, and the size to judge them by."""
        self._fit()
        return self._write()

    def _launch(self, name: str, grid: tuple[int, ...], args: list[Any], *, shared_bytes: int = 0) -> None:
        self._padded.launch(name, grid, args, self._steer.tap_set, shared_bytes=shared_bytes)

    def _predict(self, stage: int) -> None:
        """Predict every sample in one stage, edges included."""
        geometry, packed = self._geometry, self._device.put(pack_model(self._model))
        room = shared_coefficients(self._model, stage)
        common = [*geometry.sizes, self._first, self._second, np.uint64(self._stage_size), np.uint32(stage)]
        self._launch(
            "predict_stage",
            geometry.grid(-(-geometry.area // PREDICT_TURNS)),
            [self._planes, self._residuals, packed, *common, np.uint32(room)],
            shared_bytes=4 * room,
        )
        echoes = self._residuals[stage * self._stage_size : (stage + 1) * self._stage_size]
        self._launch("pad_residuals", geometry.grid(self._layout.size), [*geometry.sizes, self._first, echoes])

    def _fit(self) -> None:
        """Fit stage after stage, as `modelling.fit_model` does, with the sums taken on the device."""
        model, pairs = self._model, self._padded.pairs
        drawn: dict[bool, DrawnSample] = {}
        for kind in sorted({pair is not None for pair in pairs}):
            drawn[kind] = DrawnSample(self._padded, self._residuals, model, self._steer, kind=kind)
            model.plane_models[kind] = drawn[kind].part
        for stage in range(model.stage_count):
            for sample in drawn.values():
                sample.part.coefficients.append(sample.fit_stage(stage))
            self._predict(stage)
        energies = {kind: sample.fit_weights() for kind, sample in drawn.items()}
        model.levels = fit.choose_levels(self._steer, energies, pairs, self._padded.size)

    def _write(self) -> ResidentPayload:
        device, model = self._device, self._model
        counts, values = self._gather()
        del self._residuals  # its memory serves the entropy stage
        coded, raw = self._split(values)
        main = encode_resident(device, coded, counts.sum(axis=0), judge=self._judge)
        # A slab's parameters are a few thousand tokens: copies and launches would take longer than the host does.
        whole = join_payload(model, counts, main.payload, raw, engine="auto")
        return ResidentPayload(whole, len(whole) - len(main.payload) + main.judged_bytes)

    def _gather(self) -> tuple[NDArray[np.int64], DeviceArray]:
        """Count each plane's contexts, and lay the residuals out context by context."""
        device, geometry, model = self._device, self._geometry, self._model
        contexts = device.empty(geometry.depth * geometry.area, np.uint8)
        found = device.zeros((geometry.depth, CONTEXTS), np.uint32)
        self._launch(
            "find_contexts",
            geometry.grid(geometry.area),
            [
                self._planes, self._residuals, device.put(pack_model(model)), *geometry.sizes, self._first,
                self._second, np.uint64(self._stage_size), contexts, found,
            ],
        )  # fmt: skip
        counts = device.get(found)[:, : model.context_count].astype(np.int64)
        begins, _ = bound_runs(counts)
        values = device.empty(geometry.depth * geometry.area, np.uint16)
        last = self._residuals[(model.stage_count - 1) * self._stage_size :]
        order = device.put(_order(geometry.rows, geometry.columns))
        self._launch(
            "gather_values", (geometry.depth,), [last, contexts, order, device.put(begins), *geometry.sizes, values]
        )
        return counts, values

    def _split(self, values: DeviceArray) -> tuple[DeviceArray, bytes]:
        device, count = self._device, len(values)
        tiles = -(-count // TILE_VALUES)
        held, tile_bits = device.empty(count, np.uint8), device.empty(tiles, np.uint32)
        size = np.uint64(count)
        device.launch(
            token_kernel("split_tokens"), grid=(tiles,), block=(TILE_VALUES,), args=[values, size, held, tile_bits]
        )
        begins, bits = sum_tiles(device.get(tile_bits))
        raw = device.zeros(bits // 32 + 2, np.uint32)
        device.launch(
            token_kernel("write_raw_bits"),
            grid=(tiles,),
            block=(TILE_VALUES,),
            args=[values, size, tile_bits, device.put(begins), raw],
        )
        return held, device.get(raw).astype("<u4").tobytes()[: (bits + 7) // 8]


@lru_cache(maxsize=4)
def _order(rows: int, columns: int) -> NDArray[np.uint32]:
    """Give the wavefront order of a plane; the slabs of a volume share it."""
    return wavefront_order(rows, columns).astype(np.uint32)
