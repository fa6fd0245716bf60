"""README and docs/: short where promised, linked, and true to the results, commands and code.

What runs for minutes (the tutorials, README's lines, the site) runs with RECMETA_SLOW=1.
"""

import ast
import email.message
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_code import (
    DOCS,
    FENCE,
    INDENTED,
    PAGES,
    README,
    ROOT,
    TUTORIALS,
    code,
    named,
    run_in,
    slow,
)

import recmeta
from docs import figures, reference

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
CALL = re.compile(r"(?:^\s*(?:[A-Z_]+=\S+ )*|(?:&&|;|/) ?)recmeta ([a-z-]+)(?: ([a-z]+))?(?: |$)")
"""A call of the command at the beginning of a line, behind variables, a path or another command."""
SPREAD = 0.02
"""How far numbers of the demo may be from those that the tutorial shows."""


def prose(page: str) -> str:
    """Return a page without its code."""
    return INDENTED.sub("\n\n", FENCE.sub("", page))


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as MkDocs and GitHub make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading))
        found.add(re.sub(r"\s+", "-", plain.strip().lower()))
    return found


def links(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the targets and anchors of a page's links within the repository."""
    for target, anchor in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target):
            yield target, anchor


# Short, linked, true -----------------------------------------------------------------------------


def test_the_readme_is_short_and_begins_with_its_two_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) < 900
    for command in ("make demo", "make test"):
        assert re.search(rf"^    {command}  ", text, re.MULTILINE)
        assert f"\n{command.split()[1]}: " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in links(path):
        place = (path.parent / target).resolve() if target else path
        within = place.relative_to(DOCS).as_posix() if place.is_relative_to(DOCS) else ""
        if within in reference.PAGES:
            continue
        assert place.exists(), f"{path}: {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place.read_text(encoding="utf-8")), (
                f"{path}: {target}#{anchor}"
            )


def test_every_page_is_linked_to_from_the_readme_on() -> None:
    seen, waiting = set[Path](), [README]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        waiting += [(path.parent / target).resolve() for target, _ in links(path) if target]
    assert {p for p in PAGES if "examples" not in p.parts} <= seen


@pytest.mark.parametrize("path", figures.pages(), ids=named)
def test_tables_are_what_the_saved_results_say(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert figures.filled(page) == page, "run `make figures`"


def test_every_figure_is_in_a_page() -> None:
    shown = {
        name for path in figures.pages() for _, name, _ in figures.BLOCK.findall(path.read_text())
    }
    assert shown == set(figures.FIGURES)


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'version: "{recmeta.__version__}"' in text


# Code in pages -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def options() -> Mapping[str, set[str]]:
    """The options of every command, by its name with its group's."""
    import typer.main

    from recmeta.cli.app import build

    application: Any = typer.main.get_command(build())
    return {
        name.removeprefix("recmeta "): {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        | {"--help", "-h"}
        for name, command in reference.flat(application, "recmeta")
    }


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_commands_and_their_options_exist(path: Path, options: Mapping[str, set[str]]) -> None:
    groups = {name.split()[0] for name in options if " " in name}
    for language, block in code(path):
        if language not in ("", "bash", "sh"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            called = CALL.search(line)
            if called is None or line.lstrip().startswith("#"):
                continue
            name = f"{called[1]} {called[2]}" if called[1] in groups else called[1]
            assert name in options, f"{path}: {line}"
            words = shlex.split(line, comments=True)
            after = words[next(i for i, w in enumerate(words) if w.endswith("recmeta")) :]
            given = {w.partition("=")[0] for w in after if re.match(r"--?[a-z]", w)}
            end = [i for i, w in enumerate(after) if w in ("||", "&&", "|", ";")]
            if end:
                given = {w.partition("=")[0] for w in after[: end[0]] if re.match(r"--?[a-z]", w)}
            assert given <= options[name], f"{path}: {line}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_code_can_be_read(path: Path) -> None:
    for language, block in code(path):
        if language == "python":
            ast.parse(block)
        elif language == "toml":
            tomllib.loads(block)


# The reference -----------------------------------------------------------------------------------


def test_the_reference_has_every_public_name_command_and_key() -> None:
    api = reference.api()
    assert all(f".{name}\n" in api for name in recmeta.__all__ if name != "__version__")
    commands = reference.commands()
    assert "## recmeta ingest" in commands
    assert "## recmeta data fetch" in commands
    keys = reference.configuration()
    assert "| `support_size` | `int` | `20` |" in keys
    assert "### `bayesian-linear`" in keys
    for line in keys.splitlines():
        if line.startswith("| `"):
            assert line.rstrip("| ").count(" | ") == 3, f"a key has no meaning: {line}"


def test_licences_are_read_from_metadata() -> None:
    assert re.search(r"^\| numpy \| \S+ \| .*BSD-3-Clause", reference.dependency_licences(), re.M)
    metadata = email.message.Message()
    assert reference.licence_of(metadata) == "see its licence file"
    metadata["License"] = "The MIT License\nCopyright …"
    assert reference.licence_of(metadata) == "The MIT License"
    metadata["Classifier"] = "License :: OSI Approved :: MIT License"
    metadata["Classifier"] = "Programming Language :: Python"
    assert reference.licence_of(metadata) == "MIT License"
    metadata["License-Expression"] = "MIT"
    assert reference.licence_of(metadata) == "MIT"


# What runs for minutes ---------------------------------------------------------------------------


@slow
@pytest.mark.timeout(3700)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_it_stands(path: Path, tmp_path: Path) -> None:
    blocks = [(kind, text) for kind, text in code(path) if kind in ("bash", "python")]
    assert blocks
    run_in(tmp_path, blocks)
    if path.stem == "ten-minutes":
        report = (tmp_path / "workspace" / "report.md").read_text(encoding="utf-8")
        saved = figures.DEMO.read_text(encoding="utf-8")
        assert_near(figures.sections(report), figures.sections(saved))


def assert_near(found: Mapping[str, list[str]], saved: Mapping[str, list[str]]) -> None:
    """Ask that the tables of two reports have the same rows, and numbers that differ by no more
    than another machine's rounding makes of them."""
    for heading in (h for h in saved if h.startswith(("Lists", "Accuracy", "Adaptation"))):
        rows = {row.split("|")[1].strip(): row for row in found[heading]}
        for row in saved[heading]:
            other = rows[row.split("|")[1].strip()]
            numbers, others = (
                np.array([float(x) for x in re.findall(r"-?\d+\.\d+", r)]) for r in (row, other)
            )
            np.testing.assert_allclose(numbers, others, atol=SPREAD, err_msg=heading)


@slow
@pytest.mark.timeout(3700)
def test_the_readmes_lines_run_on_a_file(tmp_path: Path) -> None:
    from recmeta.logs.fetching.datasets import fetch, mapping_for

    data = recmeta.Dataset.from_mapping(mapping_for("ml-100k", fetch("ml-100k")))
    columns = ["user_id", "item_id", "value", "timestamp"]
    data.interactions.select(columns).write_csv(tmp_path / "events.csv")
    (block,) = [text for kind, text in code(README) if kind == "python"]
    assert len([line for line in block.splitlines() if line]) == 7
    run_in(tmp_path, [("python", block)])


@slow
def test_the_readmes_list_is_what_the_model_gives() -> None:
    assert figures.measure_first_list() == figures.load(figures.FIRST_LIST)


@slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert (tmp_path / "site/reference/api.html").read_text().count("recmeta.api.fit.fit") > 0
