"""Every learner through the command line, on a user's own log: only ids, ratings and times."""

import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_calls import COLUMNS, LOG_OPTIONS, Call, Called, call

from recmeta.metalearn.registry import LEARNERS, config_class
from recmeta.registry.models import versions
from recmeta.tasks.task_set import Objective
from recmeta.workspace import Workspace

slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
TIMES = ["--time-col", "ts", "--time-unit", "s"]
ONE_EPOCH = ["--epochs", "1", "--device", "cpu", "--json"]
Give = Callable[[np.random.Generator], object]


def write_log(path: Path, give: Give | None, *, num_users: int = 20, num_items: int = 14) -> Path:
    """Write a CSV of ids and times, with ratings where `give` gives some."""
    random = np.random.default_rng(0)
    rows = ["uid,sku,ts" + (",stars" if give else "")]
    for user in range(num_users):
        met = random.permutation(num_items)[: random.integers(6, 11)]
        for place, item in enumerate(met):
            value = f",{give(random)}" if give else ""
            rows.append(f"u{user},i{item},{1_700_000_000 + 1_000 * user + 50 * place}{value}")
    path.write_text("\n".join(rows) + "\n")
    return path


def stars(random: np.random.Generator) -> int:
    return int(random.integers(1, 6))


def tasks_of(log: Path, *options: str) -> Path:
    """Return a workspace with the log's tasks, built by the command line."""
    workspace = log.with_suffix("")
    for arguments in (["ingest", log, *options], ["build-tasks"]):
        called = call(*arguments, "--workspace", workspace)
        assert called.code == 0, called.stderr
    return workspace


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the tasks of a log of ratings."""
    log = write_log(tmp_path_factory.mktemp("rated") / "log.csv", stars)
    return tasks_of(log, *LOG_OPTIONS)


@pytest.fixture(scope="module")
def clicked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the tasks of a log of clicks."""
    log = write_log(tmp_path_factory.mktemp("clicked") / "log.csv", None)
    return tasks_of(log, *COLUMNS, *TIMES)


def trained(workspace: Path, learner: str) -> Called:
    called = call("meta-train", "--learner", learner, *ONE_EPOCH, "--workspace", workspace)
    assert called.code == 0, called.stderr
    assert called.json["epochs"] == 1
    assert math.isfinite(called.json["dev_loss"])
    return called


def train_and_score(workspace: Path, learner: str, new_users: str, options: list[str]) -> None:
    made = trained(workspace, learner).json
    place = Workspace(workspace)
    version = versions.register_version(
        place,
        run_id=made["run_id"],
        model_folder=place / made["model"],
        model_key=made["key"],
        tags={},
        description="one epoch",
    )
    path = workspace / "new.csv"
    path.write_text(new_users)
    asked = ["--model-version", version, "--workspace", workspace, "--device", "cpu", "--json"]
    scored = call("score", path, *options, *asked)
    assert scored.code == 0, scored.stderr
    assert (scored.json["users"], scored.json["used"]) == (2, 2)


def learners_of(objective: Objective) -> list[str]:
    """Return the learners that learn from feedback of this kind."""
    return [name for name in LEARNERS if objective in config_class(name).objectives]


QUICK = ("bayesian-linear", "conditional-vae", "federated", "maml", "reptile", "transfer-frozen")
"""One of each family; the others are trained with `RECMETA_SLOW=1`."""


def some(objective: Objective, names: Collection[str]) -> list[Any]:
    """Return the learners of this feedback; all but those of these names are slow."""
    learners = learners_of(objective)
    return [pytest.param(name, marks=[] if name in names else slow) for name in learners]


@pytest.mark.parametrize("learner", some("rating", QUICK))
def test_a_log_of_ratings_trains_every_learner(rated: Path, learner: str) -> None:
    trained(rated, learner)


def test_a_learner_of_the_other_feedback_is_refused(rated: Path, recmeta: Call) -> None:
    others = set(LEARNERS) - set(learners_of("rating"))
    assert others == {"weighted-ridge"}
    called = recmeta("meta-train", "--learner", "weighted-ridge", "--workspace", rated)
    assert called.code == 2
    assert "learns from implicit feedback alone" in called.stderr


@pytest.mark.parametrize("learner", some("rating", ["matching", "snail", "selector"]))
def test_a_model_of_every_learner_scores(rated: Path, learner: str) -> None:
    known = "uid,sku,ts,stars\nn1,i1,1701000000,4\nn1,i2,1701000001,2\nn2,,,\n"
    train_and_score(rated, learner, known, LOG_OPTIONS)


@pytest.mark.parametrize("learner", some("implicit", ["conditional-vae", "weighted-ridge"]))
def test_a_log_of_clicks_trains_every_learner_and_its_model_scores(
    clicked: Path, learner: str
) -> None:
    known = "uid,sku,ts\nn1,i1,1701000000\nn1,i2,1701000001\nn2,,\n"
    train_and_score(clicked, learner, known, [*COLUMNS, *TIMES])


LOGS: dict[str, tuple[Give, int, int]] = {
    "two levels": (lambda random: int(random.integers(0, 2)), 20, 14),
    "no levels": (lambda random: round(float(random.random()), 3), 20, 14),
    "three users": (stars, 3, 14),
}
"""Ratings, users, items."""


@slow
@pytest.mark.parametrize("log", LOGS)
def test_small_logs_of_any_scale_train_or_say_why_not(log: str, tmp_path: Path) -> None:
    give, num_users, num_items = LOGS[log]
    path = write_log(tmp_path / "log.csv", give, num_users=num_users, num_items=num_items)
    workspace = tasks_of(path, *COLUMNS, *TIMES, "--value-col", "stars")
    for learner in learners_of("rating"):
        trained(workspace, learner)


def test_ratings_that_are_all_the_same_are_told(tmp_path: Path, recmeta: Call) -> None:
    log = write_log(tmp_path / "log.csv", lambda _: 4)
    workspace = tasks_of(log, *LOG_OPTIONS)
    called = recmeta("meta-train", "--workspace", workspace)
    assert called.code == 2
    said = " ".join(called.stderr.split())
    assert "every rating of the meta-training users is 4" in said
    assert "as implicit feedback" in said


def test_members_are_trained_as_their_learners_are(
    rated: Path, tmp_path: Path, recmeta: Call
) -> None:
    file = tmp_path / "members.toml"
    file.write_text(
        '[train.model]\nalgorithm = "selector"\n[train.model.learner]\nchoice = "soft"\n'
        '[[train.members]]\nmodel = { algorithm = "film" }\n'
        '[[train.members]]\nmodel = { algorithm = "fomaml", learner = { num_steps = 1 } }\n'
    )
    called = recmeta("meta-train", "--config", file, *ONE_EPOCH, "--workspace", rated)
    assert called.code == 0, called.stderr
    assert called.json["best_member"] in ("film", "fomaml")
    folder = Workspace(rated) / called.json["model"]
    report = folder.read_json("choice.json")
    assert report["oracle"] <= report["members"][report["best_member"]]
    assert len(report["members"]) == 2
