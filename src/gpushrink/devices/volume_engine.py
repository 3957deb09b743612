"""The volume codec on a device: the same slab bytes, the same samples back.

All that touches every sample runs on the device, and stays there between the samples and the streams. What is solved
from sums over them (the model, the entropy stage's plan) is solved on the host by the functions of the CPU path.
Source: docs/format-volume.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpushrink.codec.volume import slab
from gpushrink.codec.volume.geometry import Layout, References
from gpushrink.codec.volume.levels import LEVELS, TAP_SETS
from gpushrink.codec.volume.parameters import Model
from gpushrink.codec.volume.payload import split_payload
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_stage import decode_resident
from gpushrink.devices.volume_encoder import PaddedSlab, SlabEncoding
from gpushrink.devices.volume_program import count_lag, pack_model, shared_coefficients, volume_kernel
from gpushrink.devices.volume_shape import (
    BLOCK_THREADS,
    SAMPLE_TYPES,
    TILE_VALUES,
    SlabGeometry,
    bound_runs,
    resolve_distances,
    sum_tiles,
    token_kernel,
)
from gpushrink.errors import CorruptError

__all__ = ["DeviceVolumeCodec", "decode_need", "encode_need"]

# kernels/volume_decode.cu: FAULT_STALLED, and a count of lines that no plane has before it begins.
_STALLED: Final = 2
_NOT_BEGUN: Final = -6
# Tables, models and small arrays.
_FIXED_NEED: Final = 8 << 20


@dataclass(frozen=True)
class _Coded:
    """One slab read and checked, its values on the device."""

    geometry: SlabGeometry
    model: Model
    counts: NDArray[np.int64]
    values: DeviceArray


def encode_need(shape: tuple[int, int, int], level: str) -> int:
    """Estimate the bytes of device memory that encoding a slab takes at its peak."""
    padded = shape[0] * (shape[1] + 5) * (shape[2] + 5)
    way = max((LEVELS[level], *LEVELS[level].rivals), key=lambda one: len(TAP_SETS[one.tap_set].plain))
    # Raw samples and planes; then residuals of each stage, contexts, values, tokens, and twice their size for rANS.
    return padded * (2 + 2 + 2 * len(TAP_SETS[way.tap_set].plain) + 1 + 2 + 1 + 2) + 24 * way.fit_most + _FIXED_NEED


def decode_need(shape: tuple[int, int, int]) -> int:
    """Estimate the bytes of device memory that decoding a slab takes at its peak, whatever its level."""
    geometry = SlabGeometry.of(shape)
    stages = max(len(taps.plain) for taps in TAP_SETS)
    places = Layout.wavefront(geometry.rows, geometry.columns).size * geometry.depth
    # The wavefront's planes; streams, tokens and values; the samples that come out.
    return places * (2 + 2 * stages) + geometry.depth * geometry.area * (2 + 1 + 2 + 2) + _FIXED_NEED


class DeviceVolumeCodec:
    """Encode and decode slabs on one device.

    Parameters
    ----------
    device
        Where the arrays live and the kernels run.
    stepped
        Decode with one launch a step, where no block waits for another, instead of one launch for all. Slower; what is
        done anyway should a wait come to its end.
    """

    def __init__(self, device: Device, *, stepped: bool = False) -> None:
        self._device, self._stepped = device, stepped

    def encode_slab(
        self, samples: NDArray[Any], *, level: str = "default", references: References = slab.CHAIN
    ) -> bytes:
        """Encode a slab; the bytes are those of `gpushrink.codec.volume.encode_slab`, but for those of zstd frames.

        Raises
        ------
        ValueError
            If the shape or dtype is not one a slab can have.
        """
        slab._check_shape(samples.shape)
        if samples.dtype not in SAMPLE_TYPES:
            raise ValueError(f"the volume codec takes 8 and 16 bit integers, not {samples.dtype}")
        whole = np.ascontiguousarray(samples)
        padded = PaddedSlab(self._device, whole, references)
        steer = LEVELS[level]
        judge = bool(steer.rivals)
        found = [SlabEncoding(padded, way, judge=judge).run() for way in (steer, *steer.rivals)]
        # The first of equally short ones, as the CPU path takes it.
        return min(found, key=lambda one: one.judged_bytes).payload

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
        if kind not in SAMPLE_TYPES:
            raise ValueError(f"the volume codec gives 8 and 16 bit integers, not {kind}")
        result = self._device.empty((sum(depths), rows, columns), kind)
        slabs: list[_Coded] = []
        at = 0
        for payload, depth in zip(payloads, depths, strict=True):
            coded = self._read(payload, SlabGeometry.of((depth, rows, columns)), kind)
            # A step takes one set of neighbours; slabs under another begin a batch of their own.
            if slabs and slabs[-1].model.tap_set != coded.model.tap_set:
                at = self._decode_in_parts(slabs, result, at)
                slabs = []
            slabs.append(coded)
        self._decode_in_parts(slabs, result, at)
        return result

    def _decode_in_parts(self, slabs: list[_Coded], result: DeviceArray, at: int) -> int:
        """Decode slabs side by side, or by halves where memory runs out; return where the next one begins."""
        try:
            return self._decode_batch(slabs, result, at)
        except MemoryError:
            if len(slabs) == 1:
                raise
        self._device.release()
        middle = len(slabs) // 2
        return self._decode_in_parts(slabs[middle:], result, self._decode_in_parts(slabs[:middle], result, at))

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
        steps = [resolve_distances(one.geometry.depth, one.model.references) for one in slabs]
        fixed = [
            planes, residuals, device.put(np.concatenate(packed)), np.int32(whole.rows), np.int32(whole.columns),
            device.put(np.concatenate([first for first, _ in steps])),
            device.put(np.concatenate([second for _, second in steps])),
            device.put(np.concatenate([lag * np.arange(depth, dtype=np.int32) for depth in depths])),
            device.put(np.repeat((np.cumsum(sizes) - sizes).astype(np.uint32), depths)),
            device.put(np.repeat(np.array([one.model.start for one in slabs], np.uint32), depths)),
            np.uint64(stage_size), values,
        ]  # fmt: skip
        turns = whole.columns + 2 * (whole.rows - 1) + 5 + lag * (max(depths) - 1)
        found = np.full(whole.depth, _STALLED, np.uint32)
        if not self._stepped:
            room = max(shared_coefficients(one.model, model.stage_count - 1) for one in slabs)
            found = self._run(fixed, begins, ends, lag, model.tap_set, room=room)
        if (found & _STALLED).any():
            found = self._run(fixed, begins, ends, lag, model.tap_set, turns=turns)
        for z in np.flatnonzero(found):
            raise CorruptError(f"the streams of plane {at + z} of a volume do not fit it; the archive is damaged")
        unpad = volume_kernel("volume_decode.cu", "unpad_planes", 0)
        done = 0
        for one in slabs:
            depth, begin = one.geometry.depth, done * layout.size
            part = result[at + done : at + done + depth]
            device.launch(
                unpad,
                grid=one.geometry.grid(whole.area),
                block=(BLOCK_THREADS,),
                args=[
                    planes[begin : begin + depth * layout.size], np.uint32(SAMPLE_TYPES[result.dtype]), *whole.sizes,
                    *whole.strides, np.int32(one.model.least), part.reshape(-1).view(np.uint8),
                ],
            )  # fmt: skip
            done += depth
        return at + done

    def _run(
        self, fixed: list[Any], begins: NDArray[np.uint32], ends: NDArray[np.uint32], lag: int, tap_set: int,
        *, room: int = 0, turns: int = 0,
    ) -> NDArray[np.uint32]:  # fmt: skip
        """Decode all planes in one launch, or in so many turns; give what is wrong with each."""
        device, count = self._device, len(begins)
        kernel = volume_kernel("volume_decode.cu", "decode_planes", tap_set)
        faults = device.zeros(count, np.uint32)
        args = [
            *fixed, device.put(begins), device.put(ends), np.int32(lag), device.zeros(1, np.uint32),
            device.put(np.full(count, _NOT_BEGUN, np.int32)), faults,
        ]  # fmt: skip
        shape: dict[str, Any] = {"grid": (count,), "block": (BLOCK_THREADS,)}
        if turns:
            device.launch_turns(kernel, turns=turns, args=[*args, np.uint32(0)], **shape)
        else:
            device.launch(kernel, args=[*args, np.uint32(room), np.int32(-1)], shared_bytes=4 * room, **shape)
        found: NDArray[np.uint32] = device.get(faults)
        return found

    def _read(self, payload: bytes, geometry: SlabGeometry, kind: np.dtype[Any]) -> _Coded:
        """Read and check all parts; the values end on the device."""
        model, counts, main_coded, raw_bits = split_payload(payload, geometry.depth, geometry.area, engine="auto")
        limits = np.iinfo(kind)
        if model.least < limits.min or model.least + model.span > limits.max:
            raise CorruptError("a volume slab holds values outside its sample type; the archive is damaged")
        first, _ = resolve_distances(geometry.depth, model.references)
        if any(bool(back) not in model.plane_models for back in first):
            raise CorruptError("a volume slab lacks the model of some planes; the archive is damaged")
        device = self._device
        held = decode_resident(device, main_coded, counts.sum(axis=0))
        count = len(held)
        tiles = -(-count // TILE_VALUES)
        tile_bits = device.empty(tiles, np.uint32)
        device.launch(
            token_kernel("count_raw_bits"),
            grid=(tiles,),
            block=(TILE_VALUES,),
            args=[held, np.uint64(count), tile_bits],
        )
        begins, bits = sum_tiles(device.get(tile_bits))
        if (bits + 7) // 8 != len(raw_bits):
            raise CorruptError("the raw bits of a volume slab have the wrong length; the archive is damaged")
        raw = device.put(np.frombuffer(raw_bits + bytes(8), np.uint8))
        values, fault = device.empty(count, np.uint16), device.zeros(1, np.uint32)
        device.launch(
            token_kernel("join_tokens"),
            grid=(tiles,),
            block=(TILE_VALUES,),
            args=[held, np.uint64(count), device.put(begins), raw, values, fault],
        )
        if device.get(fault)[0]:
            raise CorruptError("a residual of a volume slab has more than 16 bits; the archive is damaged")
        return _Coded(geometry, model, counts, values)


def _join_values(device: Device, slabs: list[_Coded]) -> tuple[DeviceArray, NDArray[np.uint32], NDArray[np.uint32]]:
    """Lay the slabs' values end to end; give them and where each plane's runs begin and end in them."""
    bounds = [bound_runs(one.counts) for one in slabs]
    if len(slabs) == 1:
        return slabs[0].values, *bounds[0]
    sizes = np.array([len(one.values) for one in slabs])
    offsets = np.cumsum(sizes) - sizes
    values = device.empty(int(sizes.sum()), np.uint16)
    for one, begin in zip(slabs, offsets.tolist(), strict=True):
        device.copy(one.values, values[begin : begin + len(one.values)])
    moved = [
        np.concatenate([pair[way] + np.uint32(begin) for pair, begin in zip(bounds, offsets.tolist(), strict=True)])
        for way in (0, 1)
    ]
    return values, moved[0], moved[1]
