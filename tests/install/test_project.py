"""`recmeta init`: what it lays out works, and nothing of anybody's is overwritten."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmeta.cli.app import build
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.project.configuration import commented, field_docstrings
from recmeta.project.layout import lay_out
from recmeta.recipes import PipelineConfig, default
from recmeta.recipes.configuration import pipeline_config

ROOT = Path(__file__).parents[2]


def test_a_project_has_what_the_repository_has(tmp_path: Path) -> None:
    shop = tmp_path / "new" / "shop"
    done = CliRunner().invoke(build(), ["init", str(shop), "--json"])
    assert done.exit_code == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert files == sorted(
        str(path.relative_to(shop)) for path in shop.rglob("*.*") if path.name[0] != "."
    )
    for name in files:
        if "/" in name:
            assert (shop / name).read_bytes() == (ROOT / name).read_bytes()
    assert (shop / ".gitignore").read_text().splitlines()[0] == "workspace/"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"there is dags, README\.md already"):
        lay_out(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "dags"]
    with pytest.raises(UserError, match="is a file"):
        lay_out(tmp_path / "README.md")


def test_a_gitignore_stays(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    lay_out(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_the_configuration_changes_nothing_until_it_is_edited(tmp_path: Path) -> None:
    file = tmp_path / "recmeta.toml"
    file.write_text(commented(), encoding="utf-8")
    assert pipeline_config(path=file) == default()


def test_every_value_is_that_of_the_recipe(tmp_path: Path) -> None:
    text = re.sub("^#(?! |$)", "", commented(), flags=re.MULTILINE)
    file = tmp_path / "recmeta.toml"
    file.write_text(text, encoding="utf-8")
    found = tomllib.loads(text)
    assert {*found} == {field.name for field in dataclasses.fields(PipelineConfig)}
    # What is said of one learner holds for any feedback: naming it in [train] settles [implicit].
    config = pipeline_config(path=file)
    assert dataclasses.replace(config, implicit=default().implicit) == default()

    def lacking(plain: dict[str, object], shown: dict[str, object]) -> list[str]:
        missing = []
        for name, value in plain.items():
            if isinstance(value, dict) and value:
                inner = shown.get(name, {})
                assert isinstance(inner, dict)
                missing += [f"{name}.{below}" for below in lacking(value, inner)]
            elif value is not None and name not in shown:
                missing.append(name)
        return missing

    plain = to_dict(default())
    plain["train"]["model"]["learner"].pop("base")  # which the members say
    for table in ("tasks", "train", "evaluate", "score"):
        assert lacking(plain[table], found[table]) == []


def test_every_key_is_explained() -> None:
    def unexplained(config: object) -> list[str]:
        meanings = field_docstrings(type(config))
        missing = []
        for field in dataclasses.fields(config):  # type: ignore[arg-type]
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                missing += unexplained(value)
            elif not meanings.get(field.name):
                missing.append(f"{type(config).__name__}.{field.name}")
        return missing

    assert unexplained(default()) == []


def test_lines_are_short_and_end_nowhere_in_blanks() -> None:
    for line in commented().splitlines():
        assert len(line) <= 100, line
        assert line == line.rstrip()
