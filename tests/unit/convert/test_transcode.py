"""A transcode changes the encoding of an image and nothing else, or leaves the file alone and says so."""

from __future__ import annotations

import functools
import struct
import sys
import time
from pathlib import Path

import breaking
import numpy as np
import pydicom
import pytest
from made_dicom import base_image, save
from made_images import ENCAPSULATED, IMAGES, RNG, run
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from gpushrink.convert import encoders, image, transcode
from gpushrink.convert.encapsulate import check_offsets, encapsulate_frames
from gpushrink.convert.files import put_bytes
from gpushrink.convert.frames import native_frames, read_layout, stray_bits
from gpushrink.convert.report import FileOutcome, KeepSourceError
from gpushrink.convert.structure import check_whole
from gpushrink.convert.syntaxes import TARGETS
from gpushrink.errors import DestinationError, InputError, MissingCodecError, UsageError

for _module in ("imagecodecs", "jpeg_ls", "openjpeg", "rle"):
    pytest.importorskip(_module, reason="the extra 'convert' is not installed")


@pytest.mark.parametrize("name", sorted(IMAGES))
@pytest.mark.parametrize("key", ENCAPSULATED)
def test_every_target_gives_the_pixels_back_or_leaves_the_file(tmp_path: Path, key: str, name: str) -> None:
    """There and back through ``explicit``: every byte of the pixels and every other element is as before."""
    pixels, bits, photometric = IMAGES[name]
    source = save(base_image(pixels, bits_stored=bits, photometric=photometric), tmp_path / "in" / "a.dcm")
    (outcome,) = run(tmp_path, key).files
    if outcome.action != "transcoded":
        assert (tmp_path / key / "a.dcm").read_bytes() == source.read_bytes()
        assert (key, name) in {("jpegxl", "s12"), ("jpegxl", "s16"), ("jpegls", "tiny")}, outcome.reason
        return
    assert outcome.target_syntax == TARGETS[key].uid
    transcode(tmp_path / key, tmp_path / "back", to="explicit", threads=1)
    old, new = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "back" / "a.dcm")
    assert new.PixelData == old.PixelData
    assert new.SOPInstanceUID == old.SOPInstanceUID
    assert {e.tag for e in new} == {e.tag for e in old}
    assert all(new[e.tag].value == e.value for e in old)


def test_planar_colour_is_encoded_by_pixel(tmp_path: Path) -> None:
    """PlanarConfiguration 1 becomes 0, and the colours stay with their pixels."""
    pixels = IMAGES["rgb"][0]
    ds = base_image(pixels, photometric="RGB")
    ds.PlanarConfiguration = 1
    planes = np.moveaxis(pixels, -1, 0).tobytes()
    ds.PixelData = planes + b"\0" * (len(planes) % 2)
    save(ds, tmp_path / "in" / "a.dcm")
    run(tmp_path, "jpegls")
    new = pydicom.dcmread(tmp_path / "jpegls" / "a.dcm")
    assert new.PlanarConfiguration == 0
    assert np.array_equal(new.pixel_array, pixels)


def test_truncated_pixel_data_are_copied_unchanged_and_named(tmp_path: Path) -> None:
    """No zeros are invented for missing samples: the file stays as it is."""
    ds = base_image(IMAGES["u12"][0], bits_stored=12)
    ds.PixelData = ds.PixelData[:-100]
    source = save(ds, tmp_path / "in" / "a.dcm")
    for key in ("jpegls", "rle", "implicit"):
        (outcome,) = run(tmp_path, key).files
        assert (outcome.action, "truncated" in outcome.reason) == ("unproven", True)
        assert (tmp_path / key / "a.dcm").read_bytes() == source.read_bytes()


def test_sixteen_bit_rle_colour_decodes_to_the_same_samples(tmp_path: Path) -> None:
    """RLE keeps the high bytes in a segment of their own; each byte goes back to its sample."""
    pixels = IMAGES["rgb16"][0]
    ds = base_image(pixels, photometric="RGB")
    ds.compress(RLELossless)
    save(ds, tmp_path / "in" / "a.dcm")
    (outcome,) = run(tmp_path, "explicit").files
    assert outcome.action == "transcoded"
    new = pydicom.dcmread(tmp_path / "explicit" / "a.dcm")
    assert new.PixelData[: pixels.nbytes] == pixels.tobytes()
    assert run(tmp_path, "jpegls").files[0].reason == "compressed already"
    again = transcode(tmp_path / "in", tmp_path / "again", to="jpegls", threads=1, recompress=True)
    assert again.files[0].action == "transcoded"
    assert np.array_equal(pydicom.dcmread(tmp_path / "again" / "a.dcm").pixel_array, pixels)


def test_samples_with_bits_above_bits_stored_are_left_alone(tmp_path: Path) -> None:
    """An old overlay in bit 15 would be lost by a 12-bit code stream; RLE, which keeps words, takes it."""
    pixels = IMAGES["u12"][0].copy()
    pixels[4, 4] |= 0x8000
    source = save(base_image(pixels, bits_stored=12), tmp_path / "in" / "a.dcm")
    for key in ("jpegls", "jpeg", "j2k", "htj2k", "jpegxl"):
        (outcome,) = run(tmp_path, key).files
        assert (outcome.action, "bits above" in outcome.reason) == ("unproven", True)
        assert (tmp_path / key / "a.dcm").read_bytes() == source.read_bytes()
    assert run(tmp_path, "rle").files[0].action == "transcoded"
    transcode(tmp_path / "rle", tmp_path / "back", to="explicit", threads=1)
    assert pydicom.dcmread(tmp_path / "back" / "a.dcm").PixelData[: pixels.nbytes] == pixels.tobytes()


def test_sign_extension_is_no_stray_bit() -> None:
    """Negative samples of 12 bits fill the upper four with their sign; other patterns there are stray."""
    layout = read_layout(base_image(IMAGES["s12"][0], bits_stored=12))
    assert not stray_bits(IMAGES["s12"][0], layout)
    assert stray_bits(np.array([[-2049]], "<i2"), layout)
    assert stray_bits(np.array([[2048]], "<i2"), layout)


def test_lossy_images_text_and_empty_files_pass_byte_for_byte(tmp_path: Path) -> None:
    """What is no image, or lossy already, is copied; the report tells it from what could not be proven."""
    folder = tmp_path / "in"
    lossy = base_image(IMAGES["u8"][0])
    lossy.compress(pydicom.uid.JPEGLSLossless)
    lossy.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSNearLossless
    save(lossy, folder / "lossy.dcm")
    report_object = base_image(IMAGES["u8"][0])
    del report_object.PixelData, report_object.Rows
    save(report_object, folder / "sub" / "sr.dcm")
    (folder / "note.txt").write_bytes(b"hello")
    (folder / "empty").write_bytes(b"")
    report = run(tmp_path, "jpegls", recompress=True)
    assert {o.path: o.action for o in report.files} == dict.fromkeys(
        ["empty", "lossy.dcm", "note.txt", "sub/sr.dcm"], "passed"
    )
    for outcome in report.files:
        assert (tmp_path / "jpegls" / outcome.path).read_bytes() == (folder / outcome.path).read_bytes()


@pytest.mark.parametrize("uid", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_implicit_and_big_endian_sources_keep_their_samples(tmp_path: Path, uid: pydicom.uid.UID) -> None:
    """Word-typed values are swapped, pixels and others, and come out equal."""
    pixels = IMAGES["s12"][0]
    big = uid == ExplicitVRBigEndian
    ds = base_image(pixels.astype(">i2") if big else pixels, bits_stored=12)
    ds.PixelData = pixels.astype(">i2").tobytes() + b"" if big else pixels.tobytes()
    ds.file_meta.TransferSyntaxUID = uid
    path = tmp_path / "in" / "a.dcm"
    path.parent.mkdir()
    fresh = pydicom.Dataset({e.tag: e for e in ds})
    fresh.file_meta = ds.file_meta
    fresh.save_as(path, enforce_file_format=True)
    for key in ("explicit", "jpegls", "deflated"):
        assert run(tmp_path, key).files[0].action == "transcoded"
        assert np.array_equal(pydicom.dcmread(tmp_path / key / "a.dcm").pixel_array, pixels)


def test_number_whose_sign_only_its_vr_tells_stays_explicit(tmp_path: Path) -> None:
    """A parametric map has no PixelRepresentation; one in the item or above it would do."""
    for name in ("without", "in", "above"):
        ds = base_image(IMAGES["u8"][0])
        for keyword in ("PixelData", "PixelRepresentation", "Rows"):
            delattr(ds, keyword)
        item = pydicom.Dataset()
        item.add_new("RealWorldValueLastValueMapped", "US", 40000)
        ds.RealWorldValueMappingSequence = [item]
        if name != "without":
            (item if name == "in" else ds).PixelRepresentation = 0
        save(ds, tmp_path / "in" / f"{name}.dcm")
    actions = {o.path: (o.action, o.reason) for o in run(tmp_path, "implicit").files}
    assert actions["without.dcm"][0] == "unproven"
    assert "RealWorldValueLastValueMapped is signed" in actions["without.dcm"][1]
    assert (tmp_path / "implicit" / "without.dcm").read_bytes() == (tmp_path / "in" / "without.dcm").read_bytes()
    assert actions["in.dcm"][0] == actions["above.dcm"][0] == "transcoded"
    assert {o.action for o in run(tmp_path, "deflated").files} == {"transcoded"}


def test_empty_private_value_is_empty_whatever_its_vr(tmp_path: Path) -> None:
    """In implicit VR an unknown private element reads back as UN: no bytes are no bytes."""
    ds = base_image(IMAGES["u8"][0])
    ds.add_new((0x2005, 0x0010), "LO", "Made up")
    ds.add_new((0x2005, 0x1034), "LT", "")
    save(ds, tmp_path / "in" / "a.dcm")
    (outcome,) = run(tmp_path, "implicit").files
    assert outcome.action == "transcoded", outcome.reason


def test_smallest_says_what_it_tried_and_takes_the_least(tmp_path: Path) -> None:
    """A smooth series goes to a predictive coder, and the sizes of the sample are in the report."""
    ramp = (np.add.outer(np.arange(64), np.arange(64)) * 3).astype("<u2")
    for index in range(4):
        ds = base_image(ramp + index, bits_stored=12)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index}"
        save(ds, tmp_path / "in" / f"{index}.dcm")
    report = run(tmp_path, "smallest", allowed=("rle", "jpegls", "deflated"))
    (choice,) = report.choices
    sizes = dict(choice.sizes)
    assert sizes[choice.chosen] == min(sizes.values())
    assert set(sizes) == {"rle", "jpegls", "deflated"}
    assert {o.target_syntax for o in report.files} == {TARGETS[choice.chosen].uid}


def test_two_processes_give_the_same_files_as_one(tmp_path: Path) -> None:
    """The number of workers is no part of the result."""
    for index in range(4):
        save(base_image(IMAGES["u12"][0] // (index + 1), bits_stored=12), tmp_path / "in" / f"{index}.dcm")
    transcode(tmp_path / "in", tmp_path / "one", to="jpegls", threads=1)
    report = transcode(tmp_path / "in", tmp_path / "two", to="jpegls", threads=2)
    assert report.threads == 2
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_file_that_ends_a_worker_is_copied_and_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec library that breaks off takes its process with it, not the run."""
    monkeypatch.setattr(sys.modules["gpushrink.convert.transcode"], "_convert", breaking.convert)
    for name in ("0", "1bad", "2", "3bad", "4"):
        save(base_image(IMAGES["u12"][0], bits_stored=12), tmp_path / "in" / f"{name}.dcm")
    report = transcode(tmp_path / "in", tmp_path / "out", to="rle", threads=2)
    assert [o.action for o in report.files] == ["transcoded", "unproven", "transcoded", "unproven", "transcoded"]
    assert "breaks off" in report.files[1].reason
    assert (tmp_path / "out" / "1bad.dcm").read_bytes() == (tmp_path / "in" / "1bad.dcm").read_bytes()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in (tmp_path / "in").iterdir()}


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupted_transcode_leaves_whole_files_only(tmp_path: Path, threads: int) -> None:
    """No temporary file stays or comes later, and what has its name is complete."""
    images = [np.tile(IMAGES["u12"][0], (1 + 12 * (index % 2),) * 2) for index in range(6)]
    for index, pixels in enumerate(images):  # a small one is done while a large one is at work
        save(base_image(pixels, bits_stored=12), tmp_path / "in" / f"{index}.dcm")

    def stop(done: int, total: int, outcome: FileOutcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcode(tmp_path / "in", tmp_path / "out", to="rle", threads=threads, progress=stop)
    left = {p.name: p for p in (tmp_path / "out").iterdir()}
    assert left.keys() <= {f"{i}.dcm" for i in range(6)}
    assert left
    assert all(np.array_equal(pydicom.dcmread(p).pixel_array, images[int(p.stem)]) for p in left.values())
    time.sleep(1)
    assert {p.name for p in (tmp_path / "out").iterdir()} == left.keys()


def test_digital_signatures_give_a_warning(tmp_path: Path) -> None:
    """A signature over the pixels cannot hold once they are coded otherwise."""
    ds = base_image(IMAGES["u12"][0], bits_stored=12)
    ds.DigitalSignaturesSequence = [pydicom.Dataset()]
    save(ds, tmp_path / "in" / "a.dcm")
    assert "signatures" in run(tmp_path, "jpegls").files[0].warnings[0]


def test_wrong_arguments_start_nothing(tmp_path: Path) -> None:
    """Unknown words, missing sources and overlapping or full destinations are told before any work."""
    save(base_image(IMAGES["u8"][0]), tmp_path / "in" / "a.dcm")
    with pytest.raises(UsageError):
        run(tmp_path, "jpeg-lossy")
    with pytest.raises(InputError):
        transcode(tmp_path / "nowhere", tmp_path / "x", to="rle")
    with pytest.raises(DestinationError, match="overlap"):
        transcode(tmp_path / "in", tmp_path / "in" / "sub", to="rle")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "f").write_bytes(b"1")
    with pytest.raises(DestinationError, match="not empty"):
        transcode(tmp_path / "in", tmp_path / "full", to="rle")
    assert transcode(tmp_path / "in", tmp_path / "full", to="rle", threads=1, force=True).count("transcoded") == 1


def test_place_that_cannot_be_written_is_a_destination_error(tmp_path: Path) -> None:
    """Clearing up after a failed write must not hide it behind an error of its own."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DestinationError):
        put_bytes(tmp_path / "file" / "below.dcm", b"1")


def test_offset_table_points_at_each_frame_and_fragments_are_even() -> None:
    """The basic table counts from the first item after it."""
    laid = encapsulate_frames([b"abc", b"de", b"f"])
    assert struct.unpack_from("<LL3L", laid.pixel_data) == (0xE000FFFE, 12, 0, 12, 22)
    check_offsets(laid.pixel_data, b"", 3)
    assert not laid.extended_offsets


def test_large_offsets_go_to_the_extended_table() -> None:
    """Beyond the 32-bit table the basic one is empty, and the extended lengths leave the pad byte out."""
    laid = encapsulate_frames([b"abc", b"de", b"f"], largest_offset=20)
    assert struct.unpack_from("<LL", laid.pixel_data) == (0xE000FFFE, 0)
    assert struct.unpack("<3Q", laid.extended_offsets) == (0, 12, 22)
    assert struct.unpack("<3Q", laid.extended_lengths) == (3, 2, 1)
    check_offsets(laid.pixel_data, laid.extended_offsets, 3)


def test_wrong_offset_is_found() -> None:
    """A table that is off by one item is no proof."""
    laid = encapsulate_frames([b"abc", b"de"])
    wrong = laid.pixel_data[:12] + struct.pack("<L", 10) + laid.pixel_data[16:]
    with pytest.raises(KeepSourceError):
        check_offsets(wrong, b"", 2)


def test_one_bit_frames_that_share_bytes_are_cut_at_the_bit() -> None:
    """Frames of 15 pixels follow each other within a byte."""
    bits = RNG.integers(0, 2, (3, 3, 5)).astype(np.uint8)
    ds = base_image(bits)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    data = np.packbits(bits, axis=None, bitorder="little").tobytes()
    frames = list(native_frames(data, read_layout(ds)))
    assert np.array_equal(np.stack(frames), bits)


@pytest.mark.parametrize("cut", [1, 50, 400])
def test_file_cut_off_within_an_element_is_copied_as_it_is(tmp_path: Path, cut: int) -> None:
    """A parser that forgives a missing end would mend the file in silence; the file's own lengths decide."""
    source = save(base_image(IMAGES["u12"][0], bits_stored=12), tmp_path / "in" / "a.dcm")
    source.write_bytes(source.read_bytes()[:-cut])
    for key in ("jpegls", "implicit"):
        assert run(tmp_path, key).files[0].action == "unproven"
        assert (tmp_path / key / "a.dcm").read_bytes() == source.read_bytes()


def test_sequence_cut_off_at_the_end_is_truncated() -> None:
    """An undefined-length sequence without its delimiter is named as such, whatever the parser made of it."""
    body = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    head = b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, 0)
    with pytest.raises(KeepSourceError):
        check_whole(head + body, "1.2.840.10008.1.2.1")
    whole = body + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    check_whole(head + whole, "1.2.840.10008.1.2.1")


def test_file_with_an_extended_offset_table_is_read_by_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that takes over beyond 4 GiB is written and proven like the other; here the limit is set to 0."""
    monkeypatch.setattr(image, "encapsulate_frames", functools.partial(encapsulate_frames, largest_offset=0))
    pixels = IMAGES["frames"][0]
    save(base_image(pixels, bits_stored=10), tmp_path / "in" / "a.dcm")
    assert run(tmp_path, "jpegls").files[0].action == "transcoded"
    new = pydicom.dcmread(tmp_path / "jpegls" / "a.dcm")
    assert len(new.ExtendedOffsetTable) == 3 * 8 == len(new.ExtendedOffsetTableLengths)
    assert np.array_equal(new.pixel_array, pixels)
    transcode(tmp_path / "jpegls", tmp_path / "back", to="explicit", threads=1)
    assert "ExtendedOffsetTable" not in pydicom.dcmread(tmp_path / "back" / "a.dcm")


def test_missing_library_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the codec nothing starts, and the message says what to install."""
    monkeypatch.setitem(sys.modules, "jpeg_ls", None)
    with pytest.raises(MissingCodecError, match=r"pip install 'gpushrink\[convert\]'"):
        encoders.encoder_for(TARGETS["jpegls"])
