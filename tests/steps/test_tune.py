"""`recmeta tune` on a small synthetic task set: the search, its record, its end and its return."""

import dataclasses
import datetime
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from recmeta.errors import UserError
from recmeta.manifest import Manifest
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.recipes.configuration import pipeline_config
from recmeta.registry.tracking import PARENT, connect, experiment_id
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.learning import study as study_of
from recmeta.steps.learning import tune
from recmeta.steps.learning.study import Candidate
from recmeta.steps.learning.tune import TuneConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.training import fit as fitting
from recmeta.training.config import MetaTrainConfig
from recmeta.training.members import train_members
from recmeta.training.search_space import Dimension
from recmeta.training.start import TrainedMembers, at_start
from recmeta.workspace import MemoryFolder, Workspace

TRAINING = TrainingConfig(epochs=3, learning_rate=1e-3)
CLOSED_FORM = Candidate(
    config=MetaTrainConfig(
        model=ModelConfig(algorithm="bayesian-linear"), training=TRAINING, start="random"
    ),
    space={
        "training.learning_rate": Dimension(low=1e-3, high=3e-2, log=True),
        "model.learner.num_factors": Dimension(choices=(2, 4)),
    },
)
MAML = Candidate(
    config=MetaTrainConfig(
        model=ModelConfig(
            network=PreferenceConfig(embedding_dim=4, hidden_dims=(8,)),
            learner=MAMLConfig(num_steps=1),
        ),
        training=TRAINING,
        start="random",
    ),
    space={"model.network.hidden_dims": Dimension(choices=((), (4,)))},
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One for all tests, whose studies differ, since creating MLflow's store takes long. Its cold
    test users are gone: nobody may look at them."""
    workspace = Workspace(tmp_path_factory.mktemp("tune") / "ws")
    log = generate(SyntheticConfig(num_users=60, num_items=20, rows_per_user=(4, 10)), seed=0)
    write_task_set(log, workspace / "tasks" / "k")
    for name in (workspace / "tasks" / "k").names():
        if name.startswith("test-"):
            Path(workspace.local_path(f"tasks/k/{name}")).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield workspace


@pytest.fixture
def tasks() -> Manifest[BuildTasksOutputs]:
    return manifest("k")


def manifest(key: str) -> Manifest[BuildTasksOutputs]:
    return Manifest(
        step="build-tasks",
        key=key,
        config={},
        inputs={},
        outputs=BuildTasksOutputs(
            tasks=f"tasks/{key}",
            objective="rating",
            temporal=False,
            item_statistics=0,
            interactions_id="",
        ),
        counts={},
        libraries={},
        git_commit=None,
        finished_at=datetime.datetime.now(datetime.UTC).isoformat(),
        seconds=0.0,
    )


def test_the_best_of_two_learners_is_a_recipe(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs]
) -> None:
    candidates = {"bayesian-linear": CLOSED_FORM, "maml": MAML}
    found = tune.run(TuneConfig(trials=6), candidates, workspace, tasks, device="cpu")
    assert set(found.as_it_is) == {"bayesian-linear", "maml"}
    assert found.dev_loss <= min(found.as_it_is.values())
    assert sum(found.counts.values()) == 6
    path = Path(workspace.local_path(found.recipe))
    assert pipeline_config(path=path).train == found.best

    client = connect(workspace)
    children = client.search_runs([experiment_id(client)], f"tags.`{PARENT}` = '{found.run_id}'")
    assert sorted(run.info.run_name for run in children) == [f"trial {n}" for n in range(6)]
    assert {run.info.status for run in children} == {"FINISHED"}
    whole = [run for run in children if run.data.tags["recmeta.tuning.state"] == "complete"]
    assert len(whole) == found.counts["complete"]
    assert min(run.data.metrics["best_dev_loss"] for run in whole) == found.dev_loss
    parent = client.get_run(found.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_dev_loss"] == found.dev_loss
    assert parent.data.tags["recmeta.tuning.best.learner"] == found.best.model.algorithm
    assert not (workspace / "tuning" / found.key / "trials").names()


def test_a_base_is_trained_once_for_all_trials(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial says the same as without sharing, from the first bit to the last."""
    base = dataclasses.replace(MAML.config, members=(CLOSED_FORM.config,))
    trained_for = []

    def counted(config: MetaTrainConfig, *args: Any, **kwargs: Any) -> TrainedMembers:
        begun = args[0]
        if begun.trained is None:
            trained_for.append(config)
        return train_members(config, *args, **kwargs)

    monkeypatch.setattr(fitting, "train_members", counted)
    space = {"model.learner.num_steps": Dimension(choices=(2,))}
    candidates = {"maml": Candidate(config=base, space=space)}
    found = tune.run(TuneConfig(trials=2), candidates, workspace, tasks, device="cpu")
    assert len(trained_for) == 1
    _, second = found.trials
    assert second.values == {"learner": "maml", "model.learner.num_steps": 2}
    learner = MAMLConfig(num_steps=2)
    model = dataclasses.replace(base.model, learner=learner)
    config = dataclasses.replace(base, model=model)
    task_set = TaskSet(workspace / tasks.outputs.tasks)
    begun = at_start(config, task_set, torch.device("cpu"))
    alone = fitting.fit(
        dataclasses.replace(config, lists="popularity"),
        begun,
        task_set,
        MemoryFolder(),
        lambda epoch: None,
    )
    assert (second.loss, second.epochs) == (alone.best.dev_loss, len(alone.history))


def test_asked_for_more_it_goes_on(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs]
) -> None:
    candidates = {"bayesian-linear": CLOSED_FORM}
    first = tune.run(TuneConfig(trials=2), candidates, workspace, tasks, device="cpu")
    again = tune.run(TuneConfig(trials=2), candidates, workspace, tasks, device="cpu")
    assert again == first
    more = tune.run(TuneConfig(trials=4), candidates, workspace, tasks, device="cpu")
    assert (more.key, more.run_id) == (first.key, first.run_id)
    assert sum(more.counts.values()) == 4
    assert more.dev_loss <= first.dev_loss


def test_learners_in_another_order_are_the_same_study() -> None:
    study = optuna.create_study()
    one_way = {"bayesian-linear": CLOSED_FORM, "maml": MAML}
    other_way = {"maml": MAML, "bayesian-linear": CLOSED_FORM}
    assert list(study_of.in_order_of(study, other_way)) == list(other_way)
    for candidates in (one_way, other_way):
        in_order = study_of.in_order_of(study, candidates)
        assert list(in_order) == list(one_way)
        trial = study.ask()
        config, values = study_of.drawn(trial, in_order)
        assert config.model.algorithm == values["learner"]
        study.tell(trial, 1.0)


def test_the_loss_of_a_trial_is_that_of_its_best_epoch() -> None:
    study = optuna.create_study()
    for state, value in (("COMPLETE", 0.4), ("PRUNED", None)):
        trial = study.ask()
        study_of.drawn(trial, {"maml": MAML})
        for number, loss in enumerate((0.6, 0.5, 0.7), 1):
            trial.report(loss, number)
        study.tell(trial, value, state=optuna.trial.TrialState[state])
    whole, stopped = study_of.ended_trials(study, {"maml": MAML})
    assert (whole.state, whole.epochs, whole.loss) == ("complete", 3, 0.4)  # that of its start
    assert (stopped.state, stopped.epochs, stopped.loss) == ("stopped", 3, 0.5)


def test_a_trial_that_was_under_way_goes_on(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs]
) -> None:
    candidates = {"bayesian-linear": CLOSED_FORM}
    before = set((workspace / "tuning").names())
    short = TuneConfig(trials=2, minutes=1e-9, seed=5)
    with pytest.raises(UserError, match="continues the study"):
        tune.run(short, candidates, workspace, tasks, device="cpu")
    (study,) = set((workspace / "tuning").names()) - before
    (trial,) = (workspace / "tuning" / study / "trials").names()
    checkpoint = workspace / "tuning" / study / "trials" / trial
    assert checkpoint.names() == ["checkpoint"]

    long = dataclasses.replace(short, minutes=None)
    found = tune.run(long, candidates, workspace, tasks, device="cpu")
    assert (found.key, sum(found.counts.values())) == (study, 2)
    client = connect(workspace)
    children = client.search_runs([experiment_id(client)], f"tags.`{PARENT}` = '{found.run_id}'")
    assert len(children) == 2, "the trial that goes on is one run"
    for run in children:
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "dev_loss")]
        assert steps == [1, 2, 3][: len(steps)]

    same = tune.run(TuneConfig(trials=1, seed=6), candidates, workspace, tasks, device="cpu")
    assert same.as_it_is == found.as_it_is, "as if it had never been killed"


def test_what_falls_behind_is_stopped_and_what_diverges_is_told(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs]
) -> None:
    worse = {"training.learning_rate": Dimension(choices=(0.5, 0.6, 0.7))}
    candidate = dataclasses.replace(CLOSED_FORM, space=worse)
    config = TuneConfig(trials=3, startup_trials=1, warmup_epochs=0)
    found = tune.run(config, {"bayesian-linear": candidate}, workspace, tasks, device="cpu")
    assert found.counts == {"complete": 1, "stopped": 2, "diverged": 0}
    assert found.values == {"learner": "bayesian-linear"}

    halving = dataclasses.replace(config, trials=7, stop="halving", seed=3)
    rates = {"training.learning_rate": Dimension(low=1e-3, high=0.7, log=True)}
    candidate = dataclasses.replace(CLOSED_FORM, space=rates)
    found = tune.run(halving, {"bayesian-linear": candidate}, workspace, tasks, device="cpu")
    assert found.counts["stopped"] >= 2
    assert found.dev_loss <= found.as_it_is["bayesian-linear"]

    wild = {"training.learning_rate": Dimension(choices=(1e30,))}
    candidate = dataclasses.replace(CLOSED_FORM, space=wild)
    found = tune.run(config, {"bayesian-linear": candidate}, workspace, tasks, device="cpu")
    assert found.counts == {"complete": 1, "stopped": 0, "diverged": 2}


def test_what_cannot_be_searched_is_refused(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = dataclasses.replace(
        CLOSED_FORM, space={"training.learning_rat": Dimension(choices=(1,))}
    )
    with pytest.raises(UserError, match="learning_rate"):
        tune.run(TuneConfig(), {"bayesian-linear": unknown}, workspace, tasks, device="cpu")

    log = generate(SyntheticConfig(num_users=20, num_items=20, rows_per_user=(4, 10)), seed=0)
    write_task_set(log, workspace / "tasks" / "d", ShareConfig(dev_share=0.0))
    with pytest.raises(UserError, match="development users"):
        tune.run(TuneConfig(), {"maml": MAML}, workspace, manifest("d"), device="cpu")

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"recmeta\[tune\]"):
        tune.run(TuneConfig(), {"maml": MAML}, workspace, tasks, device="cpu")
