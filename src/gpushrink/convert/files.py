"""Files of a source and their places in a destination: listed in order, written under a temporary name."""

from __future__ import annotations

import glob
import os
import shutil
from contextlib import suppress
from pathlib import Path

from gpushrink.errors import DestinationError, InputError

__all__ = ["list_files", "prepare_destination", "put_bytes", "put_copy", "remove_parts"]


def list_files(source: Path) -> list[tuple[Path, str]]:
    """List regular files with their path relative to `source` (posix), in a fixed order.

    Raises
    ------
    InputError
        The source is missing, or holds something that is neither file nor folder.
    """
    if source.is_file():
        return [(source, source.name)]
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder")
    found = []
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if not path.is_file():
                raise InputError(f"{path}: neither a file nor a folder (or a dangling link); take it out first")
            found.append((path, path.relative_to(source).as_posix()))
    return found


def prepare_destination(source: Path, dest: Path, *, force: bool) -> None:
    """Make the destination folder.

    Raises
    ------
    DestinationError
        It lies within the source or holds it, is a file, or is not empty and `force` is not set.
    """
    real_source, real_dest = source.resolve(), dest.resolve()
    home = real_source if source.is_dir() else real_source.parent
    if real_dest == home or home in real_dest.parents or (source.is_dir() and real_dest in home.parents):
        raise DestinationError(f"{dest}: source and destination overlap; choose a folder apart")
    if dest.exists() and not dest.is_dir():
        raise DestinationError(f"{dest}: is a file; give a folder")
    if dest.is_dir() and any(dest.iterdir()) and not force:
        raise DestinationError(f"{dest}: is not empty; choose another folder or use --force to write over files in it")
    try:
        dest.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(f"{dest}: {error.strerror or error}") from error


def put_bytes(path: Path, data: bytes) -> None:
    """Write a file so that its name appears only once its bytes are on the disk.

    Raises
    ------
    DestinationError
        The disk is full, permission is missing, or what was written does not read back.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if temporary.read_bytes() != data:
            raise DestinationError(f"{path}: the bytes written do not read back")
        temporary.replace(path)
    except OSError as error:
        raise DestinationError(f"{path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # a folder that cannot be written to holds nothing to remove
            temporary.unlink(missing_ok=True)


def put_copy(source: Path, path: Path, data: bytes) -> None:
    """Write the same bytes with the source's times."""
    put_bytes(path, data)
    shutil.copystat(source, path)


def remove_parts(path: Path) -> None:
    """Remove what a process that was ended left of its attempt to write this file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        part.unlink(missing_ok=True)
