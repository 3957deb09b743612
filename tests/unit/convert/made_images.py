"""Images of every kind that the tests of transcode share, and a short way to run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpushrink.convert import transcode
from gpushrink.convert.report import TranscodeReport
from gpushrink.convert.syntaxes import TARGETS

ENCAPSULATED = sorted(k for k, t in TARGETS.items() if t.encapsulated)
RNG = np.random.default_rng(11)


def smooth(shape: tuple[int, ...], low: int, high: int, dtype: str) -> np.ndarray:
    """Make noise between two bounds, both of which occur."""
    made = RNG.integers(low, high + 1, shape).astype(dtype)
    made.flat[0], made.flat[-1] = low, high
    return made


IMAGES = {
    "u8": (smooth((37, 41), 0, 255, "u1"), 8, "MONOCHROME2"),
    "u12": (smooth((37, 41), 0, 4095, "<u2"), 12, "MONOCHROME1"),
    "s12": (smooth((37, 41), -2048, 2047, "<i2"), 12, "MONOCHROME2"),
    "u16": (smooth((37, 41), 0, 65535, "<u2"), 16, "MONOCHROME2"),
    "s16": (smooth((37, 41), -32768, 32767, "<i2"), 16, "MONOCHROME2"),
    "frames": (smooth((3, 33, 35), 0, 1023, "<u2"), 10, "MONOCHROME2"),
    "rgb": (smooth((37, 41, 3), 0, 255, "u1"), 8, "RGB"),
    "rgb16": (smooth((37, 41, 3), 0, 65535, "<u2"), 16, "RGB"),
    "ybr": (smooth((37, 41, 3), 0, 255, "u1"), 8, "YBR_FULL"),
    "tiny": (smooth((3, 5), 0, 255, "u1"), 8, "MONOCHROME2"),
}


def run(tmp_path: Path, to: str, **options: object) -> TranscodeReport:
    """Transcode ``in`` to a folder named after the target."""
    return transcode(tmp_path / "in", tmp_path / to, to=to, threads=1, **options)  # type: ignore[arg-type]
