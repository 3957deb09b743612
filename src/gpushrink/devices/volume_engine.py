"""The volume codec on a device: the same slab bytes, the same samples back.

All that touches every sample runs on the device, and stays there between the samples and the streams. What is solved
from sums over them (the model, the entropy stage's plan) is solved on the host by the functions of the CPU path.
Source: docs/format-volume.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpushrink.codec.buffers import Buffer, Parts
from gpushrink.codec.volume import slab
from gpushrink.codec.volume.geometry import Layout, References
from gpushrink.codec.volume.levels import LEVELS, TAP_SETS
from gpushrink.codec.volume.parameters import Model
from gpushrink.codec.volume.payload import split_payload
from gpushrink.devices.device import Device, DeviceArray
from gpushrink.devices.entropy_stage import decode_resident
from gpushrink.devices.volume_encoder import BatchEncoding, PaddedBatch
from gpushrink.devices.volume_program import count_lag, pack_model, shared_coefficients, volume_kernel
from gpushrink.devices.volume_shape import (
    BLOCK_THREADS,
    SAMPLE_TYPES,
    SlabGeometry,
    ValueTiles,
    bound_runs,
    resolve_distances,
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
    """One slab's payload read and checked."""

    geometry: SlabGeometry
    model: Model
    counts: NDArray[np.int64]
    streams: memoryview
    raw_bits: memoryview


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
    own_zstd
        Let the device write and read zstd frames where there are many (`zstd_frames`); without, libzstd does all.
    stepped
        Decode with one launch a step, where no block waits for another, instead of one launch for all. Slower; what is
        done anyway should a wait come to its end.
    """

    def __init__(self, device: Device, *, own_zstd: bool = True, stepped: bool = False) -> None:
        self._device, self._own_zstd, self._stepped = device, own_zstd, stepped

    def encode_slab(
        self, samples: NDArray[Any], *, level: str = "default", references: References = slab.CHAIN
    ) -> bytes:
        """Encode a slab; the bytes are those of `gpushrink.codec.volume.encode_slab`, but for those of zstd frames.

        Raises
        ------
        ValueError
            If the shape or dtype is not one a slab can have.
        """
        return b"".join(self.encode_slabs([samples], level=level, references=[references])[0])

    def encode_slabs(
        self, slabs: Sequence[NDArray[Any]], *, level: str = "default", references: Sequence[References]
    ) -> list[Parts]:
        """Encode slabs of one shape of plane and one type together: the same bytes as one by one, in less time.

        Parameters
        ----------
        references
            Of each slab.
        """
        _check_samples(slabs)
        try:
            samples = self._device.put_all([np.ascontiguousarray(one) for one in slabs])
            whole = samples.reshape(-1, *slabs[0].shape[1:])
            return self.encode_planes(whole, [len(one) for one in slabs], level=level, references=references)
        except MemoryError:
            if len(slabs) == 1:
                raise
        samples = whole = None
        self._device.release()
        middle = len(slabs) // 2
        halves = [slice(middle), slice(middle, None)]
        return [
            payload
            for half in halves
            for payload in self.encode_slabs(slabs[half], level=level, references=references[half])
        ]

    def encode_planes(
        self, samples: DeviceArray, depths: Sequence[int], *, level: str, references: Sequence[References]
    ) -> list[Parts]:
        """Encode slabs whose planes are on the device already, one slab after another: shape (plane, row, column)."""
        padded = PaddedBatch(self._device, samples, depths, references)
        steer = LEVELS[level]
        judge, own_zstd = bool(steer.rivals), self._own_zstd
        found = [BatchEncoding(padded, way, judge=judge, own_zstd=own_zstd).run() for way in (steer, *steer.rivals)]
        # The first of equally short ones, as the CPU path takes it.
        best = [min(ways, key=lambda one: one.judged_bytes) for ways in zip(*found, strict=True)]
        return [one.parts for one in best]

    def decode_slab(self, payload: Buffer, *, shape: tuple[int, int, int], dtype: DTypeLike) -> DeviceArray:
        """Decode a slab and leave it on the device, of this shape and dtype; see `decode_slabs`."""
        return self.decode_slabs([payload], depths=[shape[0]], rows=shape[1], columns=shape[2], dtype=dtype)

    def decode_slabs(
        self, payloads: Sequence[Buffer], *, depths: Sequence[int], rows: int, columns: int, dtype: DTypeLike
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
        coded = [
            _read(payload, SlabGeometry.of((depth, rows, columns)), kind)
            for payload, depth in zip(payloads, depths, strict=True)
        ]
        at = 0
        # A launch takes one set of neighbours; slabs under another begin a batch of their own.
        for _, some in groupby(coded, key=lambda one: one.model.tap_set):
            at = self._decode_in_parts(list(some), result, at)
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
        values, begins, ends = self._decode_values(slabs)
        planes = device.zeros(stage_size, np.uint16)
        residuals = device.zeros(model.stage_count * stage_size, np.int16)
        packed = [pack_model(one.model) for one in slabs]
        sizes = np.array([len(numbers) for numbers in packed])
        lag = count_lag(model.tap_set)
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

    def _decode_values(self, slabs: list[_Coded]) -> tuple[DeviceArray, NDArray[np.uint32], NDArray[np.uint32]]:
        """Decode the streams; give the slabs' values end to end, and where each plane's runs begin and end in them."""
        device = self._device
        held = decode_resident(
            device, [one.streams for one in slabs], [one.counts.sum(axis=0) for one in slabs], own_zstd=self._own_zstd
        )
        counts = [int(one.counts.sum()) for one in slabs]
        tiles = ValueTiles(device, counts)
        tiles.launch("count_raw_bits", [held, tiles.begins, tiles.bits])
        for bits, one in zip(tiles.sum_bits(), slabs, strict=True):
            if (bits + 7) // 8 != len(one.raw_bits):
                raise CorruptError("the raw bits of a volume slab have the wrong length; the archive is damaged")
        # Eight bytes more than there are: a value's bits are taken out of a window.
        parts: list[Buffer] = [*(one.raw_bits for one in slabs), bytes(8)]
        raw = device.put_all([np.frombuffer(part, np.uint8) for part in parts])
        places = np.cumsum([0, *(len(one.raw_bits) for one in slabs[:-1])]).astype(np.uint64)
        values, faults = device.empty(tiles.total, np.uint16), device.zeros(len(slabs), np.uint32)
        tiles.launch("join_tokens", [held, tiles.begins, tiles.bit_begins, device.put(places), raw, values, faults])
        if device.get(faults).any():
            raise CorruptError("a residual of a volume slab has more than 16 bits; the archive is damaged")
        bounds = [bound_runs(one.counts) for one in slabs]
        offsets = np.cumsum([0, *counts[:-1]]).astype(np.uint32)
        begins, ends = (
            np.concatenate([pair[way] + begin for pair, begin in zip(bounds, offsets, strict=True)]) for way in (0, 1)
        )
        return values, begins, ends


def _check_samples(slabs: Sequence[NDArray[Any]]) -> None:
    for one in slabs:
        slab._check_shape(one.shape)
        if one.dtype not in SAMPLE_TYPES:
            raise ValueError(f"the volume codec takes 8 and 16 bit integers, not {one.dtype}")
        if (one.shape[1:], one.dtype) != (slabs[0].shape[1:], slabs[0].dtype):
            raise ValueError("slabs that are encoded together have one shape of plane and one type")


def _read(payload: Buffer, geometry: SlabGeometry, kind: np.dtype[Any]) -> _Coded:
    """Take a payload apart and check what can be seen of it on the host."""
    model, counts, streams, raw_bits = split_payload(payload, geometry.depth, geometry.area, engine="auto")
    limits = np.iinfo(kind)
    if model.least < limits.min or model.least + model.span > limits.max:
        raise CorruptError("a volume slab holds values outside its sample type; the archive is damaged")
    first, _ = resolve_distances(geometry.depth, model.references)
    if any(bool(back) not in model.plane_models for back in first):
        raise CorruptError("a volume slab lacks the model of some planes; the archive is damaged")
    return _Coded(geometry, model, counts, streams, raw_bits)
