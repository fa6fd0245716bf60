from pathlib import Path

import optuna
import pytest

from recmeta.config import merged, parse, to_dict
from recmeta.errors import UserError
from recmeta.metalearn.registry import LEARNERS
from recmeta.tasks.task_set import Objective
from recmeta.training.config import MetaTrainConfig
from recmeta.training.recipes import training_of
from recmeta.training.search_space import (
    INNER_LOOP,
    Dimension,
    named_space,
    nested,
    read_space,
    space_of,
)


@pytest.mark.parametrize("algorithm", list(LEARNERS))
def test_everything_in_a_learners_space_is_a_configuration(algorithm: str) -> None:
    space = space_of(algorithm)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        plain = to_dict(training_of(algorithm))
        for name, dimension in space.items():
            plain = merged(plain, nested(name, dimension.suggest(trial, name)))
        assert parse(MetaTrainConfig, plain).model.algorithm == algorithm


@pytest.mark.parametrize("objective", ["rating", "implicit"])
@pytest.mark.parametrize(
    "algorithm",
    ["maml", "anil", "fomaml", "meta-sgd", "reptile", "mamo", "implicit-maml", "transfer-frozen"],
)
def test_everything_in_an_inner_loops_space_is_a_configuration(
    algorithm: str, objective: Objective
) -> None:
    space = named_space("inner-loop", algorithm, objective)
    assert set(space) <= {f"model.learner.{name}" for name in (*INNER_LOOP, "inner_objective")}
    plain = to_dict(training_of(algorithm, objective))
    for name, dimension in space.items():
        for value in dimension.choices or (dimension.low, dimension.high):
            parse(MetaTrainConfig, merged(plain, nested(name, value)))


def test_a_learner_without_inner_steps_has_no_such_space() -> None:
    assert "model.learner.second_order" not in named_space("inner-loop", "fomaml", "rating")
    with pytest.raises(UserError, match="'snail' has no inner loop to search"):
        named_space("inner-loop", "snail", "rating")


def test_what_defines_an_algorithm_is_not_tuned() -> None:
    assert "model.learner.adapt_layers" in space_of("maml")
    assert "model.learner.adapt_layers" not in space_of("anil")
    assert "model.learner.adapt_layers" not in space_of("transfer-frozen")
    assert not any("num_steps" in name for name in space_of("snail"))


def test_a_space_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[train.training]\nlearning_rate = { low = 1e-4, high = 1e-2, log = true }\n"
        "[train.model.network]\nhidden_dims = { choices = [[64], [64, 64]] }\n"
        "[train.model.learner]\nnum_steps = { low = 1, high = 3 }\n"
    )
    space = read_space(path)
    assert space == {
        "training.learning_rate": Dimension(low=1e-4, high=1e-2, log=True),
        "model.network.hidden_dims": Dimension(choices=([64], [64, 64])),
        "model.learner.num_steps": Dimension(low=1, high=3),
    }
    trial = optuna.create_study().ask()
    drawn = {name: dimension.suggest(trial, name) for name, dimension in space.items()}
    assert 1e-4 <= drawn["training.learning_rate"] <= 1e-2
    assert drawn["model.network.hidden_dims"] in ([64], [64, 64])
    assert drawn["model.learner.num_steps"] in (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train = 3", "write"),
        ("", "no table"),
        ("[tasks]\nseed = { low = 1, high = 2 }", "tasks"),
        ("[train.training]\nepochs = 3", "epochs is 3"),
        ("[train.training]\nepochs = { low = 3 }", "choices, or low and high"),
        ("[train.training]\nepochs = { low = 3, high = 2 }", "above"),
        ("[train.training]\nepochs = { low = 0, high = 2, log = true }", "positive"),
        ("[train.training", "not valid TOML"),
    ],
)
def test_what_is_no_space_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_space(path)


def test_a_space_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_space(tmp_path / "none.toml")
