"""The entropy stage on resident symbols: the CPU's payloads, whatever kinds of segments there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.devices import zstd_frames
from gpushrink.devices.device import DeviceArray
from gpushrink.devices.emulation.build import find_compiler
from gpushrink.devices.entropy_stage import ResidentPayload, decode_resident, encode_resident
from gpushrink.devices.host import HostDevice
from gpushrink.errors import CorruptError, DeviceUnavailableError

try:
    find_compiler()
except DeviceUnavailableError as missing:
    pytest.skip(f"no host compiler: {missing}", allow_module_level=True)


class OtherZstd(HostDevice):
    """Write frames of another level, as another zstd would; note what goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[int] = []
        self.fetched = self.gets = 0

    def get(self, array: DeviceArray) -> NDArray[np.generic]:
        """Copy, and count the bytes."""
        self.fetched += array.nbytes
        self.gets += 1
        return super().get(array)

    def compress_chunks(self, data: DeviceArray, bounds: NDArray[np.int64]) -> list[bytes]:
        """Compress in another way."""
        self.chunks += np.diff(bounds).tolist()
        compressor = zstandard.ZstdCompressor(level=-30, write_content_size=True)
        cuts = bounds.tolist()
        return [compressor.compress(data[a:b].tobytes()) for a, b in zip(cuts, cuts[1:], strict=False)]

    def decompress_chunks(self, frames: Sequence[bytes], sizes: NDArray[np.int64]) -> DeviceArray:
        """Decompress as ever."""
        self.chunks += sizes.tolist()
        return super().decompress_chunks(frames, sizes)


def payload_of(resident: ResidentPayload) -> bytes:
    """Join a payload's parts."""
    return b"".join(resident.parts)


def mixed() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return segments that are coded in every way: rANS, constant, raw, zstd (repeating), and empty ones."""
    rng = np.random.default_rng(1)
    repeats = np.tile(rng.integers(0, 250, 3000, dtype=np.uint8), 50)
    repeats[rng.integers(0, len(repeats), 2000)] = 251
    parts = [
        rng.geometric(0.1, 40_000).clip(1, 200).astype(np.uint8),
        np.full(9_000, 7, np.uint8),
        repeats,
        np.zeros(0, np.uint8),
        rng.integers(0, 256, 5_000, dtype=np.uint8),
        np.full(12, 200, np.uint8),
        rng.geometric(0.3, 20_000).clip(1, 90).astype(np.uint8),
    ]
    return np.concatenate(parts), np.array([len(part) for part in parts])


def test_resident_payload_equals_the_cpu_s() -> None:
    """With libzstd on both sides, every byte is the same, and either side reads it."""
    symbols, lengths = mixed()
    device = HostDevice()
    expected = encode_segments(symbols, lengths, engine="numpy")
    [coded] = encode_resident(device, device.put(symbols), [lengths])
    assert payload_of(coded) == expected
    assert coded.judged_bytes == len(expected)
    assert (decode_resident(device, [expected], [lengths]) == symbols).all()


def test_resident_payloads_of_a_batch_equal_those_of_one_alone() -> None:
    """Payloads of unlike kinds and shapes, empty ones too, are coded and read together as they are one by one."""
    symbols, lengths = mixed()
    few = np.arange(40, dtype=np.uint8) % 3
    all_symbols = [symbols, symbols[:0], few, symbols[::-1].copy()]
    all_lengths = [lengths, np.zeros(2, np.int64), np.array([0, 11, 29]), lengths[::-1].copy()]
    device = HostDevice()
    expected = [encode_segments(one, own) for one, own in zip(all_symbols, all_lengths, strict=True)]
    found = encode_resident(device, device.put(np.concatenate(all_symbols)), all_lengths, judge=True)
    assert [payload_of(one) for one in found] == expected
    assert (decode_resident(device, expected, all_lengths) == np.concatenate(all_symbols)).all()


def test_resident_zstd_goes_through_the_device_and_changes_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough chunks of 64 KiB reach the device's own zstd; the choices, and the size they go by, stay the CPU's."""
    monkeypatch.setattr(zstd_frames, "FEWEST_DEVICE_CHUNKS", 3)
    symbols, lengths = mixed()
    device = OtherZstd()
    expected = encode_segments(symbols, lengths, engine="numpy")
    held = device.put(symbols)
    [coded] = encode_resident(device, held, [lengths], judge=True)
    assert device.chunks == [65536, 65536, 150_000 - 131_072]
    assert payload_of(coded) != expected
    assert coded.judged_bytes == len(expected)
    assert (decode_segments(payload_of(coded), lengths) == symbols).all()
    device.chunks = []
    assert (decode_resident(device, [payload_of(coded)], [lengths]) == symbols).all()
    assert device.chunks == [65536, 65536, 150_000 - 131_072]


def test_resident_frames_do_not_depend_on_what_shares_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload of few chunks beside one of many is coded as it is alone."""
    monkeypatch.setattr(zstd_frames, "FEWEST_DEVICE_CHUNKS", 3)
    symbols, lengths = mixed()
    zstd = slice(int(lengths[:2].sum()), int(lengths[:3].sum()))
    few = symbols[zstd][:100_000]
    device = OtherZstd()
    alone = encode_resident(device, device.put(few), [np.array([len(few)])])
    assert not device.chunks
    both = encode_resident(device, device.put(np.concatenate([few, symbols])), [np.array([len(few)]), lengths])
    assert device.chunks == [65536, 65536, 150_000 - 131_072]
    assert payload_of(both[0]) == payload_of(alone[0]) == encode_segments(few, [len(few)])


def test_resident_symbols_stay_where_they_are() -> None:
    """Of plain rANS data only what zstd is tried on comes to the host, beside the streams."""
    rng = np.random.default_rng(2)
    symbols = rng.geometric(0.05, 4_000_000).clip(1, 255).astype(np.uint8)
    device = OtherZstd()
    [coded] = encode_resident(device, device.put(symbols), [np.array([4_000_000])])
    assert device.fetched < len(payload_of(coded)) * 1.1 + len(symbols) // 32
    assert not device.chunks


def test_resident_payloads_are_fetched_together() -> None:
    """However many there are, small segments that zstd wins among them, the host waits as often as for one."""
    rng = np.random.default_rng(3)
    repeats = np.tile(rng.integers(0, 250, 700, dtype=np.uint8), 40)
    noise = rng.geometric(0.05, 300_000).clip(1, 255).astype(np.uint8)
    symbols, lengths = np.concatenate([repeats, noise, repeats[:9000]]), np.array([len(repeats), len(noise), 9000])
    waits = []
    for count in (1, 5):
        device = OtherZstd()
        found = encode_resident(device, device.put(np.tile(symbols, count)), [lengths] * count, own_zstd=False)
        assert [payload_of(one) for one in found] == [encode_segments(symbols, lengths)] * count
        waits.append(device.gets)
    assert waits[1] == waits[0] < 10


@pytest.mark.parametrize("damage", ["size", "cut", "magic", "inside"])
def test_resident_frame_that_lies_is_refused_before_or_by_the_device(
    damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that names another size, or is none, never reaches the device; one broken inside is refused there."""
    monkeypatch.setattr(zstd_frames, "FEWEST_DEVICE_CHUNKS", 1)
    symbols, lengths = mixed()
    device = OtherZstd()
    payload = bytearray(encode_segments(symbols, lengths, engine="numpy"))
    at = payload.index(zstandard.FRAME_HEADER)
    if damage == "size":
        payload[at + 5] ^= 1
    elif damage == "magic":
        payload[at] ^= 1
    elif damage == "cut":
        del payload[at + 3 : at + 5]
    else:
        payload[at + 9] ^= 0xFF
    with pytest.raises(CorruptError):
        decode_resident(device, [bytes(payload)], [lengths])
    assert bool(device.chunks) == (damage == "inside")


def test_resident_no_symbols_is_an_empty_payload() -> None:
    """Nothing codes to nothing, and nothing else decodes to it."""
    device = HostDevice()
    none = np.zeros(3, np.int64)
    assert [payload_of(one) for one in encode_resident(device, device.empty(0, np.uint8), [none, none])] == [b"", b""]
    assert len(decode_resident(device, [b"", b""], [none, none])) == 0
    with pytest.raises(CorruptError):
        decode_resident(device, [b"", b"x"], [none, none])
