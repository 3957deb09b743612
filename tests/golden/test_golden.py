"""Archives of every format version since the first go on being read, byte for byte."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

import trees
from gpushrink.pipeline import api

HERE = Path(__file__).resolve().parent


@pytest.mark.skipif(os.name == "nt", reason="the tree has links and modes")
@pytest.mark.parametrize("version", [1])
def test_golden_archive_gives_its_tree_back(version: int, tmp_path: Path) -> None:
    """The committed archive, which no test makes again, restores the tree that its program writes."""
    archive = HERE / f"v{version}.gsz"
    assert archive.is_file(), f"{archive} is missing; restore it from the history, never make it again"
    specification = importlib.util.spec_from_file_location("maker", HERE / f"make_v{version}.py")
    assert specification is not None
    assert specification.loader is not None
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    maker.write_source(tmp_path / "source")
    assert api.verify(archive).worst() is None
    assert api.unpack(archive, tmp_path / "out").worst() is None
    assert trees.differences(tmp_path / "source", tmp_path / "out") == []
