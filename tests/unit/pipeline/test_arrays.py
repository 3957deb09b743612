"""Volumes of an archive as arrays: what pydicom gives for the source files, stacked in order, part by part too."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import ExplicitVRBigEndian, RLELossless

import gpushrink
import trees
from gpushrink.archive.layout import BlockType
from gpushrink.archive.reader import read_catalogue
from gpushrink.errors import (
    AmbiguousSeriesError,
    CorruptError,
    InputError,
    MissingCodecError,
    TruncatedError,
    UsageError,
)
from gpushrink.model import BlockCodec, Role

RNG = np.random.default_rng


def smooth(shape: tuple[int, ...], dtype: Any, *, seed: int = 1, top: int = 4000) -> np.ndarray[Any, Any]:
    """Return samples that look a little like an image, over much of the range of the type."""
    kind = np.dtype(dtype)
    steps = RNG(seed).integers(-3, 4, shape).cumsum(axis=-1).cumsum(axis=-2)
    if kind.kind == "f":
        return (steps * 0.37).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return np.clip(steps + (top // 8 if low == 0 else 0), low, high).astype(kind)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(folder: Path, files: dict[str, bytes], *, level: str = "fast") -> Path:
    """Write files, pack them, return the archive."""
    archive = folder / "a.gsz"
    gpushrink.pack(write(folder / "in", files), archive, level=level, device="cpu")
    return archive


def expected(folder: Path, info: gpushrink.VolumeInfo) -> np.ndarray[Any, Any]:
    """Return what pydicom gives for the files of a volume, in the machine's byte order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [pydicom.dcmread(folder / name, force=True).pixel_array for name in info.files]
    whole = parts[0] if info.shape[0] == len(parts[0]) and len(parts) == 1 and parts[0].ndim > 2 else np.stack(parts)
    return whole.astype(whole.dtype.newbyteorder("="))


def series_files(images: np.ndarray[Any, Any], **options: Any) -> dict[str, bytes]:
    """Return a series of single slices, in files whose names run against their order."""
    many = len(images)
    return {
        f"s/{many - k:03d}.dcm": trees.dicom_bytes(image, number=k + 1, z=1.5 * k, **options)
        for k, image in enumerate(images)
    }


FORMATS = {
    "uint8": (smooth((6, 20, 24), np.uint8), {}),
    "int8": (smooth((6, 20, 24), np.int8), {}),
    "uint16": (smooth((6, 20, 24), np.uint16), {}),
    "int16": (smooth((6, 20, 24), np.int16), {}),
    "uint32": (smooth((6, 20, 24), np.uint32), {}),
    "int32": (smooth((6, 20, 24), np.int32), {}),
    "int16 big endian": (smooth((6, 20, 24), np.int16), {"big_endian": True, "syntax": ExplicitVRBigEndian}),
    "uint32 big endian": (smooth((6, 20, 24), np.uint32), {"big_endian": True, "syntax": ExplicitVRBigEndian}),
    "rgb": (smooth((6, 20, 24, 3), np.uint8), {}),
    "rgb planar": (smooth((6, 3, 20, 24), np.uint8), {"planar": 1}),
    "rgb 16 bit planar": (smooth((6, 3, 20, 24), np.uint16), {"planar": 1}),
    "columns longer": (smooth((6, 33, 5), np.int16), {}),
    "without preamble": (smooth((6, 20, 24), np.int16), {"preamble": False}),
}


@pytest.mark.parametrize("level", ["fast", "max"])
@pytest.mark.parametrize("name", FORMATS)
def test_volume_of_every_sample_format_equals_pydicom_s(name: str, level: str, tmp_path: Path) -> None:
    """Whatever the samples are, the array has pydicom's values, in the machine's byte order, slices by position."""
    images, options = FORMATS[name]
    archive = pack(tmp_path, series_files(images, **options), level=level)
    with gpushrink.open(archive) as opened:
        (info,) = opened.series()
        found = opened.volume()
        assert info.files == tuple(f"s/{6 - k:03d}.dcm" for k in range(6))
        assert (info.shape, info.dtype) == (found.shape, found.dtype)
        want = np.moveaxis(images, 1, -1) if options.get("planar") else images
        assert found.dtype == images.dtype
        assert found.dtype.isnative
        assert found.flags.c_contiguous
        assert found.flags.writeable
        np.testing.assert_array_equal(found, want)
        if options.get("preamble", True):  # pydicom wants a transfer syntax
            np.testing.assert_array_equal(found, expected(tmp_path / "in", info))


@pytest.mark.parametrize("level", ["fast", "default"])
@pytest.mark.parametrize("name", ["int16", "rgb", "rgb planar", "uint32 big endian"])
def test_parts_equal_the_same_parts_of_the_whole(name: str, level: str, tmp_path: Path) -> None:
    """Slices, rows and columns are taken by the rules of Python's slices, steps and empty ones among them."""
    images, options = FORMATS[name]
    with gpushrink.open(pack(tmp_path, series_files(images, **options), level=level)) as opened:
        whole = opened.volume()
        for asked in (
            (slice(2, 4), slice(None), slice(None)),
            (slice(-2, None), slice(3, 9), slice(None, 7)),
            (slice(None, None, -2), slice(None, None, 3), slice(20, 2, -5)),
            (slice(4, 4), slice(None), slice(None)),
            (slice(0, 99), slice(5, 5), slice(None)),
        ):
            part = opened.volume(slices=asked[0], rows=asked[1], columns=asked[2])
            np.testing.assert_array_equal(part, whole[asked])
            assert part.shape == whole[asked].shape
            assert part.dtype == whole.dtype


@pytest.mark.parametrize("bad", [3, (1, 2), slice("a", None), slice(0, 4, 0), None])
def test_part_that_is_no_slice_is_a_usage_error(bad: Any, tmp_path: Path) -> None:
    """An int would change the number of axes; it is refused, by name."""
    archive = pack(tmp_path, series_files(FORMATS["int16"][0]))
    with gpushrink.open(archive) as opened, pytest.raises(UsageError, match="rows must be a slice"):
        opened.volume(rows=bad)


def test_part_reads_only_the_blocks_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a multi-frame object in several slabs, damage in one slab is no matter to slices of another."""
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_FRAMES", 4)
    frames = smooth((12, 64, 72), np.int16)
    archive = pack(tmp_path, {"m.dcm": trees.dicom_bytes(frames, frames=12)})
    data = bytearray(archive.read_bytes())
    pixels = [one for one in read_catalogue(io.BytesIO(data)).records if one.role == Role.PIXELS]
    assert len(pixels) == 3
    data[pixels[1].offset + pixels[1].length] ^= 1
    archive.write_bytes(data)
    with gpushrink.open(archive) as opened:
        np.testing.assert_array_equal(opened.volume(slices=slice(0, 4)), frames[:4])
        np.testing.assert_array_equal(opened.volume(slices=slice(8, 12)), frames[8:])
        for asked in (slice(None), slice(3, 5), slice(7, 9)):
            with pytest.raises(CorruptError) as caught:
                opened.volume(slices=asked)
            assert f"byte {pixels[1].offset}" in str(caught.value)
            assert "slices" in str(caught.value)


def test_damaged_targets_of_a_block_are_named(tmp_path: Path) -> None:
    """Damage in what says where a block's bytes belong is found as such, not as missing slices."""
    archive = pack(tmp_path, {"m.dcm": trees.dicom_bytes(smooth((3, 64, 72), np.int16), frames=3)})
    data = bytearray(archive.read_bytes())
    (pixels,) = [one for one in read_catalogue(io.BytesIO(data)).records if one.role == Role.PIXELS]
    data[pixels.offset + 24 : pixels.offset + 40] = bytes(16)
    archive.write_bytes(data)
    with gpushrink.open(archive) as opened, pytest.raises(CorruptError, match=f"byte {pixels.offset}"):
        opened.volume()


def test_damaged_headers_stop_the_listing(tmp_path: Path) -> None:
    """Without its header it cannot be told what volume a slice is of: better no list than a wrong one."""
    archive = pack(tmp_path, series_files(smooth((3, 64, 72), np.int16)))
    data = bytearray(archive.read_bytes())
    records = read_catalogue(io.BytesIO(data)).records
    (head,) = [one for one in records if one.type == BlockType.DATA and one.role == Role.HEADER]
    data[head.offset + head.length] ^= 1
    archive.write_bytes(data)
    with gpushrink.open(archive) as opened, pytest.raises(CorruptError, match=f"byte {head.offset}"):
        opened.series()


def test_archive_cut_off_is_truncated(tmp_path: Path) -> None:
    """An archive without its end is refused on opening."""
    archive = pack(tmp_path, series_files(FORMATS["int16"][0]))
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(TruncatedError):
        gpushrink.open(archive)
    with pytest.raises(InputError):
        gpushrink.open(tmp_path / "missing.gsz")


def test_multi_frame_object_is_a_volume_of_its_own(tmp_path: Path) -> None:
    """Frames come in stored order, beside a series of single slices with the same UID."""
    frames, images = smooth((5, 20, 24), np.uint16, seed=2), smooth((3, 20, 24), np.uint16, seed=3)
    archive = pack(tmp_path, {**series_files(images), "m.dcm": trees.dicom_bytes(frames, frames=5, number=9)})
    with gpushrink.open(archive) as opened:
        assert [one.shape for one in opened.series()] == [(5, 20, 24), (3, 20, 24)]
        np.testing.assert_array_equal(opened.volume(0), frames)
        np.testing.assert_array_equal(opened.volume("2.25.1", which=1), images)
        np.testing.assert_array_equal(opened.volume(-1), images)
        with pytest.raises(UsageError, match="no volume 2"):
            opened.volume(2)
        with pytest.raises(UsageError, match="no volume 2"):
            opened.volume("2.25.1", which=2)


def test_four_dimensional_series_is_a_volume_for_each_time(tmp_path: Path) -> None:
    """Repeated positions make volumes: by echo, by time, by acquisition, else by InstanceNumber."""
    images = smooth((12, 20, 24), np.int16)
    for keyword in ("EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber", None):
        files = {}
        for k, image in enumerate(images):
            tags = {keyword: str(k // 4 + 1)} if keyword else {}
            number = k + 1 if keyword is None else 12 - k
            files[f"{k:02d}"] = trees.dicom_bytes(image, number=number, z=float(k % 4), tags=tags)
        archive = pack(tmp_path / str(keyword), files)
        with gpushrink.open(archive) as opened:
            assert [one.shape for one in opened.series()] == [(4, 20, 24)] * 3
            for time in range(3):
                np.testing.assert_array_equal(opened.volume("2.25.1", which=time), images[4 * time : 4 * time + 4])


def test_acquisition_number_that_runs_with_position_does_not_split(tmp_path: Path) -> None:
    """Numbers that differ where positions do are no reason for a second volume."""
    images = smooth((5, 20, 24), np.int16)
    files = {
        f"{k}": trees.dicom_bytes(image, number=k, z=float(k), tags={"AcquisitionNumber": str(k)})
        for k, image in enumerate(images)
    }
    with gpushrink.open(pack(tmp_path, files)) as opened:
        np.testing.assert_array_equal(opened.volume(), images)


def test_ambiguous_name_lists_the_choices(tmp_path: Path) -> None:
    """The error holds the volumes, each of which may be given in the name's place."""
    images = smooth((6, 20, 24), np.int16)
    files = {
        **series_files(images[:2], series="2.25.77", tags={"ImageType": ["ORIGINAL", "M"]}),
        "p": trees.dicom_bytes(images[2], series="2.25.77", number=8, z=0.0, tags={"ImageType": ["ORIGINAL", "P"]}),
        "q": trees.dicom_bytes(images[3], series="2.25.78", number=9, z=0.0),
    }
    with gpushrink.open(pack(tmp_path, files)) as opened:
        with pytest.raises(AmbiguousSeriesError) as caught:
            opened.volume("2.25.77")
        assert [one.image_type for one in caught.value.choices] == ["ORIGINAL/P", "ORIGINAL/M"]
        assert "which=0" in str(caught.value)
        np.testing.assert_array_equal(opened.volume(caught.value.choices[0]), images[2:3])
        with pytest.raises(AmbiguousSeriesError, match="3 volumes"):
            opened.volume("2.25.7")
        with pytest.raises(AmbiguousSeriesError, match="3 volumes"):
            opened.volume("2.25.7", which=0)
        with pytest.raises(AmbiguousSeriesError, match="3 volumes"):
            opened.volume()
        np.testing.assert_array_equal(opened.volume("2.25.78"), images[3:4])
        with pytest.raises(UsageError, match=r"2\.25\.77"):
            opened.volume("1.2")


def test_beginning_of_a_uid_will_do(tmp_path: Path) -> None:
    """A whole UID wins over one that it begins."""
    images = smooth((2, 20, 24), np.int16)
    files = {"a": trees.dicom_bytes(images[0], series="2.25.5"), "b": trees.dicom_bytes(images[1], series="2.25.51")}
    with gpushrink.open(pack(tmp_path, files)) as opened:
        np.testing.assert_array_equal(opened.volume("2.25.5"), images[:1])
        np.testing.assert_array_equal(opened.volume("2.25.51"), images[1:])


def test_copies_of_files_and_frames_come_where_they_belong(tmp_path: Path) -> None:
    """A copied file counts once, under its first name; equal slices at other places are slices all the same."""
    images = smooth((6, 64, 72), np.int16)
    images[4] = images[1]
    files = series_files(images)
    files["zcopy/1.dcm"] = files["s/003.dcm"]
    archive = pack(tmp_path, files)
    with gpushrink.open(archive) as opened:
        (info,) = opened.series()
        assert all(name.startswith("s/") for name in info.files)
        np.testing.assert_array_equal(opened.volume(), images)
        np.testing.assert_array_equal(opened.volume(verify=True), images)
        np.testing.assert_array_equal(opened.volume(slices=slice(4, 5)), images[4:5])


@pytest.mark.parametrize("level", ["fast", "default"])
def test_small_volumes_that_are_coded_as_bytes_come_too(level: str, tmp_path: Path) -> None:
    """Tiny volumes, whole trees in one block, and text between them."""
    images = smooth((4, 9, 11), np.uint16)
    files = series_files(images)
    files["notes.txt"] = b"no image at all\n" * 30
    archive = pack(tmp_path, files, level=level)
    with archive.open("rb") as stream:
        codecs = {one.codec for one in read_catalogue(stream).records if one.role in (Role.PIXELS, Role.OPAQUE)}
    assert not codecs & {BlockCodec.PLANES, BlockCodec.VOLUME}
    with gpushrink.open(archive) as opened:
        np.testing.assert_array_equal(opened.volume(verify=True), images)
        np.testing.assert_array_equal(opened.volume(rows=slice(2, 5)), images[:, 2:5])


def test_frames_split_between_blocks_come_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixel data coded as bytes is cut without regard to frames."""
    monkeypatch.setattr("gpushrink.pipeline.plan.TINY_VOLUME", 1 << 30)
    monkeypatch.setattr("gpushrink.pipeline.plan.SOLID_BYTES", 0)
    monkeypatch.setattr("gpushrink.pipeline.plan.BLOCK_BYTES", 1000)
    images = smooth((4, 30, 31), np.int16)
    with gpushrink.open(pack(tmp_path, series_files(images))) as opened:
        np.testing.assert_array_equal(opened.volume(), images)
        np.testing.assert_array_equal(opened.volume(slices=slice(1, 3), verify=True), images[1:3])


def test_bits_outside_the_sample_are_dropped(tmp_path: Path) -> None:
    """Twelve bits in sixteen: what lies above is no part of the sample, as pydicom has it."""
    for signed in (False, True):
        images = RNG(4).integers(0, 1 << 16, (3, 20, 24)).astype(np.uint16)
        tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
        archive = pack(tmp_path / str(signed), series_files(images, tags=tags))
        with gpushrink.open(archive) as opened:
            (info,) = opened.series()
            found = opened.volume(verify=True)
            np.testing.assert_array_equal(found, expected(tmp_path / str(signed) / "in", info))
            assert found.dtype == (np.int16 if signed else np.uint16)
            assert info.bits_stored == 12
            assert (found.max() <= 2047 and found.min() < 0) if signed else (2047 < found.max() <= 4095)


def test_compressed_pixel_data_is_decoded_by_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLE frames, which pydicom itself decodes, come as samples; what cannot be decoded is an error that says so."""
    images = smooth((3, 20, 24), np.int16)
    files = {}
    for name, content in series_files(images).items():
        data = pydicom.dcmread(io.BytesIO(content))
        data.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        out = io.BytesIO()
        data.save_as(out, enforce_file_format=True)
        files[name] = out.getvalue()
    with gpushrink.open(pack(tmp_path, files)) as opened:
        (info,) = opened.series()
        assert info.encoding == RLELossless
        np.testing.assert_array_equal(opened.volume(), images)
        np.testing.assert_array_equal(opened.volume(slices=slice(1, 2), columns=slice(3, 8)), images[1:2, :, 3:8])
        with monkeypatch.context() as patch:
            patch.setattr(Decoder, "is_available", False)
            with pytest.raises(MissingCodecError, match="pip install"):
                opened.volume()
    bad = {
        name: content.replace(b"1.2.840.10008.1.2.5\x00", b"1.2.840.10008.1.2.9\x00") for name, content in files.items()
    }
    with gpushrink.open(pack(tmp_path / "bad", bad)) as opened, pytest.raises(InputError, match=r"s/003\.dcm"):
        opened.volume()


def test_single_bits_come_as_bytes(tmp_path: Path) -> None:
    """Segmentations of one bit a sample give zeros and ones, frames that share bytes among them."""
    bits = (RNG(3).random((5, 30, 31)) < 0.4).astype(np.uint8)
    base = trees.dicom_bytes(bits, frames=5, tags={"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0})
    data = pydicom.dcmread(io.BytesIO(base))
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    with gpushrink.open(pack(tmp_path, {"seg.dcm": out.getvalue()})) as opened:
        np.testing.assert_array_equal(opened.volume(), bits)
        np.testing.assert_array_equal(opened.volume(slices=slice(3, 4)), bits[3:4])


@pytest.mark.parametrize(("name", "bits"), [("FloatPixelData", 32), ("DoubleFloatPixelData", 64)])
def test_float_samples_come_as_floats(name: str, bits: int, tmp_path: Path) -> None:
    """Floats keep every bit, NaN among them."""
    images = smooth((3, 20, 24), f"f{bits // 8}")
    images[1, 2, 3] = np.nan
    data = pydicom.dcmread(io.BytesIO(trees.dicom_bytes(np.zeros((20, 24), np.uint16), tags={"NumberOfFrames": 3})))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.BitsAllocated = bits
    if bits == 32:
        del data.BitsAllocated  # wrong, but no reason to fail
    setattr(data, name, images.tobytes())
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    with gpushrink.open(pack(tmp_path, {"f.dcm": out.getvalue()})) as opened:
        found = opened.volume(verify=True)
        assert found.dtype == images.dtype
        assert found.tobytes() == images.tobytes()


def test_pixel_data_that_is_cut_off_is_an_input_error(tmp_path: Path) -> None:
    """The archive is whole, the file in it is not: the error names the file, and what is there still comes."""
    frames = smooth((4, 20, 24), np.uint16)
    content = trees.dicom_bytes(frames, frames=4)
    with gpushrink.open(pack(tmp_path, {"cut.dcm": content[: -2 * 960 + 100]})) as opened:
        with pytest.raises(InputError, match=r"cut\.dcm.*2 of"):
            opened.volume()
        np.testing.assert_array_equal(opened.volume(slices=slice(0, 2)), frames[:2])


def test_verify_finds_a_file_whose_hash_does_not_hold(tmp_path: Path) -> None:
    """Blocks may be whole and the file wrong all the same: only the file's own hash tells."""
    images = smooth((2, 20, 24), np.int16)
    files = {i: trees.dicom_bytes(image, number=i, z=float(i)) for i, image in enumerate(images)}
    entries = [trees.Entry(trees.EntryKind.FILE, b"%d" % i, 0o644, 0, len(content)) for i, content in files.items()]
    archive = tmp_path / "a.gsz"
    archive.write_bytes(trees.stored_archive(entries, files))
    changed = {0: files[0], 1: files[1][:-1] + bytes([files[1][-1] ^ 1])}
    parts = trees.ArchiveParts().tree(entries)
    for i, content in changed.items():
        parts.stored([trees.Target(0, len(content), i, 0)], content)
    (tmp_path / "b.gsz").write_bytes(parts.hashes(files).end())
    with gpushrink.open(archive) as opened:
        np.testing.assert_array_equal(opened.volume(verify=True), images)
    with gpushrink.open(tmp_path / "b.gsz") as opened:
        assert (opened.volume() != images).sum() == 1
        np.testing.assert_array_equal(opened.volume(slices=slice(0, 1), verify=True), images[:1])
        with pytest.raises(CorruptError, match="'1' cannot be proven"):
            opened.volume(verify=True)


def test_hostile_blocks_are_refused(tmp_path: Path) -> None:
    """Bytes that come twice, or never, are corrupt, and no memory without a value is given out."""
    content = trees.dicom_bytes(smooth((20, 24), np.int16), z=0.0)
    entry = trees.Entry(trees.EntryKind.FILE, b"a", 0o644, 0, len(content))
    half = len(content) - 500
    whole = trees.Target(0, len(content), 0, 0)
    for name, targets, message in (
        ("twice", [whole, whole], "twice"),
        ("overlap", [trees.Target(0, half, 0, 0), trees.Target(half - 9, 509, 0, half - 9)], "twice"),
        ("gap", [trees.Target(0, half, 0, 0)], "no bytes for slice 0"),
    ):
        parts = trees.ArchiveParts().tree([entry])
        archive = tmp_path / name
        archive.write_bytes(parts.stored(targets, content).hashes({0: content}).end())
        with gpushrink.open(archive) as opened, pytest.raises(CorruptError, match=message):
            opened.volume()


def test_files_come_whole_by_name(tmp_path: Path) -> None:
    """`read` gives a file's bytes, proven; a name that is not there is a usage error."""
    files = {**series_files(smooth((3, 64, 72), np.int16)), "notes.txt": b"text"}
    with gpushrink.open(pack(tmp_path, files)) as opened:
        for name, content in files.items():
            assert opened.read(name) == content
        with pytest.raises(UsageError, match="nothing"):
            opened.read("nothing")
        with pytest.raises(UsageError):
            opened.read("s")


def test_geometry_and_rescale_are_told(tmp_path: Path) -> None:
    """Origin, spacing and direction are in the order of the array's axes, LPS; rescale is told, not applied."""
    files = {}
    for k in range(4):
        tags = {
            "ImageOrientationPatient": ["0", "1", "0", "0", "0", "-1"],
            "ImagePositionPatient": [f"{10 - 2.5 * k:.2f}", "-20", "30"],
            "PixelSpacing": ["0.5", "0.75"],
            "RescaleSlope": f"{k + 1}",
            "RescaleIntercept": "-1024",
            "RescaleType": "HU",
            "SeriesDescription": "sagittal",
            "BitsStored": 12,
            "HighBit": 11,
        }
        files[f"{k}"] = trees.dicom_bytes(np.full((6, 8), k, np.int16), number=k, tags=tags)
    with gpushrink.open(pack(tmp_path, files)) as opened:
        (info,) = opened.series()
        geometry, rescale = info.geometry, info.rescale
        assert geometry is not None
        assert rescale is not None
        # The normal, y x -z, is -x: positions fall along x, so files come in the order of their numbers.
        assert info.files == ("0", "1", "2", "3")
        assert geometry.origin == (10, -20, 30)
        assert geometry.spacing == (2.5, 0.5, 0.75)
        assert geometry.direction == ((-1, 0, 0), (0, 0, -1), (0, 1, 0))
        np.testing.assert_allclose(geometry.affine @ [3, 2, 4, 1], [10 - 7.5, -20 + 3, 30 - 1, 1])
        assert rescale.slopes == (1, 2, 3, 4)
        assert rescale.uniform is None
        assert rescale.unit == "HU"
        assert info.positions == tuple((10 - 2.5 * k, -20.0, 30.0) for k in range(4))
        assert (info.description, info.modality) == ("sagittal", "CT")
        np.testing.assert_array_equal(opened.volume()[:, 0, 0], [0, 1, 2, 3])


def test_uneven_slices_have_no_grid(tmp_path: Path) -> None:
    """A missing slice leaves positions, but no affine that would be wrong."""
    images = smooth((4, 20, 24), np.int16)
    files = {
        f"{k}": trees.dicom_bytes(image, number=k, z=(0.0, 1.0, 2.0, 4.0)[k], tags={"PixelSpacing": ["1", "1"]})
        for k, image in enumerate(images)
    }
    with gpushrink.open(pack(tmp_path, files)) as opened:
        (info,) = opened.series()
        assert info.geometry is None
        assert info.positions is not None
        assert [position[2] for position in info.positions] == [0, 1, 2, 4]


def test_decoded_blocks_are_kept_for_the_next_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes through a volume slice by slice decodes each slab once; without the cache, each time."""
    images = smooth((6, 64, 72), np.int16)
    archive = pack(tmp_path, series_files(images))
    from gpushrink.pipeline import fetching

    counts = []
    decode = fetching.decode_samples
    monkeypatch.setattr(fetching, "decode_samples", lambda slab, **how: counts.append(1) or decode(slab, **how))
    for cache_bytes, most in ((1 << 20, 1), (0, 6)):
        counts.clear()
        with gpushrink.open(archive, cache_bytes=cache_bytes) as opened:
            for k in range(6):
                np.testing.assert_array_equal(opened.volume(slices=slice(k, k + 1)), images[k : k + 1])
        assert len(counts) == most


def test_an_array_is_the_caller_s_own(tmp_path: Path) -> None:
    """Writing into one array shows in no other, whatever is kept between calls."""
    images = smooth((3, 64, 72), np.int16)
    with gpushrink.open(pack(tmp_path, series_files(images))) as opened:
        opened.volume()[:] = 0
        np.testing.assert_array_equal(opened.volume(), images)
        array = np.from_dlpack(opened.volume())  # what torch.from_dlpack takes
        np.testing.assert_array_equal(array, images)


def test_volume_of_another_archive_is_refused(tmp_path: Path) -> None:
    """What one archive lists is not taken for a volume of another, though its index would fit."""
    one = pack(tmp_path / "1", series_files(smooth((3, 20, 24), np.int16)))
    other = pack(tmp_path / "2", series_files(smooth((4, 20, 24), np.int16)))
    with gpushrink.open(one) as first:
        info = first.series()[0]
    with gpushrink.open(other) as second, pytest.raises(UsageError, match="another archive"):
        second.volume(info)


def test_closed_archive_says_so(tmp_path: Path) -> None:
    """After the with statement nothing can be read, and the error says why."""
    with gpushrink.open(pack(tmp_path, series_files(FORMATS["int16"][0]))) as opened:
        info = opened.series()[0]
    with pytest.raises(UsageError, match="closed"):
        opened.volume(info)


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    """Calls from several threads do not disturb each other."""
    from concurrent.futures import ThreadPoolExecutor

    images = smooth((8, 64, 72), np.int16)
    archive = pack(tmp_path, series_files(images))
    with gpushrink.open(archive, threads=2, cache_bytes=0) as opened, ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda k: opened.volume(slices=slice(k, k + 1)), range(8)))
    np.testing.assert_array_equal(np.concatenate(parts), images)
