"""What each extra promises, in an environment that has no more, away from the checkout."""

import csv
import json
import random
from pathlib import Path

from environments import Installed
from test_layering import CORE_SCRIPT

FAST = """
[train.training]
epochs = 1
[evaluate.evaluation]
num_resamples = 50
num_negatives = 10
"""
IN_MEMORY = """
import polars as pl
import recmeta
from recmeta.testing.synthetic import SyntheticConfig, generate

log = generate(SyntheticConfig(num_users=60, num_items=20, rows_per_user=(4, 8)), seed=0)
ratings = pl.from_arrow(log.interactions)
data = recmeta.Dataset.from_frame(ratings, items=log.items, users=log.users)
model = recmeta.fit(data, learner="bayesian-linear", seed=0)
print(model.recommend(data.rows("u00"), top_k=3).height)
"""
FRONT_DOOR = """
import recmeta
try:
    recmeta.open_workspace("workspace")
except ImportError as error:
    print(error)
"""


def sentence(extra: str, stderr: str) -> str:
    """Return the one sentence on standard error, which names an extra."""
    (line,) = stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"pip install 'recmeta[{extra}]'.")
    return line


def write_log(folder: Path) -> Path:
    """Write the log of 30 users."""
    draw = random.Random(0)
    path = folder / "events.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "value"])
        for user in range(30):
            for at, item in enumerate(draw.sample(range(20), 8)):
                value = min(5, max(1, 3 + item % 3 - user % 2 + draw.choice((-1, 0, 1))))
                rows.writerow([f"u{user}", f"i{item}", 1_700_000_000 + 1_000 * user + at, value])
    return path


def test_the_core_trains_evaluates_adapts_and_ranks(installed: Installed, tmp_path: Path) -> None:
    done = installed().run("python", "-c", CORE_SCRIPT, "", "recmeta.schema", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_core_fits_a_frame(installed: Installed, tmp_path: Path) -> None:
    done = installed().run("python", "-c", IN_MEMORY, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_core_says_in_one_sentence_what_the_rest_needs(
    installed: Installed, tmp_path: Path
) -> None:
    core = installed()
    for program in (["recmeta"], ["python", "-m", "recmeta.cli", "run"]):
        done = core.run(*program, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        sentence("pipeline", done.stderr)
    done = core.run("python", "-c", FRONT_DOOR, cwd=tmp_path)
    assert done.stdout.endswith("pip install 'recmeta[pipeline]'.\n"), done.stderr


def test_the_pipeline_runs_in_a_project_that_it_laid_out(
    installed: Installed, wheel_of_sdist: Path, tmp_path: Path
) -> None:
    pipeline = installed("pipeline", of=wheel_of_sdist)
    done = pipeline.run("recmeta", "init", "shop", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shop = tmp_path / "shop"
    assert set(json.loads(done.stdout)["files"]) >= {"recmeta.toml", "dags/meta_train.py"}
    text = (shop / "recmeta.toml").read_text()
    (shop / "fast.toml").write_text(FAST)
    command = ("run", "--dataset", write_log(shop), "--time-col", "timestamp")
    options = ("--value-col", "value", "--config", "fast.toml", "--no-rival", "--force", "--json")
    done = pipeline.run("recmeta", *command, *options, cwd=shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["gate"]["promoted"]
    assert (shop / "workspace" / "report.md").exists()
    assert "[train.training]" in text


def test_the_pipeline_says_in_one_sentence_what_the_rest_needs(
    installed: Installed, tmp_path: Path
) -> None:
    pipeline = installed("pipeline")
    (tmp_path / "feature_store").mkdir()
    (tmp_path / "feature_store" / "feature_store.yaml").write_text("")
    (tmp_path / "dags").mkdir()
    for extra, command in {
        "serve": ("recmeta", "serve", "--no-auth"),
        "feast": ("recmeta", "features", "apply"),
        "airflow": ("python", "-m", "recmeta.orchestration.local"),
    }.items():
        done = pipeline.run(*command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        sentence(extra, done.stderr)
    assert not (tmp_path / "workspace").exists()
