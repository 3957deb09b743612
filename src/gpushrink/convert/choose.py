"""Which syntax is smallest for a series: tried on a few of its files, with the same proof as in earnest."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from gpushrink.convert.image import rewrite
from gpushrink.convert.report import KeepSourceError, SeriesChoice
from gpushrink.convert.syntaxes import Target

__all__ = ["choose_for_series"]

_SAMPLES = 3
"""The first, the middle and the last file: a volume's ends are the emptiest, its middle the fullest."""


def choose_for_series(
    paths: list[Path], candidates: list[Target], *, recompress: bool
) -> tuple[tuple[SeriesChoice, ...], dict[Path, str]]:
    """Choose a target for each series, and give the choice for each file of it.

    A candidate that cannot hold every sample is out of the race. A series that none can hold gets
    the first candidate, and its files the usual refusals.
    """
    series: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if uid := _series_of(path):
            series[uid].append(path)
    choices, chosen = [], {}
    for uid, members in sorted(series.items()):
        sample = [members[i] for i in sorted({0, len(members) // 2, len(members) - 1})][:_SAMPLES]
        sizes, refused = [], []
        for target in candidates:
            try:
                size = sum(len(rewrite(path.read_bytes(), target, recompress=recompress).data) for path in sample)
                sizes.append((target.key, size))
            except KeepSourceError as error:
                refused.append((target.key, error.reason))
        best = min(sizes, key=lambda pair: pair[1])[0] if sizes else candidates[0].key
        choices.append(SeriesChoice(uid, best if sizes else "", len(sample), tuple(sizes), tuple(refused)))
        chosen.update(dict.fromkeys(members, best))
    return tuple(choices), chosen


def _series_of(path: Path) -> str:
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, EOFError):
        return ""
    except Exception:  # hostile bytes may fail anywhere; the conversion itself will say how
        return ""
    return str(ds.get("SeriesInstanceUID", ""))
