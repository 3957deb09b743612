"""The peers: image codecs slice by slice (imagecodecs), archivers, and gdcmconv, each proven lossless where it can be.

Nothing here is needed by gpushrink itself.
"""

from __future__ import annotations

import io
import lzma
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

__all__ = ["IMAGE_CODECS", "ImageCodec", "archivers", "find_tool", "gdcmconv_bytes", "tar_bytes", "versions"]

Image = NDArray[Any]


@dataclass(frozen=True)
class ImageCodec:
    """Hold a lossless codec for one slice.

    Parameters
    ----------
    key
        Short name in the results.
    slow
        Measured on a few slices of each series only.
    """

    key: str
    label: str
    encode: Callable[[Image], bytes]
    decode: Callable[[bytes], Image]
    slow: bool = False


def _image_codecs() -> dict[str, ImageCodec]:
    try:
        import imagecodecs as ic
    except ImportError:
        return {}

    def jpeg2k(image: Image) -> bytes:
        # The bare code stream with the depth in use: every byte of a file format would count against it.
        bits = max(2, int(image.max()).bit_length())
        return bytes(ic.jpeg2k_encode(image, level=0, reversible=True, codecformat="j2k", bitspersample=bits))

    def jpegxl(effort: int) -> Callable[[Image], bytes]:
        return lambda image: bytes(ic.jpegxl_encode(image, lossless=True, effort=effort, numthreads=1))

    table = [
        ImageCodec("jpegls", "JPEG-LS (CharLS)", lambda image: bytes(ic.jpegls_encode(image)), ic.jpegls_decode),
        ImageCodec("j2k", "JPEG 2000 (OpenJPEG)", jpeg2k, ic.jpeg2k_decode),
        ImageCodec("htj2k", "HTJ2K (OpenJPH)", lambda im: bytes(ic.htj2k_encode(im, reversible=True)), ic.htj2k_decode),
        ImageCodec("jxl3", "JPEG XL e3", jpegxl(3), ic.jpegxl_decode),
        ImageCodec("jxl7", "JPEG XL e7", jpegxl(7), ic.jpegxl_decode),
        ImageCodec("jxl9", "JPEG XL e9", jpegxl(9), ic.jpegxl_decode, slow=True),
    ]
    return {codec.key: codec for codec in table}


IMAGE_CODECS = _image_codecs()


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    out = {"numpy": np.__version__, "zstandard": zstandard.__version__, "zstd": ".".join(map(str, _zstd_version()))}
    try:
        import imagecodecs as ic
    except ImportError:
        return out
    out["imagecodecs"] = ic.__version__
    out |= {name: getattr(ic, f"{name}_version")() for name in ("jpegls", "jpeg2k", "htj2k", "jpegxl")}
    return out


def _zstd_version() -> tuple[int, ...]:
    return tuple(zstandard.ZSTD_VERSION)


def find_tool(*names: str) -> str | None:
    """Return the first of some programs that is installed."""
    return next((path for name in names if (path := shutil.which(name))), None)


def tar_bytes(files: Sequence[Path], root: Path) -> bytes:
    """Return a tar archive of files, in order, without owners and times."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in files:
            info = tarfile.TarInfo(path.relative_to(root).as_posix())
            content = path.read_bytes()
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def archivers(threads: int) -> dict[str, Callable[[Sequence[Path], Path, bytes], int]]:
    """Return functions from (files, root, their tar) to archive size, by name.

    zip and xz use one thread, as these tools do by default; zstd uses `threads`.
    """
    table: dict[str, Callable[[Sequence[Path], Path, bytes], int]] = {
        "zip": _zip,
        "tar.xz -6": lambda files, root, tar: len(lzma.compress(tar, preset=6)),
        "tar.zst -19 --long": lambda files, root, tar: len(_zstd_long(tar, threads)),
    }
    if seven := find_tool("7zz", "7z", "7za"):
        table["7z PPMd"] = lambda files, root, tar: _ppmd(seven, tar)
    return table


def _zip(files: Sequence[Path], root: Path, tar: bytes) -> int:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.writestr(path.relative_to(root).as_posix(), path.read_bytes())
    return len(stream.getvalue())


def _zstd_long(tar: bytes, threads: int) -> bytes:
    settings = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=27, enable_ldm=True, threads=threads if threads > 1 else 0
    )
    return zstandard.ZstdCompressor(compression_params=settings).compress(tar)


def _ppmd(program: str, tar: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.tar").write_bytes(tar)
        target = Path(folder) / "all.7z"
        command = [program, "a", "-t7z", "-m0=PPMd:o=6:mem=256m", "-bso0", "-bsp0", str(target), "all.tar"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return target.stat().st_size


def gdcmconv_bytes(files: Sequence[Path], option: str, threads: int) -> tuple[int, int] | None:
    """Return the size of all files after `gdcmconv OPTION`, and how many it could not convert.

    A file that it cannot convert counts as it is. None where gdcmconv is not installed.
    """
    program = find_tool("gdcmconv")
    if program is None:
        return None

    def convert(job: tuple[int, Path]) -> tuple[int, bool]:
        number, path = job
        target = Path(folder) / f"{number}.dcm"
        done = subprocess.run([program, option, str(path), str(target)], check=False, capture_output=True)
        if done.returncode or not target.exists() or not target.stat().st_size:
            return path.stat().st_size, False
        size = target.stat().st_size
        target.unlink()
        return size, True

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(convert, enumerate(files)))
    return sum(size for size, _ in results), sum(not converted for _, converted in results)
