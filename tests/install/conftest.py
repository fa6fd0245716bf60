"""The distributions, built once, and environments with what an extra promises."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from environments import Environment, Installed, install

ROOT = Path(__file__).parents[2]
SOURCES = ("recmeta", "dags", "feature_store")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")


def build(source: Path, kind: str, into: Path) -> Path:
    """Return the distribution of a source tree, built as `python -m build --no-isolation` does."""
    into.mkdir(exist_ok=True)
    script = (
        "import pathlib, sys; from setuptools import build_meta; into, said = sys.argv[1:]; "
        f"pathlib.Path(said).write_text(build_meta.build_{kind}(into))"
    )
    said = into / f"{kind}.txt"
    subprocess.run(
        [sys.executable, "-c", script, str(into), str(said)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return into / said.read_text()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what distributions are built from; a build leaves files in its tree."""
    source = tmp_path_factory.mktemp("source") / "recmeta"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "data", "*.egg-info")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=None if name == "recmeta" else ignored)
    for name in FILES:
        shutil.copyfile(ROOT / name, source / name)
    return source


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel_of_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what is in the source distribution."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel-of-sdist"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return the environment with some extras, made once."""
    made: dict[tuple[str, ...], Environment] = {}

    def environment(*extras: str, of: Path = wheel) -> Environment:
        if extras not in made:
            folder = tmp_path_factory.mktemp("-".join(("environment", *extras)))
            made[extras] = install(of, extras, folder / "venv")
        return made[extras]

    return environment
