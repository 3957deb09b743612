"""The volume codec on a device: the same slab bytes, the same samples back.

The fit runs on the host, on the very arrays and functions of the CPU path, so that both write one model; residuals
of each stage come back for it. All that touches every sample runs on the device.
Source: docs/format-volume.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.entropy.engine import Engine
from gpushrink.codec.volume import slab
from gpushrink.codec.volume.geometry import (
    Layout,
    References,
    resolve_references,
    wavefront_order,
)
from gpushrink.codec.volume.levels import LEVELS, Level
from gpushrink.codec.volume.parameters import Model
from gpushrink.devices.device import Device, DeviceArray, Kernel
from gpushrink.devices.entropy_engine import DeviceEngine
from gpushrink.devices.volume_program import (
    TOKEN_DEFINES,
    TOKEN_WARPS,
    VOLUME_WARPS,
    count_lag,
    pack_model,
    volume_kernel,
)
from gpushrink.errors import CorruptError

__all__ = ["DeviceVolumeCodec"]

_BLOCK: Final = 32 * VOLUME_WARPS
_TILE: Final = 32 * TOKEN_WARPS
_TYPES: Final = {np.dtype(np.uint8): 0, np.dtype(np.int8): 1, np.dtype(np.uint16): 2, np.dtype(np.int16): 3}
_CONTEXTS: Final = 256


@dataclass(frozen=True)
class _Geometry:
    """A slab's shape with rows the shorter axis, and where its samples lie in the caller's array."""

    depth: int
    rows: int
    columns: int
    row_stride: int
    column_stride: int

    @classmethod
    def of(cls, shape: tuple[int, int, int]) -> _Geometry:
        depth, rows, columns = shape
        if rows > columns:
            return cls(depth, columns, rows, 1, columns)
        return cls(depth, rows, columns, columns, 1)

    @property
    def area(self) -> int:
        return self.rows * self.columns

    @property
    def strides(self) -> list[np.generic]:
        return [np.int64(self.area), np.int64(self.row_stride), np.int64(self.column_stride)]

    @property
    def sizes(self) -> list[np.generic]:
        return [np.uint32(self.rows), np.uint32(self.columns)]

    def grid(self, count: int) -> tuple[int, int]:
        return -(-count // _BLOCK), self.depth


def _resolve(depth: int, references: References) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Give how many planes back each plane's references lie, 0 for none."""
    pairs = [resolve_references(z, references) for z in range(depth)]
    first = [0 if pair is None else z - pair[0] for z, pair in enumerate(pairs)]
    second = [0 if pair is None else z - pair[1] for z, pair in enumerate(pairs)]
    return np.array(first, np.int32), np.array(second, np.int32)


@dataclass(frozen=True)
class _Coded:
    """One slab read and checked, its values on the device."""

    geometry: _Geometry
    model: Model
    counts: NDArray[np.int64]
    values: DeviceArray


class DeviceVolumeCodec:
    """Encode and decode slabs on one device.

    Parameters
    ----------
    device
        Where the arrays live and the kernels run.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._entropy: Engine = DeviceEngine(device)

    def encode_slab(
        self, samples: NDArray[Any], *, level: str = "default", references: References = slab.CHAIN
    ) -> bytes:
        """Encode a slab; the bytes are those of `gpushrink.codec.volume.encode_slab`.

        Raises
        ------
        ValueError
            If the shape or dtype is not one a slab can have.
        """
        slab._check_shape(samples.shape)
        if samples.dtype not in _TYPES:
            raise ValueError(f"the volume codec takes 8 and 16 bit integers, not {samples.dtype}")
        whole = np.ascontiguousarray(samples)
        padded = _Padded(self._device, whole, references)
        steer = LEVELS[level]
        found = [_Encoding(padded, self._entropy, way).run() for way in (steer, *steer.rivals)]
        return min(found, key=len)  # the first of equally short ones, as the CPU path takes it

    def decode_slab(self, payload: bytes, *, shape: tuple[int, int, int], dtype: DTypeLike) -> DeviceArray:
        """Decode a slab and leave it on the device, of this shape and dtype; see `decode_slabs`."""
        return self.decode_slabs([payload], depths=[shape[0]], rows=shape[1], columns=shape[2], dtype=dtype)

    def decode_slabs(
        self, payloads: Sequence[bytes], *, depths: Sequence[int], rows: int, columns: int, dtype: DTypeLike
    ) -> DeviceArray:
        """Decode slabs of one volume side by side: a step of the wavefront is one launch for all of them.

        Returns
        -------
        DeviceArray
            Shape (sum of depths, rows, columns), of this dtype, on the device.

        Raises
        ------
        CorruptError
            If a payload is not one that `encode_slab` can have written for its depth, these rows and columns and dtype.
        ValueError
            If the shape or dtype is not one a slab can have.
        """
        for depth in depths:
            slab._check_shape((depth, rows, columns))
        kind = np.dtype(dtype)
        if kind not in _TYPES:
            raise ValueError(f"the volume codec gives 8 and 16 bit integers, not {kind}")
        result = self._device.empty((sum(depths), rows, columns), kind)
        slabs: list[_Coded] = []
        at = 0
        for payload, depth in zip(payloads, depths, strict=True):
            coded = self._read(payload, _Geometry.of((depth, rows, columns)), kind)
            # A step takes one set of neighbours; slabs under another begin a batch of their own.
            if slabs and slabs[-1].model.tap_set != coded.model.tap_set:
                at = self._decode_batch(slabs, result, at)
                slabs = []
            slabs.append(coded)
        self._decode_batch(slabs, result, at)
        return result

    def _decode_batch(self, slabs: list[_Coded], result: DeviceArray, at: int) -> int:
        """Decode slabs into the planes of `result` from `at` on; return where the next one's begin."""
        device, model = self._device, slabs[0].model
        depths = [one.geometry.depth for one in slabs]
        whole = replace(slabs[0].geometry, depth=sum(depths))
        layout = Layout.wavefront(whole.rows, whole.columns)
        stage_size = layout.size * whole.depth
        planes = device.zeros(stage_size, np.uint16)
        residuals = device.zeros(model.stage_count * stage_size, np.int16)
        packed = [pack_model(one.model) for one in slabs]
        sizes = np.array([len(numbers) for numbers in packed])
        lag = count_lag(model.tap_set)
        values, begins, ends = _join_values(device, slabs)
        steps = [_resolve(one.geometry.depth, one.model.references) for one in slabs]
        cursors, faults = device.put(begins), device.zeros(whole.depth, np.uint32)
        fixed = [
            planes, residuals, device.put(np.concatenate(packed)), np.int32(whole.rows), np.int32(whole.columns),
            device.put(np.concatenate([first for first, _ in steps])),
            device.put(np.concatenate([second for _, second in steps])),
            device.put(np.concatenate([lag * np.arange(depth, dtype=np.int32) for depth in depths])),
            device.put(np.repeat((np.cumsum(sizes) - sizes).astype(np.uint32), depths)),
            device.put(np.repeat(np.array([one.model.start for one in slabs], np.uint32), depths)),
            np.uint64(stage_size), values, cursors, device.put(ends),
        ]  # fmt: skip
        lines = whole.columns + 2 * (whole.rows - 1)
        kernel = volume_kernel("volume_decode.cu", "decode_step", model.tap_set)
        for step in range(lines + 5 + lag * (max(depths) - 1)):
            device.launch(kernel, grid=(whole.depth,), block=(_BLOCK,), args=[*fixed, np.int32(step), faults])
        for z in np.flatnonzero(device.get(faults)):
            raise CorruptError(f"the streams of plane {at + z} of a volume do not fit it; the archive is damaged")
        unpad = volume_kernel("volume_decode.cu", "unpad_planes", 0)
        done = 0
        for one in slabs:
            depth, begin = one.geometry.depth, done * layout.size
            part = result[at + done : at + done + depth]
            device.launch(
                unpad,
                grid=one.geometry.grid(whole.area),
                block=(_BLOCK,),
                args=[
                    planes[begin : begin + depth * layout.size], np.uint32(_TYPES[result.dtype]), *whole.sizes,
                    *whole.strides, np.int32(one.model.least), part.reshape(-1).view(np.uint8),
                ],
            )  # fmt: skip
            done += depth
        return at + done

    def _read(self, payload: bytes, geometry: _Geometry, kind: np.dtype[Any]) -> _Coded:
        """Read and check all parts; the values end on the device."""
        model, counts, main_coded, raw_bits = slab.split_payload(
            payload, geometry.depth, geometry.area, engine=self._entropy
        )
        limits = np.iinfo(kind)
        if model.least < limits.min or model.least + model.span > limits.max:
            raise CorruptError("a volume slab holds values outside its sample type; the archive is damaged")
        first, _ = _resolve(geometry.depth, model.references)
        if any(bool(back) not in model.plane_models for back in first):
            raise CorruptError("a volume slab lacks the model of some planes; the archive is damaged")
        coded = decode_segments(main_coded, counts.sum(axis=0), engine=self._entropy)
        device, count = self._device, len(coded)
        tiles = -(-count // _TILE)
        held = device.put(coded)
        tile_bits = device.empty(tiles, np.uint32)
        device.launch(
            _token_kernel("count_raw_bits"), grid=(tiles,), block=(_TILE,), args=[held, np.uint64(count), tile_bits]
        )
        begins, bits = _prefix(device.get(tile_bits))
        if (bits + 7) // 8 != len(raw_bits):
            raise CorruptError("the raw bits of a volume slab have the wrong length; the archive is damaged")
        raw = device.put(np.frombuffer(raw_bits + bytes(8), np.uint8))
        values, fault = device.empty(count, np.uint16), device.zeros(1, np.uint32)
        device.launch(
            _token_kernel("join_tokens"),
            grid=(tiles,),
            block=(_TILE,),
            args=[held, np.uint64(count), device.put(begins), raw, values, fault],
        )
        if device.get(fault)[0]:
            raise CorruptError("a residual of a volume slab has more than 16 bits; the archive is damaged")
        return _Coded(geometry, model, counts, values)


class _Padded:
    """A slab's padded planes on the device, and what all ways of encoding it share."""

    def __init__(self, device: Device, samples: NDArray[Any], references: References) -> None:
        self.device = device
        self.geometry = geometry = _Geometry.of(cast(tuple[int, int, int], samples.shape))
        self.layout = Layout.raster(geometry.rows, geometry.columns)
        self.pattern = tuple((int(a), int(b)) for a, b in references)
        self.pairs = [resolve_references(z, self.pattern) for z in range(geometry.depth)]
        first, second = _resolve(geometry.depth, self.pattern)
        self.first, self.second = device.put(first), device.put(second)
        raw, kind = device.put(samples.reshape(-1).view(np.uint8)), np.uint32(_TYPES[samples.dtype])
        limits = device.put(np.array([1 << 20, -(1 << 20)], np.int32))
        blocks = min(1024, -(-samples.size // _BLOCK))
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
        self.device.launch(kernel, grid=grid, block=(_BLOCK,), args=args)


class _Encoding:
    """One way of encoding a slab, on its way to bytes."""

    def __init__(self, padded: _Padded, entropy: Engine, way: Level) -> None:
        self._padded, self._entropy, self._steer = padded, entropy, way
        self._device, self._geometry, self._layout = padded.device, padded.geometry, padded.layout
        self._planes, self._stage_size = padded.planes, padded.size
        self._first, self._second = padded.first, padded.second
        self._model = Model(
            way.tap_set,
            padded.least,
            padded.span,
            padded.start,
            padded.pattern,
            np.zeros(0, np.int32),
            3,
            way.grain,
            {},
        )
        self._residuals = self._device.empty(self._model.stage_count * self._stage_size, np.int16)

    def run(self) -> bytes:
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
        slab._fit_model(
            self._model, self._steer, cast(ModuleType, _Predictor(self, residuals)),
            flat.reshape(residuals.shape[1:]), residuals, self._padded.pairs, self._layout,
        )  # fmt: skip

    def _write(self) -> bytes:
        device, geometry, model = self._device, self._geometry, self._model
        contexts = device.empty(geometry.depth * geometry.area, np.uint8)
        found = device.zeros((geometry.depth, _CONTEXTS), np.uint32)
        self._launch(
            "find_contexts",
            geometry.grid(geometry.area),
            [
                self._planes, self._residuals, device.put(pack_model(model)), *geometry.sizes, self._first,
                self._second, np.uint64(self._stage_size), contexts, found,
            ],
        )  # fmt: skip
        counts = device.get(found)[:, : model.context_count].astype(np.int64)
        begins, _ = _bounds(counts)
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
        return slab.join_payload(model, counts, main_coded, raw, engine=self._entropy)

    def _split(self, values: DeviceArray) -> tuple[NDArray[np.uint8], bytes]:
        device, count = self._device, len(values)
        tiles = -(-count // _TILE)
        held, tile_bits = device.empty(count, np.uint8), device.empty(tiles, np.uint32)
        size = np.uint64(count)
        device.launch(
            _token_kernel("split_tokens"), grid=(tiles,), block=(_TILE,), args=[values, size, held, tile_bits]
        )
        begins, bits = _prefix(device.get(tile_bits))
        raw = device.zeros(bits // 32 + 2, np.uint32)
        device.launch(
            _token_kernel("write_raw_bits"),
            grid=(tiles,),
            block=(_TILE,),
            args=[values, size, tile_bits, device.put(begins), raw],
        )
        return device.get(held), device.get(raw).astype("<u4").tobytes()[: (bits + 7) // 8]


class _Predictor:
    """Stand in for an engine while a model is fitted: a stage's first plane brings them all."""

    def __init__(self, encoding: _Encoding, residuals: NDArray[np.int16]) -> None:
        self._encoding, self._residuals = encoding, residuals
        self._done = -1

    def predict_plane(
        self, samples: Any, residuals: Any, at: int, layout: Layout, stage: int, stage_size: int, bound: Any, span: int
    ) -> None:
        """Do what `reference.predict_plane` does, edges too, for all planes at once."""
        if stage > self._done:
            self._residuals[stage] = self._encoding.predict(stage).reshape(self._residuals[stage].shape)
            self._done = stage


def _token_kernel(name: str) -> Kernel:
    return Kernel("tokens.cu", name, TOKEN_DEFINES)


def _bounds(counts: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Give where each (plane, context) run begins and ends in the values: uint32, shape (planes, 256)."""
    lengths = counts.sum(axis=0)
    ends = np.zeros((len(counts), _CONTEXTS), np.uint32)
    ends[:, : counts.shape[1]] = np.cumsum(counts, axis=0) + (np.cumsum(lengths) - lengths)
    begins = ends.copy()
    begins[:, : counts.shape[1]] -= counts.astype(np.uint32)
    return begins, ends


def _join_values(device: Device, slabs: list[_Coded]) -> tuple[DeviceArray, NDArray[np.uint32], NDArray[np.uint32]]:
    """Lay the slabs' values end to end; give them and where each plane's runs begin and end in them."""
    bounds = [_bounds(one.counts) for one in slabs]
    if len(slabs) == 1:
        return slabs[0].values, *bounds[0]
    sizes = np.array([len(one.values) for one in slabs])
    offsets = np.cumsum(sizes) - sizes
    values = device.empty(int(sizes.sum()), np.uint16)
    for one, begin in zip(slabs, offsets.tolist(), strict=True):
        values[begin : begin + len(one.values)] = one.values
    moved = [
        np.concatenate([pair[way] + np.uint32(begin) for pair, begin in zip(bounds, offsets.tolist(), strict=True)])
        for way in (0, 1)
    ]
    return values, moved[0], moved[1]


def _prefix(tile_bits: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], int]:
    ends = np.cumsum(tile_bits.astype(np.uint64))
    return ends - tile_bits.astype(np.uint64), int(ends[-1])
