"""Trees of files for tests: build them, compare them, make DICOM files and hostile archives."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gpushrink.archive import blocks, index, layout
from gpushrink.archive.layout import BlockType
from gpushrink.model import BlockCodec, Entry, EntryKind, Role, Target

__all__ = ["ArchiveParts", "PipeIn", "dicom_bytes", "differences", "small_study", "stored_archive"]


def differences(left: str | Path, right: str | Path, *, times: bool = True) -> list[str]:
    """List what differs between two trees: paths, kinds, link targets, modes, bytes and modification times."""
    ours, theirs = _walk(os.fsencode(left)), _walk(os.fsencode(right))
    found = [f"only on one side: {path!r}" for path in sorted(ours.keys() ^ theirs.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        for what in ours[path].keys() | theirs[path].keys():
            if what == "time" and not times:
                continue
            if ours[path].get(what) != theirs[path].get(what):
                found.append(f"{path!r}: {what} is {theirs[path].get(what)!r}, not {ours[path].get(what)!r}")
    return found


def _walk(root: bytes) -> dict[bytes, dict[str, object]]:
    tree: dict[bytes, dict[str, object]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            facts: dict[str, object] = {"kind": stat.S_IFMT(status.st_mode), "time": status.st_mtime_ns}
            if stat.S_ISLNK(status.st_mode):
                facts["target"] = os.readlink(path)
            else:
                facts["mode"] = stat.S_IMODE(status.st_mode)
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    facts["bytes"] = (
                        hashlib.file_digest(stream, "sha256").hexdigest()
                        if hasattr(hashlib, "file_digest")
                        else hashlib.sha256(stream.read()).hexdigest()
                    )
            tree[os.path.relpath(path, root)] = facts
    return tree


class PipeIn(io.RawIOBase):
    """Read bytes as a pipe gives them: no seeking, a few at a time."""

    def __init__(self, data: bytes, step: int = 7777) -> None:
        self._data = memoryview(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        """Return at most a step of bytes."""
        count = self._step if size < 0 else min(size, self._step)
        part, self._data = self._data[:count], self._data[count:]
        return bytes(part)

    def seekable(self) -> bool:
        """Say no."""
        return False


def dicom_bytes(
    pixels: np.ndarray,
    *,
    series: str = "2.25.1",
    number: int = 1,
    z: float | None = None,
    frames: int = 0,
    syntax: UID = ExplicitVRLittleEndian,
    big_endian: bool = False,
    preamble: bool = True,
    planar: int = 0,
    extra: bytes = b"",
    tags: Mapping[str, object] | None = None,
) -> bytes:
    """Return a DICOM file that holds `pixels`: [row, column], [row, column, component] or [frame, row, column].

    `tags` are set last, by keyword; None removes one.
    """
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    data.Modality, data.SeriesInstanceUID, data.InstanceNumber = "CT", series, str(number)
    if z is not None:
        data.ImagePositionPatient = ["0", "0", f"{z:.3f}"]
        data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    shape = pixels.shape[1:] if frames else pixels.shape
    components = shape[2] if len(shape) == 3 else 1
    if planar:
        shape = (pixels.shape[-2], pixels.shape[-1])
        components = pixels.shape[-3]
    data.Rows, data.Columns, data.SamplesPerPixel = shape[0], shape[1], components
    data.PhotometricInterpretation = "RGB" if components == 3 else "MONOCHROME2"
    if components > 1:
        data.PlanarConfiguration = planar
    if frames:
        data.NumberOfFrames = frames
    bits = pixels.dtype.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in (tags or {}).items():
        if value is None:
            del data[keyword]
        else:
            setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.ImplementationClassUID = UID("2.25.2")
    out = io.BytesIO()
    if preamble:
        data.save_as(
            out, enforce_file_format=True, little_endian=not big_endian, implicit_vr=syntax == ImplicitVRLittleEndian
        )
    else:
        del data.file_meta
        data.save_as(out, little_endian=True, implicit_vr=True)
    return out.getvalue() + extra


def small_study(folder: Path, *, slices: int = 3, rows: int = 16, seed: int = 1) -> None:
    """Write a tree of every kind of thing: a series, a copy, text, an empty file, a folder, a link."""
    rng = np.random.default_rng(seed)
    (folder / "series").mkdir(parents=True)
    base = np.cumsum(rng.integers(-3, 4, (rows, rows)), axis=1).astype(np.int16)
    for k in range(slices):
        image = (base + rng.integers(0, 3, base.shape)).astype(np.int16)
        (folder / "series" / f"IM{k:04d}").write_bytes(dicom_bytes(image, number=k + 1, z=2.5 * k))
    (folder / "copy.dcm").write_bytes((folder / "series" / "IM0000").read_bytes())
    (folder / "notes.txt").write_text("the quick brown fox " * 20)
    (folder / "random.bin").write_bytes(rng.integers(0, 256, 700, dtype=np.uint8).tobytes())
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    if os.name != "nt":
        (folder / "link").symlink_to("series/IM0001")


class ArchiveParts:
    """Write archives block by block, right or wrong, for tests of readers."""

    def __init__(self) -> None:
        self.data = bytearray(layout.pack_preamble())
        self.records: list[index.BlockRecord] = []

    def block(
        self,
        kind: int,
        payload: bytes,
        *,
        codec: int = 0,
        role: int = 0,
        decoded: int = 0,
        ids: Sequence[int] = (),
    ) -> ArchiveParts:
        """Append a block with good checksums."""
        if kind in BlockType._value2member_map_:
            self.records.append(
                index.BlockRecord(
                    BlockType(kind), codec, role, len(self.data), len(payload), decoded, index.runs_of(ids)
                )
            )
        self.data += layout.pack_block_head(kind, payload, codec=codec, role=role)  # type: ignore[arg-type]
        self.data += payload
        return self

    def tree(self, entries: Sequence[Entry], *, count: int | None = None) -> ArchiveParts:
        """Append INFO and TREE."""
        total = sum(entry.size for entry in entries)
        self.block(BlockType.INFO, blocks.pack_info(len(entries) if count is None else count, total))
        return self.block(BlockType.TREE, blocks.pack_tree(0, entries))

    def stored(self, targets: Sequence[Target], content: bytes) -> ArchiveParts:
        """Append a DATA block of stored bytes."""
        payload = blocks.pack_data(len(content), targets, content)
        ids = sorted({target.file_id for target in targets})
        return self.block(
            BlockType.DATA, payload, codec=BlockCodec.STORED, role=Role.OPAQUE, decoded=len(content), ids=ids
        )

    def hashes(self, contents: dict[int, bytes]) -> ArchiveParts:
        """Append a HASH block of these files' contents."""
        records = [((i,), hashlib.sha256(content).digest()) for i, content in sorted(contents.items())]
        return self.block(BlockType.HASH, blocks.pack_hashes(records), ids=sorted(contents))

    def end(self) -> bytes:
        """Append index and trailer and return the archive."""
        at, payload = len(self.data), index.pack_index(self.records)
        self.data += layout.pack_block_head(BlockType.INDEX, payload) + payload
        self.data += layout.pack_trailer(at, len(self.data) + layout.TRAILER_SIZE)
        return bytes(self.data)


def stored_archive(entries: Iterable[Entry], contents: dict[int, bytes] | None = None) -> bytes:
    """Return an archive of these entries, in this order, with file contents stored one block each."""
    entries, contents = list(entries), contents or {}
    parts = ArchiveParts().tree(entries)
    for i, entry in enumerate(entries):
        if entry.kind is EntryKind.FILE and entry.size:
            parts.stored([Target(0, entry.size, i, 0)], contents[i])
    files = {i: contents.get(i, b"") for i, entry in enumerate(entries) if entry.kind is EntryKind.FILE}
    return (parts.hashes(files) if files else parts).end()
