"""A file names a selector's members; what it does not say of them, their learners' recipes say."""

import dataclasses
from pathlib import Path

import pytest

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.combined.selector import SelectorConfig
from recmeta.metalearn.algorithms.optimisation_based.fomaml import FOMAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.recipes.configuration import pipeline_config
from recmeta.training.recipes import training_of

NAMED = """
[train.model]
algorithm = "selector"
[[train.members]]
model = { algorithm = "film" }
[[train.members]]
model = { algorithm = "fomaml", learner = { num_steps = 7 } }
training = { learning_rate = 0.5 }
"""


def test_members_are_trained_as_is_best_for_their_learners(tmp_path: Path) -> None:
    path = tmp_path / "named.toml"
    path.write_text(NAMED)
    config = pipeline_config(path=path).train
    film, fomaml = config.members
    assert film == training_of("film")
    tuned = training_of("fomaml")
    assert isinstance(tuned.model.learner, FOMAMLConfig)
    assert fomaml.model.learner == dataclasses.replace(tuned.model.learner, num_steps=7)
    assert fomaml.training == dataclasses.replace(tuned.training, learning_rate=0.5)
    assert isinstance(config.model.learner, SelectorConfig)
    assert [m.algorithm for m in config.model.learner.members] == ["film", "fomaml"]
    assert config.model.learner.members[1].network == tuned.model.network


def test_epochs_are_everybodys() -> None:
    config = pipeline_config(learner="selector", epochs=3).train
    assert {how.training.epochs for how in (config, *config.members)} == {3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[train.model.learner.members]]\nalgorithm = "anil"\n', "say in train.members"),
        ('[train.model.learner.base]\nalgorithm = "anil"\n', "say in train.members"),
        ('[[train.members]]\nmodel = { algorithm = "anul" }\n', "Did you mean 'anil'"),
        ('[train]\nmembers = "anil"\n', "members is 'anil'; it must be a list"),
        ("[train]\nmembers = [{ modle = {} }]\n", "Did you mean 'model'"),
        ('[[train.members]]\nmodel = { algorithm = "anil" }\n', "2 or more"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        pipeline_config(learner="selector", path=path)


def test_another_base_for_ratings_leaves_that_of_implicit_feedback(tmp_path: Path) -> None:
    path = tmp_path / "base.toml"
    path.write_text('[[train.members]]\nmodel = { algorithm = "transformer-np" }\n')
    config = pipeline_config(path=path)
    assert config.train.members == (training_of("transformer-np"),)
    assert config.train.model.algorithm == "maml"
    assert config.implicit == pipeline_config().implicit
    path.write_text("[train]\nmembers = []\n")
    plain = pipeline_config(path=path).train
    assert plain.members == ()
    assert isinstance(plain.model.learner, MAMLConfig)
    assert plain.model.learner.base is None
