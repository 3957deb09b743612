"""A slab on its way to bytes on a device: one padding, and one encoding for each way that a level tries."""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.entropy import encode_segments
from gpushrink.codec.entropy.engine import Engine
from gpushrink.codec.volume import slab
from gpushrink.codec.volume.geometry import Layout, References, resolve_references, wavefront_order
from gpushrink.codec.volume.levels import Level
from gpushrink.codec.volume.modelling import begin_model, fit_model
from gpushrink.codec.volume.payload import join_payload
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.volume_program import pack_model, volume_kernel
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

    def launch(self, name: str, grid: tuple[int, ...], args: list[Any], tap_set: int = 0) -> None:
        """Launch a kernel of volume_encode.cu; those that look at no neighbours take any tap set."""
        kernel = volume_kernel("volume_encode.cu", name, tap_set)
        self.device.launch(kernel, grid=grid, block=(BLOCK_THREADS,), args=args)


class SlabEncoding:
    """One way of encoding a slab, on its way to bytes."""

    def __init__(self, padded: PaddedSlab, entropy: Engine, way: Level) -> None:
        self._padded, self._entropy, self._steer = padded, entropy, way
        self._device, self._geometry, self._layout = padded.device, padded.geometry, padded.layout
        self._planes, self._stage_size = padded.planes, padded.size
        self._first, self._second = padded.first, padded.second
        self._model = begin_model(
            way, padded.size, least=padded.least, span=padded.span, start=padded.start, references=padded.pattern
        )
        self._residuals = self._device.empty(self._model.stage_count * self._stage_size, np.int16)

    def run(self) -> bytes:
        """Fit, predict, gather and code; give the slab's bytes."""
        self._fit()
        return self._write()

    def _launch(self, name: str, grid: tuple[int, ...], args: list[Any]) -> None:
        self._padded.launch(name, grid, args, self._steer.tap_set)

    def predict(self, stage: int) -> NDArray[np.int16]:
        """Predict every sample in one stage and give its residuals, edges included."""
        geometry, packed = self._geometry, self._device.put(pack_model(self._model))
        common = [*geometry.sizes, self._first, self._second, np.uint64(self._stage_size), np.uint32(stage)]
        self._launch("predict_stage", geometry.grid(geometry.area), [self._planes, self._residuals, packed, *common])
        echoes = self._residuals[stage * self._stage_size : (stage + 1) * self._stage_size]
        self._launch("pad_residuals", geometry.grid(self._layout.size), [*geometry.sizes, self._first, echoes])
        found: NDArray[np.int16] = self._device.get(echoes)
        return found

    def _fit(self) -> None:
        """Fit stage after stage on the host; predict every sample on the device."""
        flat = self._device.get(self._planes)
        pitch = self._layout.row_step
        residuals = np.zeros(
            (self._model.stage_count, self._geometry.depth, self._layout.size // pitch, pitch), np.int16
        )
        fit_model(
            self._model, self._steer, cast(ModuleType, _Predictor(self, residuals)), slab.load_sums("auto"),
            flat.reshape(residuals.shape[1:]), residuals, self._padded.pairs, self._layout,
        )  # fmt: skip

    def _write(self) -> bytes:
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
        order = wavefront_order(geometry.rows, geometry.columns).astype(np.uint32)
        self._launch(
            "gather_values",
            (geometry.depth,),
            [last, contexts, device.put(order), device.put(begins), *geometry.sizes, values],
        )
        coded, raw = self._split(values)
        lengths = counts.sum(axis=0)
        main_coded = encode_segments(coded, lengths, engine=self._entropy)
        return join_payload(model, counts, main_coded, raw, engine=self._entropy)

    def _split(self, values: DeviceArray) -> tuple[NDArray[np.uint8], bytes]:
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
        return device.get(held), device.get(raw).astype("<u4").tobytes()[: (bits + 7) // 8]


class _Predictor:
    """Stand in for an engine while a model is fitted: a stage's first plane brings them all."""

    def __init__(self, encoding: SlabEncoding, residuals: NDArray[np.int16]) -> None:
        self._encoding, self._residuals = encoding, residuals
        self._done = -1

    def predict_plane(
        self, samples: Any, residuals: Any, at: int, layout: Layout, stage: int, stage_size: int, bound: Any, span: int
    ) -> None:
        """Do what `reference.predict_plane` does, edges too, for all planes at once."""
        if stage > self._done:
            self._residuals[stage] = self._encoding.predict(stage).reshape(self._residuals[stage].shape)
            self._done = stage
