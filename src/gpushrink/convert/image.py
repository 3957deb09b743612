"""One DICOM file in, one DICOM file out, both as bytes: read, encode, write, and prove."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info

from gpushrink.convert.decoders import Decoder, provers_for, working_decoders
from gpushrink.convert.encapsulate import check_offsets, encapsulate_frames
from gpushrink.convert.encoders import Encoder, encoder_for, written_photometric
from gpushrink.convert.endian import to_little_endian
from gpushrink.convert.frames import Frame, PixelLayout, native_bytes, native_frames, read_layout, stray_bits
from gpushrink.convert.implicit import check_implied_vrs
from gpushrink.convert.prove import compare_by_one_of, compare_data_sets
from gpushrink.convert.report import KeepSourceError
from gpushrink.convert.structure import check_whole
from gpushrink.convert.syntaxes import LOSSLESS, NATIVE, Target, refusal

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION",
    "Rewritten",
    "compressed_icon",
    "parse",
    "rewrite",
    "serialize",
]

IMPLEMENTATION_CLASS_UID = "2.25.233468283914287361823745561019283746551"
"""Names gpushrink as the writer of a file. A UUID-derived UID needs no registration (PS3.5 B.2)."""
IMPLEMENTATION_VERSION = "GPUSHRINK_CONV1"

_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_FLOAT_PIXELS = (0x7FE00008, 0x7FE00009)
_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True)
class Rewritten:
    """Hold the new file and how it was proven."""

    data: bytes
    frames: int
    writer: str
    prover: str
    independent: bool
    warnings: tuple[str, ...]


def parse(data: bytes) -> Any:
    """Parse a DICOM file without decoding its values.

    Raises
    ------
    KeepSourceError
        These bytes are no DICOM file, or one whose transfer syntax is not stated.
    """
    try:
        ds = pydicom.dcmread(io.BytesIO(data))
    except (InvalidDicomError, EOFError):
        raise KeepSourceError("not a DICOM file with a preamble", unproven=False) from None
    except Exception as error:  # hostile bytes may fail anywhere in the parser
        raise KeepSourceError(f"the file cannot be parsed: {type(error).__name__}: {error}") from error
    if not getattr(ds.file_meta, "TransferSyntaxUID", None):
        raise KeepSourceError("the transfer syntax is not stated")
    return ds


def rewrite(data: bytes, target: Target, *, recompress: bool = False, encoder: Encoder | None = None) -> Rewritten:
    """Write a file anew in `target` and prove it.

    Parameters
    ----------
    data
        The whole source file.
    recompress
        Also decode losslessly compressed sources to write another compressed syntax.
    encoder
        A writer in place of the usual one, such as a device's.

    Raises
    ------
    KeepSourceError
        The file is to be copied as it is; the reason says why.
    """
    source = parse(data)
    uid = str(source.file_meta.TransferSyntaxUID)
    _admit(source, uid, target, recompress)
    check_whole(data, uid)
    if _PIXEL_DATA not in source:
        return _rewrite_without_frames(data, source, target)
    layout = read_layout(source)
    if not target.encapsulated and uid in NATIVE:
        if len(source.PixelData) < layout.native_size_bytes:
            raise KeepSourceError(
                f"pixel data are truncated: {len(source.PixelData)} of {layout.native_size_bytes} bytes"
            )
        return _rewrite_without_frames(data, source, target)
    if reason := refusal(target, layout):
        raise KeepSourceError(reason, unproven=False)

    out = parse(data)
    if uid in NATIVE:
        to_little_endian(out, uid)
        little = bytes(out.PixelData)
        start: Callable[[], Iterator[Frame]] = partial(native_frames, little, layout)
        readers: tuple[Decoder, ...] = ()
    else:
        readers = working_decoders(source, layout)[:2]
        start = partial(readers[0].frames, source, layout)
    if target.encapsulated:
        chosen = encoder or encoder_for(target)
        _put_encapsulated(out, _encode(start, layout, target, chosen), target, layout)
        writer, implementation = chosen.name, chosen.implementation
        provers, independent = provers_for(target.uid, implementation)
    else:
        _put_native(out, list(_guarded(start)), layout)
        writer, independent = readers[0].name, len(readers) > 1
    written = serialize(out, target)

    after = parse(written)
    after_layout = read_layout(after)
    if target.encapsulated:
        check_offsets(after.PixelData, after.get("ExtendedOffsetTable", b""), layout.frames)
        ways = [(prover.name, partial(prover.frames, after, after_layout)) for prover in provers]
    else:
        ways = [("native", partial(native_frames, after.PixelData, after_layout))]
    others = [(reader.name, partial(reader.frames, source, layout)) for reader in readers[1:]]
    prover = compare_by_one_of(start, ways, *others, frames=layout.frames)
    if not target.encapsulated:
        prover = readers[-1].name
    expected = parse(data)
    to_little_endian(expected, uid)
    compare_data_sets(expected, after)
    return Rewritten(written, layout.frames, writer, prover, independent, _warnings(source))


def _admit(source: Any, uid: str, target: Target, recompress: bool) -> None:
    """Turn away what is not to be converted, before any pixel is touched."""
    sop_class = str(source.get("SOPClassUID", ""))
    if "DirectoryRecordSequence" in source or sop_class == "1.2.840.10008.1.3.10":
        raise KeepSourceError("a DICOMDIR is no image", unproven=False)
    if uid == target.uid:
        raise KeepSourceError("has that transfer syntax already", unproven=False)
    if uid not in NATIVE and uid not in LOSSLESS:
        raise KeepSourceError("lossy or unknown transfer syntax: never decoded to be written anew", unproven=False)
    if uid in LOSSLESS and target.encapsulated and not recompress:
        raise KeepSourceError("compressed already", unproven=False)
    if _PIXEL_DATA not in source:
        if "Rows" in source and not any(tag in source for tag in _FLOAT_PIXELS):
            raise KeepSourceError("rows without pixel data: the file may be truncated")
        if target.encapsulated:
            raise KeepSourceError("no pixel data of integers", unproven=False)
    if uid in LOSSLESS and compressed_icon(source):
        raise KeepSourceError("an icon image in a sequence is compressed too")


def compressed_icon(ds: Any) -> bool:
    """Tell whether a sequence holds compressed pixels, which an uncompressed data set may not have."""
    return any(
        (_PIXEL_DATA in item and item[_PIXEL_DATA].is_undefined_length) or compressed_icon(item)
        for element in ds
        if element.VR == "SQ"
        for item in element.value
    )


def _guarded(start: Callable[[], Iterator[Frame]]) -> Iterator[Frame]:
    try:
        yield from start()
    except KeepSourceError:
        raise
    except Exception as error:  # a decoder may raise anything
        raise KeepSourceError(f"a frame cannot be decoded: {type(error).__name__}: {error}") from error


def _encode(start: Callable[[], Iterator[Frame]], layout: PixelLayout, target: Target, encoder: Encoder) -> list[bytes]:
    keeps_all_bits = target.key in ("rle", "deflated-frame")
    streams = []
    for frame in _guarded(start):
        if not keeps_all_bits and stray_bits(frame, layout):
            raise KeepSourceError(
                f"samples use bits above the {layout.bits_stored} stored; {target.key} would drop them"
            )
        try:
            streams.append(encoder.encode(frame, layout))
        except Exception as error:  # an encoder may raise anything
            raise KeepSourceError(f"{encoder.name} refused: {type(error).__name__}: {error}") from error
    if len(streams) != layout.frames:
        raise KeepSourceError(f"{len(streams)} frames were found instead of {layout.frames}")
    return streams


def _put_encapsulated(out: Any, streams: list[bytes], target: Target, layout: PixelLayout) -> None:
    laid = encapsulate_frames(streams)
    out.PixelData = laid.pixel_data
    out["PixelData"].VR = "OB"
    out["PixelData"].is_undefined_length = True
    for keyword, value in (
        ("ExtendedOffsetTable", laid.extended_offsets),
        ("ExtendedOffsetTableLengths", laid.extended_lengths),
    ):
        if value:
            setattr(out, keyword, value)
        elif keyword in out:
            delattr(out, keyword)
    if layout.samples > 1:
        # RLE stores plane after plane; every other stream here is coded by pixel.
        out.PlanarConfiguration = 1 if target.key == "rle" else 0
        out.PhotometricInterpretation = written_photometric(target, layout)


def _put_native(out: Any, frames: list[Frame], layout: PixelLayout) -> None:
    if len(frames) != layout.frames:
        raise KeepSourceError(f"{len(frames)} frames were found instead of {layout.frames}")
    out.PixelData = native_bytes(frames, layout)
    out["PixelData"].VR = "OW" if layout.bits_allocated > 8 else "OB"
    out["PixelData"].is_undefined_length = False
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in out:
            delattr(out, keyword)
    if layout.samples > 1:
        out.PlanarConfiguration = 0
        if layout.photometric in ("YBR_RCT", "YBR_ICT"):
            out.PhotometricInterpretation = "RGB"


def _rewrite_without_frames(data: bytes, source: Any, target: Target) -> Rewritten:
    """Change only the encoding of the data set: the pixel bytes stay (or are swapped to little endian)."""
    out = parse(data)
    to_little_endian(out, str(source.file_meta.TransferSyntaxUID))
    expected = parse(data)
    to_little_endian(expected, str(source.file_meta.TransferSyntaxUID))
    written = serialize(out, target)
    after = parse(written)
    compare_data_sets(expected, after, ignore=frozenset({0xFFFCFFFC}))
    frames = int(source.get("NumberOfFrames", 1) or 1) if _PIXEL_DATA in source else 0
    return Rewritten(written, frames, "pydicom", "bytes of every element", True, _warnings(source))


def serialize(out: Any, target: Target) -> bytes:
    """Write a data set as a DICOM file in `target`, whose pixel data already are so encoded.

    Raises
    ------
    KeepSourceError
        A value cannot be written, or would not be told from another.
    """
    out.file_meta.TransferSyntaxUID = pydicom.uid.UID(target.uid)
    out.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    out.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    if target.key == "implicit":
        check_implied_vrs(out)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, target.key == "implicit"
    try:
        # Not through Dataset.save_as: it knows neither the newest syntaxes nor a change of byte order.
        buffer.write((out.preamble or b"\0" * 128) + b"DICM")
        write_file_meta_info(buffer, out.file_meta, enforce_standard=True)
        if out.original_encoding[0]:
            _mend_private_vrs(out)
        body = pydicom.Dataset({element.tag: element for element in _unpadded(out)})
        if target.key == "deflated":
            plain = DicomBytesIO()
            plain.is_little_endian, plain.is_implicit_VR = True, False
            write_dataset(plain, body, out.original_character_set)
            packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            packed = packer.compress(plain.getvalue()) + packer.flush()
            buffer.write(packed + b"\0" * (len(packed) & 1))
        else:
            write_dataset(buffer, body, out.original_character_set)
    except Exception as error:  # values outside the standard may fail anywhere in the writer
        raise KeepSourceError(f"the data set cannot be written: {type(error).__name__}: {error}") from error
    return bytes(buffer.getvalue())


_LONGEST_VALUE = {"AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "IS": 12, "LO": 64, "SH": 16, "TM": 16, "UI": 64}


def _mend_private_vrs(ds: Any) -> None:
    """Write a private value as UN where the dictionary's VR for it cannot be right.

    An implicit VR file states no VR, and the private dictionaries in use are compiled from hearsay.
    """
    tags = list(ds.keys())
    for tag in (tag for tag in tags if tag.is_private):
        raw = ds.get_item(tag)
        value = getattr(raw, "value", None)
        if not isinstance(value, bytes):
            continue
        longest = _LONGEST_VALUE.get(str(ds[tag].VR))
        if longest is not None and any(len(part.strip(b" \0")) > longest for part in value.split(b"\\")):
            ds[tag] = pydicom.DataElement(tag, "UN", value)


def _unpadded(ds: Any) -> Iterator[Any]:
    """Yield the elements as they were read, leaving out trailing padding: it pads nothing any more."""
    return (ds.get_item(tag) for tag in sorted(ds.keys()) if int(tag) != 0xFFFCFFFC)


def _warnings(source: Any) -> tuple[str, ...]:
    if "DigitalSignaturesSequence" in source:
        return ("digital signatures over the pixel data no longer hold",)
    return ()
