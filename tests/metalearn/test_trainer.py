"""The outer loop: what is kept, what stops it, and that a kill changes nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.optimisation_based.maml import MAML
from recmeta.metalearn.learner import Metrics, Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.numerics import sparse_gradients
from recmeta.metalearn.outer_loop.checkpoint import CHECKPOINT
from recmeta.metalearn.outer_loop.trainer import (
    Epoch,
    TrainingConfig,
    development_loss,
    train,
)
from recmeta.metalearn.tensors.batch import TaskBatch
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder

NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))
EPISODES = EpisodeConfig(batch_size=8)
CONFIG = TrainingConfig(epochs=5, learning_rate=1e-2)


class KilledError(Exception):
    """Stands for whatever may end a process."""


def new_model(task_set: TaskSet) -> Model:
    return Model.untrained(ModelConfig(network=NETWORK), task_set, torch.device("cpu"))


def fit(task_set: TaskSet, model: Model | None = None, **changes: object) -> tuple[Model, list]:
    """Train with the settings of these tests, except where told otherwise."""
    model = model or new_model(task_set)
    settings = {"episodes": EPISODES, "config": CONFIG, "seed": 4} | changes
    history = train(model, task_set.tasks("train"), task_set.tasks("dev"), **settings)
    return model, history


def assert_same_bits(one: Model, other: Model) -> None:
    assert one.params.keys() == other.params.keys()
    for name, p in one.params.items():
        assert torch.equal(p, other.params[name]), name


def test_the_same_seed_gives_the_same_model(task_set: TaskSet) -> None:
    first, first_history = fit(task_set)
    second, second_history = fit(task_set)
    assert first_history == second_history
    assert_same_bits(first, second)
    other, _ = fit(task_set, seed=5)
    assert not torch.equal(first.params["layer.0.weight"], other.params["layer.0.weight"])


@pytest.mark.parametrize("large_from", [50_000, 2])
def test_training_learns(
    task_set: TaskSet, monkeypatch: pytest.MonkeyPatch, large_from: int
) -> None:
    monkeypatch.setattr(sparse_gradients, "LARGE_FROM", large_from)
    _, history = fit(task_set, config=dataclasses.replace(CONFIG, epochs=20, patience=20))
    losses = [e.train_loss for e in history]  # each of other random episodes
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert [e.number for e in history] == list(range(1, 21))


@pytest.mark.parametrize("large_from", [50_000, 2])
@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_bits(
    task_set: TaskSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_after: int,
    large_from: int,
) -> None:
    """With every embedding table dense, and with all but the smallest optimised row by row."""
    monkeypatch.setattr(sparse_gradients, "LARGE_FROM", large_from)

    def stop(epoch: Epoch) -> None:
        if epoch.number == killed_after:
            raise KilledError

    folder = Folder.at(tmp_path / "run")
    with pytest.raises(KilledError):
        fit(task_set, checkpoint=folder, on_epoch=stop)
    told: list[Epoch] = []
    resumed, history = fit(task_set, checkpoint=folder, on_epoch=told.append)
    straight, expected = fit(task_set)
    assert history == told == expected
    assert_same_bits(resumed, straight)


SCRIPT = """
import sys, time
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from test_trainer import fit
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder

def announce(epoch):
    print(epoch.number, flush=True)
    time.sleep(0.05)

fit(TaskSet(Folder.at(sys.argv[1])), checkpoint=Folder.at(sys.argv[2]), on_epoch=announce)
"""


def test_a_killed_process_goes_on_to_the_same_bits(task_set: TaskSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [task_set.folder.path, str(run), str(Path(__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()  # two epochs are done
    time.sleep(0.06)  # and a third may be under way
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    process.stdout.close()
    assert (run / CHECKPOINT).exists()

    resumed, history = fit(task_set, checkpoint=Folder.at(run))
    straight, expected = fit(task_set)
    assert history == expected
    assert_same_bits(resumed, straight)


def test_a_finished_run_is_not_trained_again(task_set: TaskSet, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    trained, history = fit(task_set, checkpoint=folder)
    before = {f.name: f.stat().st_mtime_ns for f in (tmp_path / CHECKPOINT).iterdir()}
    again, found = fit(task_set, checkpoint=folder)
    assert found == history
    assert {f.name: f.stat().st_mtime_ns for f in (tmp_path / CHECKPOINT).iterdir()} == before
    assert_same_bits(again, trained)


def test_a_checkpoint_is_readable_without_unpickling(task_set: TaskSet, tmp_path: Path) -> None:
    fit(task_set, checkpoint=Folder.at(tmp_path))
    *_, last = sorted((tmp_path / CHECKPOINT).glob("*.safetensors"))
    content = last.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {"params.layer.0.weight", "best.layer.0.weight", "exp_avg.layer.0.weight"} <= set(header)
    assert len(json.loads(header["__metadata__"]["history"])) == CONFIG.epochs


@pytest.mark.parametrize("num_broken", [1, 2])
def test_a_broken_checkpoint_is_not_gone_on_from(
    task_set: TaskSet, tmp_path: Path, caplog: pytest.LogCaptureFixture, num_broken: int
) -> None:
    """The one before it is, or training begins anew where that is broken, too: to the same bits."""
    folder = Folder.at(tmp_path)

    def stop(epoch: Epoch) -> None:
        if epoch.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(task_set, checkpoint=folder, on_epoch=stop)
    kept = sorted((tmp_path / CHECKPOINT).glob("*.safetensors"))
    assert [path.name for path in kept] == ["epoch-00002.safetensors", "epoch-00003.safetensors"]
    for path in kept[-num_broken:]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    told: list[Epoch] = []
    again, history = fit(task_set, checkpoint=folder, on_epoch=told.append)
    assert caplog.text.count("is not what was written") == num_broken
    straight, expected = fit(task_set)
    assert history == expected
    assert_same_bits(again, straight)


def test_patience_stops_and_the_best_epoch_is_kept(task_set: TaskSet) -> None:
    config = TrainingConfig(epochs=200, patience=3, learning_rate=0.1, weight_decay=0.0)
    model, history = fit(task_set, config=config)
    best = min(history, key=lambda e: e.dev_loss)
    assert len(history) == best.number + 3 < 200
    kept = development_loss(model, model.params, task_set.tasks("dev"), TrainingConfig())
    assert kept == pytest.approx(best.dev_loss, rel=1e-6)


def test_parameters_are_the_start(task_set: TaskSet) -> None:
    warm, _ = fit(task_set)
    start = {name: p.clone() for name, p in warm.params.items()}
    crawl = dataclasses.replace(CONFIG, epochs=1, learning_rate=1e-9)
    going_on, _ = fit(task_set, warm, config=crawl)
    for name, p in going_on.params.items():
        torch.testing.assert_close(p, start[name], rtol=0, atol=1e-6)


def test_training_leaves_the_start_alone(task_set: TaskSet) -> None:
    model, _ = fit(task_set)
    start = model.params
    before = {name: p.clone() for name, p in start.items()}
    fit(task_set, model)
    for name, p in start.items():
        assert torch.equal(p, before[name]), name


def test_without_development_users_the_last_epoch_is_kept(task_set: TaskSet) -> None:
    model = new_model(task_set)
    none = task_set.tasks("dev").take(torch.arange(0).numpy())
    settings = {"episodes": EPISODES, "seed": 0}
    quick = dataclasses.replace(CONFIG, epochs=3)
    history = train(model, task_set.tasks("train"), none, config=quick, **settings)
    assert len(history) == 3
    first = new_model(task_set)
    once = dataclasses.replace(CONFIG, epochs=1)
    train(first, task_set.tasks("train"), none, config=once, **settings)
    assert not torch.equal(model.params["layer.0.weight"], first.params["layer.0.weight"])


def test_a_loss_that_is_not_finite_says_what_to_do(task_set: TaskSet) -> None:
    model = new_model(task_set)
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    model.params["layer.0.bias"] += torch.inf
    with pytest.raises(UserError, match=r"loss of epoch 1 .* Lower training\.learning_rate"):
        fit(task_set, model)


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_parameters(
    task_set: TaskSet, tmp_path: Path
) -> None:
    class Overflowing(MAML):
        """A learner whose loss is fine and whose gradient is not."""

        def meta_gradient(
            self, params: Params, batch: TaskBatch, generator: torch.Generator
        ) -> tuple[Params, Metrics]:
            return {name: p * torch.nan for name, p in params.items()}, {"loss": 1.0}

    model = new_model(task_set)
    sound = model.learner
    model.learner = Overflowing(sound.config, sound.network, sound.item_features, "rating")
    with pytest.raises(UserError, match="gradient"):
        fit(task_set, model, checkpoint=Folder.at(tmp_path / "run"))
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_no_user_to_train_on_is_the_users_mistake(task_set: TaskSet) -> None:
    none = task_set.tasks("train").take(torch.arange(0).numpy())
    with pytest.raises(UserError, match="no user to meta-train on"):
        train(new_model(task_set), none, none, episodes=EPISODES, config=CONFIG, seed=0)


@pytest.mark.parametrize(
    "field", [{"epochs": -1}, {"patience": 0}, {"learning_rate": 0.0}, {"clip_norm": -1.0}]
)
def test_configurations_that_cannot_train_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        TrainingConfig(**field)
