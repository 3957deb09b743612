"""What is installed is whole: packages, kernels, types, whichever way it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    tomllib = None

ROOT = Path(__file__).resolve().parents[2]


def test_package_list_equals_the_folders() -> None:
    """Every folder with an __init__.py is listed: the list is kept by hand, for the kernels' sake."""
    if tomllib is None:
        pytest.skip("tomllib came with Python 3.11")
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    source = ROOT / "src"
    found = {".".join(path.parent.relative_to(source).parts) for path in source.rglob("__init__.py")}
    assert sorted(listed) == sorted(found | {"gpushrink.kernels"})


def test_kernels_are_found_where_the_package_is() -> None:
    """All sources of the kernels folder are found by name and read."""
    from gpushrink import kernels

    lying = sorted(path.name for path in (ROOT / "kernels").iterdir() if path.suffix in (".cu", ".cuh"))
    assert lying
    assert kernels.kernel_names() == lying
    assert all(kernels.read_kernel(name) for name in lying)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build an sdist from a clean copy, and from it a wheel, without a network."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", minversion="77")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    made = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def test_sdist_holds_what_the_wheel_is_made_of(built: tuple[Path, Path]) -> None:
    """Kernels, package and licence are in the source archive."""
    with tarfile.open(built[0]) as bundle:
        names = {name.partition("/")[2] for name in bundle.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "kernels/common.cuh", "src/gpushrink/py.typed"} <= names


def test_wheel_is_pure_and_works_outside_the_tree(built: tuple[Path, Path], tmp_path: Path) -> None:
    """An installed wheel lists its kernels, packs and unpacks; no file of it is compiled."""
    wheel = built[1]
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as bundle:
        names = bundle.namelist()
        bundle.extractall(tmp_path / "installed")
    assert "gpushrink/kernels/common.cuh" in names
    assert "gpushrink/py.typed" in names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".dll"))]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("hello")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import gpushrink, gpushrink.kernels as k\n"
        "assert gpushrink.__file__.startswith(sys.argv[1]), gpushrink.__file__\n"
        "assert 'common.cuh' in k.kernel_names() and k.read_kernel('common.cuh')\n"
        "gpushrink.pack('source', 'a.gsz'); gpushrink.unpack('a.gsz', 'out')\n"
        "assert open('out/a').read() == 'hello'\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "installed")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
