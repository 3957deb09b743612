"""What is coded how: the pipeline's own choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trees
from gpushrink.model import BlockCodec
from gpushrink.pipeline import api, packing

IMAGE = np.random.default_rng(4).integers(0, 900, (64, 64)).astype(np.uint16)


@pytest.mark.parametrize("level", ["fast", "default", "max"])
def test_headers_of_a_series_are_coded_by_what_they_share(level: str, tmp_path: Path) -> None:
    """The headers of a series of some length go through their own codec, at every level, and come back."""
    (tmp_path / "series").mkdir()
    for k in range(48):
        content = trees.dicom_bytes(IMAGE + k, number=k, z=k * 2.0)
        (tmp_path / "series" / f"{k:03}").write_bytes(content)
    report = api.pack(tmp_path / "series", tmp_path / "archive", level=level, threads=1)
    assert report.verified
    assert report.codecs.get(BlockCodec.HEADERS) == 1
    assert api.unpack(tmp_path / "archive", tmp_path / "out").worst() is None
    assert trees.differences(tmp_path / "series", tmp_path / "out") == []


def test_headers_that_share_nothing_are_coded_as_any_bytes() -> None:
    """What comes out smaller is kept."""
    headers = [bytes(np.random.default_rng(k).integers(97, 101, 3000, dtype=np.uint8)) for k in range(3)]
    codec, coded = packing._encode_headers(headers, b"".join(headers), "default")
    assert codec is BlockCodec.LZMA
    assert len(coded) < 0.4 * 9000
