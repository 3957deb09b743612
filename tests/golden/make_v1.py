#!/usr/bin/env python3
"""Make the archive of format version 1 that every later reader must go on reading.

usage: make_v1.py OUT.gsz

Deterministic input; the archive's own bytes may change with the encoder, and the committed one is never made again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import trees
from gpushrink.pipeline import api

MOMENT_NS = 1_700_000_000_123_456_789


def write_source(folder: Path) -> None:
    """Write files of every kind, the same on every machine: integers of a generator written out here."""
    state, values = 1, []
    for _ in range(6 * 24 * 20):
        state = (state * 1103515245 + 12345) % (1 << 31)
        values.append(state >> 16)
    noise = np.array(values, np.int64).reshape(6, 24, 20)
    ramp = np.arange(24)[:, None] * 9 + np.arange(20)[None] * 4
    (folder / "series").mkdir(parents=True)
    for k in range(4):
        image = (ramp + noise[k] % 6 + 3 * k).astype(np.int16)
        (folder / "series" / f"IM{k}").write_bytes(trees.dicom_bytes(image, number=k, z=2.0 * k))
    # Slices enough for the volume codec, and headers enough for theirs.
    (folder / "volume").mkdir()
    texture = np.resize(noise.ravel()[:2777] % 9 - 4, (72, 64)).cumsum(axis=0).cumsum(axis=1) // 8 + 900
    for k in range(24):
        grain = np.resize(noise.ravel()[37 * k :] % 5, (64, 64))
        image = (texture[k // 3 :][:64] + (grain + np.roll(grain, 1, axis=1)) * (1 + texture[:64] % 3)).astype(np.int16)
        content = trees.dicom_bytes(image, number=k, z=1.5 * k, series="2.25.4")
        (folder / "volume" / f"{k:02}.dcm").write_bytes(content)
    colour = (ramp[..., None] + noise[4][..., None] % 5 * np.array([1, 2, 3])).astype(np.uint8)
    (folder / "colour.dcm").write_bytes(trees.dicom_bytes(colour, series="2.25.3"))
    (folder / "copy").write_bytes((folder / "series" / "IM2").read_bytes())
    (folder / "text.txt").write_text("every byte comes back\n" * 9, newline="\n")
    (folder / "noise").write_bytes(noise[5].astype(np.uint8).tobytes())
    levels = np.repeat(noise[0, :20, 0] % 4 * 300 + 400, 144) + noise.ravel() % 13
    (folder / "levels").write_bytes(np.concatenate([levels, levels[7:]]).astype("<u2").tobytes())
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("series/IM1")
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o640)
        os.utime(path, ns=(MOMENT_NS, MOMENT_NS), follow_symlinks=False)


def main() -> int:
    """Write the source to a temporary folder and pack it."""
    with tempfile.TemporaryDirectory() as temporary:
        write_source(Path(temporary) / "source")
        api.pack(Path(temporary) / "source", sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
