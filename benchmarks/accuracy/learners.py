"""The competitors, by name: the library's baselines and algorithms, and some recipes.

A baseline's hyperparameters are chosen for each kind of cold user on the development judges. A
meta-learner is a recipe; it is trained once and meets all cold users.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.accuracy import meta_learned
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.search import Chosen, choose
from recmeta.config import to_dict
from recmeta.evaluation.fit_baselines import BASELINES, baseline
from recmeta.evaluation.predictor import Predictor
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.registry import LEARNERS as ALGORITHMS
from recmeta.metalearn.registry import config_class
from recmeta.recipes import RECIPES
from recmeta.tasks.task_set import Objective
from recmeta.training.config import MetaTrainConfig
from recmeta.training.recipes import training_of
from recmeta.workspace import Folder

TEXTS = "benchmarks.accuracy.text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """A learner that has learned from all data that it may see."""

    predictors: Mapping[str, Predictor]
    """By state."""
    chosen: dict[str, Any]
    """The hyperparameters by state and how they were chosen, JSON-ready."""


Fit = Callable[[Problem, Folder, int], Fitted]
"""Learns from a problem: (problem, folder for checkpoints, seed)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner:
    """A competitor."""

    fit: Fit
    modules: tuple[str, ...]
    """The modules of its code; what they import decides its results."""
    is_baseline: bool
    settings: Callable[[str, Objective], dict[str, Any]] = lambda dataset, objective: {}
    """The settings that decide its results on a data set besides the code: a recipe's whole
    configuration."""
    objectives: tuple[Objective, ...] = ("rating", "implicit")
    trainings: tuple[str, ...] | None = None
    """The trainings that it takes part in, or None for all."""
    unasked: bool = True
    """Whether it takes part if the user names no learners."""
    library: str | None = None
    """The library that it needs besides recmeta's own dependencies: a module of the extra
    `accuracy`."""
    reads_texts: bool = False
    """Whether it reads vectors of the items' texts, too (`benchmarks.accuracy.text`)."""


def _baseline(name: str) -> Learner:
    """Return a baseline of the library, its hyperparameters chosen for each kind of cold user."""
    one = baseline(name)

    def fit(problem: Problem, folder: Folder, seed: int) -> Fitted:
        found: dict[int, Chosen] = {}
        by_state: dict[str, Chosen] = {}
        for state, development in problem.development.items():
            if one.known_items_only and state.endswith("item_cold"):
                continue
            if id(development) not in found:  # states that share their judges share the choice
                found[id(development)] = choose(one, problem, state, seed)
            by_state[state] = found[id(development)]
        return Fitted(
            predictors={state: c.predictor for state, c in by_state.items()},
            chosen={
                state: {
                    "config": c.config,
                    "trials": c.num_trials,
                    "chosen_by": c.judged_by,
                    "development_loss": c.loss,
                }
                for state, c in by_state.items()
            },
        )

    modules = (BASELINES.module_of(name), *([TEXTS] if one.reads_texts else []))
    return Learner(
        fit=fit,
        modules=modules,
        is_baseline=True,
        objectives=("implicit",) if name in OF_RATINGS_BY_LISTS_ALONE else one.objectives,
        unasked=name in COMPARED_BASELINES,
        library=one.library,
        reads_texts=one.reads_texts,
    )


def _recipe(
    name: str,
    config: Callable[[str, Objective], MetaTrainConfig],
    *,
    objectives: tuple[Objective, ...] = ("rating", "implicit"),
    algorithm: str = "maml",
    trainings: tuple[str, ...] | None = None,
    unasked: bool = True,
) -> Learner:
    """Return a meta-learner that is trained by its configuration for a data set.

    Args:
        algorithm: the algorithm of that configuration.
    """

    def fit(problem: Problem, folder: Folder, seed: int) -> Fitted:
        found = meta_learned.fit(
            name, config(problem.name, problem.objective), problem, folder, seed
        )
        how = {
            "config": found.config,
            "chosen_by": "the recipe; the number of epochs by the development judges",
            "epochs": found.epochs,
            "best_epoch": found.best_epoch,
            "development_loss": found.dev_loss,
        }
        return Fitted(
            predictors=dict.fromkeys(problem.development, found.predictor),
            chosen=dict.fromkeys(problem.development, how),
        )

    return Learner(
        fit=fit,
        modules=("benchmarks.accuracy.meta_learned", ALGORITHMS.module_of(algorithm)),
        is_baseline=False,
        settings=lambda dataset, objective: to_dict(config(dataset, objective)),
        objectives=objectives,
        trainings=trainings,
        unasked=unasked,
    )


MELU_FEATURES = {
    "ml-100k": (("age", "gender", "occupation", "zip_area"), ("year", "genres")),
    "ml-1m": (
        ("gender", "age", "occupation", "zip_code"),
        ("rate", "genres", "directors", "actors"),
    ),
    "book-crossing": (("age", "country", "region"), ("year", "author", "publisher")),
}
"""The attributes of users and items that MeLU's authors read, or, of MovieLens 100K, those there
are."""


def melu_published(dataset: str, _: Objective) -> MetaTrainConfig:
    """Return MeLU-5 as published: the recipe `melu-paper` with five inner steps."""
    config = RECIPES["melu-paper"]().train
    users, items = MELU_FEATURES[dataset]
    features = dataclasses.replace(config.model.features, user_features=users, item_features=items)
    published = config.model.learner
    assert isinstance(published, MAMLConfig), "MeLU adapts as MAML does"
    learner = dataclasses.replace(published, num_steps=5)
    model = dataclasses.replace(config.model, features=features, learner=learner)
    return dataclasses.replace(config, model=model)


def _training_of(recipe: str) -> Callable[[str, Objective], MetaTrainConfig]:
    """Return a function that gives a recipe's training, the same for every data set."""
    return lambda dataset, objective: RECIPES[recipe]().train


def _algorithm(name: str) -> Learner:
    """Return an algorithm of the library, trained on every data set by its best recipe."""
    unasked = name in COMPARED
    objectives = config_class(name).objectives
    return _recipe(
        name,
        lambda dataset, objective: training_of(name, objective),
        objectives=objectives,
        algorithm=name,
        unasked=unasked,
    )


def _reading_texts(learner: Learner) -> Learner:
    """Return the learner with the items' texts as further input. It takes part only if it is
    named."""
    modules = (*learner.modules, TEXTS)
    return dataclasses.replace(learner, modules=modules, reads_texts=True, unasked=False)


COMPARED = ("maml", "bayesian-linear", "weighted-ridge")
"""The algorithms that take part in every benchmark; the others, where they are named."""
OF_RATINGS_BY_LISTS_ALONE = ("ials",)
"""Baselines that make nothing but lists of ratings, which protocols of ratings do not measure."""
COMPARED_BASELINES = (
    "global-mean",
    "popularity",
    "item-mean",
    "item-mean-user-bias",
    "mf-fold-in",
    "item-knn",
    "ease",
    "ials",
    "boosted-trees",
    "content-ridge",
)
"""The baselines that do, in the order of the reports; the others, where they are named."""

LEARNERS: dict[str, Learner] = {
    **{name: _baseline(name) for name in COMPARED_BASELINES},
    "melu-published": _recipe("melu-published", melu_published, trainings=("filtered", "warm")),
    "maml-median": _recipe("maml-median", _training_of("maml-ml1m"), objectives=("rating",)),
    **{name: _algorithm(name) for name in ALGORITHMS},
    **{name: _baseline(name) for name in BASELINES if name not in COMPARED_BASELINES},
    "bayesian-linear-text": _reading_texts(
        _recipe(
            "bayesian-linear-text",
            lambda dataset, objective: training_of("bayesian-linear"),
            algorithm="bayesian-linear",
            objectives=("rating",),
        )
    ),
}
