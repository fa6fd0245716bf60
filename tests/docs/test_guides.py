"""Every fenced `bash` and `python` block of the guides and the reference runs, in its page's order.

Indented blocks are only shown: output, diagrams, and what needs a server or a cluster.
The page on the library runs on a small log; the other pages share a workspace with a part of
MovieLens 100K, and run with RECMETA_SLOW=1.
"""

import ast
import dataclasses
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from page_code import DOCS, PAGES, README, ROOT, TUTORIALS, code, named, run_in, slow

import recmeta
from recmeta import pipeline
from recmeta.logs.fetching.datasets import fetch, mapping_for
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.recipes import PipelineConfig
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.training.recipes import training_of
from recmeta.workspace import Workspace

LIBRARY = DOCS / "how-to" / "library.md"
GUIDES = tuple(
    DOCS / name
    for name in (
        "how-to/cold-start-scoring.md",
        "how-to/evidence.md",
        "how-to/notebooks.md",  # shows the questions that the guide before it made
        "how-to/exploration.md",
        "how-to/export.md",
        "how-to/own-logs.md",
        "feature-store.md",
        "scale.md",
        "how-to/backup.md",
        "how-to/forgetting.md",  # takes a user out of what the others read
    )
)
MADE = re.compile(r"^recmeta (?:run|ingest)(?: --dataset)? ml-100k.*$", re.MULTILINE)
"""Commands that the shared workspace stands for."""
NAMED = re.compile(r"# (\w+(?:Error|Warning)): ")


def blocks_of(path: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in code(path) if kind in ("bash", "python")]


def test_every_page_whose_code_is_fenced_is_run() -> None:
    fenced = {named(path) for path in PAGES if blocks_of(path)}
    assert fenced == {named(path) for path in (README, *TUTORIALS, LIBRARY, *GUIDES)}


# The library -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames() -> dict[str, Any]:
    """What the page takes as given: a log with its users and items, and lists that were served."""
    config = SyntheticConfig(num_users=100, num_items=190, rows_per_user=(8, 16))
    log = generate(config, seed=0)
    number = pl.col("item_id").rank("dense").cast(pl.String)
    ratings = pl.from_arrow(log.interactions).with_columns(number).rename({"value": "stars"})
    served = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(40)],
            "item_id": ["1", "2"] * 20,
            "rank": [1] * 40,
            "propensity": [0.5] * 40,
            "reward": [1.0, 0.0, 1.0, 1.0] * 10,
        }
    )
    return {
        "ratings": ratings.with_columns(pl.col("stars").clip(1, 5)),
        "users": pl.from_arrow(log.users),
        "items": pl.from_arrow(log.items).with_columns(number),
        "rows": pl.DataFrame({"user_id": ["me"], "item_id": ["50"], "value": [5.0]}),
        "served_with_rewards": served,
        "others": served.select("user_id", pl.lit("1").alias("item_id"), "rank"),
    }


def perform(block: str, scope: dict[str, Any]) -> None:
    """Run a block. A statement that a comment such as `# UserError: …` follows must raise, or warn
    of, just that."""
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        source = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        comment = []
        for line in lines[statement.end_lineno :]:
            if not line.startswith("# "):
                break
            comment.append(line)
        expected = NAMED.match(comment[0]) if comment else None
        if expected is None:
            exec(source, scope)
            continue
        message = " ".join(line.removeprefix("# ") for line in comment)
        kind = getattr(recmeta, expected[1])
        with warnings.catch_warnings():
            warnings.simplefilter("error", kind if issubclass(kind, Warning) else Warning)
            with pytest.raises(kind) as raised:
                exec(source, scope)
        assert f"{expected[1]}: {raised.value}" == message


def test_the_page_on_the_library_is_true(
    frames: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetched, framed, *others = [text for _, text in blocks_of(LIBRARY)]
    assert "fetch(" in fetched, "it is README's, which runs for itself"
    scope = {"recmeta": recmeta, **frames}
    perform(framed, scope)
    scope["model"] = recmeta.fit(
        scope["data"], learner="bayesian-linear", epochs=1, seed=0, progress=False
    )
    for block in others:
        perform(block, scope)


# Guides on a workspace ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace of half of MovieLens 100K, under both names that pages call it by,
    and the files that pages take as given."""
    folder = tmp_path_factory.mktemp("project")
    mapping = mapping_for("ml-100k", fetch("ml-100k"))
    half = pl.read_csv(mapping.path, has_header=False, separator="\t").filter(
        pl.col("column_1") <= 450
    )
    half.write_csv(folder / "half.tsv", include_header=False, separator="\t")
    brief = PipelineConfig(train=training_of("bayesian-linear"))
    training = TrainingConfig(epochs=2)
    train = dataclasses.replace(brief.train, training=training)
    judged = dataclasses.replace(brief.evaluate, baselines=("item-mean", "popularity"))
    pipeline.run(
        dataclasses.replace(brief, train=train, evaluate=judged),
        dataclasses.replace(mapping, path=str(folder / "half.tsv")),
        Workspace(folder / "workspace"),
        force=True,
    )
    (folder / "ws").symlink_to("workspace")
    shutil.copytree(
        ROOT / "feature_store", folder / "feature_store", ignore=shutil.ignore_patterns("data")
    )
    write_given(folder)
    return folder


def write_given(folder: Path) -> None:
    """Write the files that guides take as given."""
    (folder / "new_users.csv").write_text("user_id,item_id,value\nalice,50,5\nalice,181,4\nbob,,\n")
    log = pl.from_arrow(generate(SyntheticConfig(num_users=80, num_items=40), seed=0).interactions)
    events = log.select(
        uid="user_id",
        sku="item_id",
        ts=pl.col("timestamp").dt.epoch("s"),
        stars=pl.col("value").round().clip(1, 5),
    )
    events.write_csv(folder / "events.csv")
    events.select(uid=pl.col("uid").unique(), city=pl.lit("Bern")).write_csv(folder / "users.csv")
    events.select(sku=pl.col("sku").unique(), brand=pl.lit("A|B")).write_csv(folder / "items.csv")
    log.select(user="user_id", item="item_id", at=pl.col("timestamp").dt.to_string()).write_ndjson(
        folder / "clicks.jsonl"
    )
    served = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(60)],
            "item_id": ["a", "b", "c"] * 20,
            "rank": [1] * 60,
            "propensity": [1 / 3] * 60,
            "reward": [1, 0, 0, 1, 1, 0] * 10,
        }
    )
    served.write_csv(folder / "served.csv")
    served.select("user_id", item_id=pl.lit("a"), rank="rank").write_csv(folder / "others.csv")


@slow
@pytest.mark.timeout(3700)
@pytest.mark.parametrize("path", GUIDES, ids=named)
def test_a_guide_runs_as_it_stands(path: Path, project: Path) -> None:
    blocks = [(kind, MADE.sub("", text)) for kind, text in blocks_of(path)]
    folder = project
    if path.stem == "own-logs":  # whose log is not the workspace's
        folder = project / "own"
        folder.mkdir()
        write_given(folder)
    run_in(folder, blocks)
