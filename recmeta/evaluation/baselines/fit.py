"""Fit every baseline that suits a task set, each with its regularisation chosen on the dev users.

A baseline that was not tuned is a straw man. The test users are never seen here.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from recmeta.evaluation.baselines.biases import BiasConfig, ItemMeanUserBias
from recmeta.evaluation.baselines.ease import Ease, EaseConfig
from recmeta.evaluation.baselines.matrix_factorisation import (
    MatrixFactorisation,
    MatrixFactorisationConfig,
)
from recmeta.evaluation.baselines.means import GlobalMean, ItemMean, ItemMeanConfig
from recmeta.evaluation.baselines.popularity import Popularity
from recmeta.evaluation.baselines.rows import training_rows
from recmeta.evaluation.baselines.user_median import UserMedian, UserMedianConfig
from recmeta.evaluation.metrics import mae
from recmeta.evaluation.predictor import Predictor
from recmeta.evaluation.ranking import ranking_of
from recmeta.tasks.task_set import Tasks, TaskSetSpec

P = TypeVar("P", bound=Predictor)

ITEM_MEAN_GRID = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
ITEM_BIAS_GRID = (0.5, 1.0, 2.0, 4.0, 8.0)
IMAGINARY_GRID = (1, 2, 5, 10, 20, 50, 1000)
USER_BIAS_GRID = (2.0, 4.0, 8.0, 12.0, 20.0)
NUM_FACTORS_GRID = (4, 8, 16)
EASE_GRID = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
RANKING_K = 10
FIRST_SPREAD = 0.3
# From strong to weak: each fit starts from the last one, so a few sweeps suffice. For values whose
# standard deviation is about 1, as is that of one to five stars.
FACTOR_REGULARISATION_PATH = (14.0, 10.0, 7.0, 5.0, 3.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate of a search, and how it did."""

    method: str
    """Name of the predictor."""
    config: dict[str, float]
    """All its parameters."""
    loss: float
    """Mean over the development users, lower is better."""
    measure: str = "dev_mae"
    """What the loss is: their MAE, in units of the value; or `dev_ranking_loss`, 1 - nDCG@10 over
    the whole catalogue."""


OnTrial = Callable[[Trial], None]


def unrecorded(_: Trial) -> None:
    """Do nothing with a trial."""


def fit_baselines(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, seed: int = 0, on_trial: OnTrial = unrecorded
) -> dict[str, Predictor]:
    """Return the baselines for a task set, fitted, by name.

    `rating`: global-mean, user-median, item-mean, item-mean-user-bias, popularity, mf-fold-in.
    `implicit`: popularity and ease; with every value 1 there is nothing to average.

    Args:
        train: meta-training tasks; their support and query rows are the training data, and of
            implicit feedback those of `dev` in the end, too.
        dev: development tasks, on whose queries the regularisation is chosen: by MAE, or by nDCG@10
            over the whole catalogue. Where there are none, the defaults of each baseline's
            configuration hold.
        seed: of the factorisation's starting vectors.
        on_trial: told of each candidate that was tried, method by method.

    Raises:
        UserError: where the meta-training tasks have no rows.
    """
    if spec.objective == "implicit":
        fitted = implicit_baselines(spec, train, dev, on_trial)
    else:
        fitted = rating_baselines(spec, train, dev, seed, on_trial)
    return {predictor.name: predictor for predictor in fitted}


def implicit_baselines(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, on_trial: OnTrial = unrecorded
) -> list[Predictor]:
    """Return the baselines that need no graded values, the weakest first; as the learners of such
    feedback do, they learn from the development users, too, once these have chosen."""
    everybody = Tasks.joined([train, dev])
    ease = tune_ease(spec, train, dev, on_trial).config
    return [
        Popularity.fit(everybody, spec.num_items),
        next(Ease.fit_all(everybody, spec.num_items, [ease])),
    ]


def rating_baselines(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, seed: int = 0, on_trial: OnTrial = unrecorded
) -> list[Predictor]:
    """Return all baselines, the weakest first."""
    biases = tune_biases(spec, train, dev, on_trial)
    return [
        GlobalMean.fit(train, spec.num_items),
        tune_user_median(spec, train, dev, on_trial),
        tune_item_mean(spec, train, dev, on_trial),
        biases,
        Popularity.fit(train, spec.num_items),
        tune_matrix_factorisation(spec, train, dev, biases.config, seed, on_trial),
    ]


def tune_ease(spec: TaskSetSpec, train: Tasks, dev: Tasks, on_trial: OnTrial = unrecorded) -> Ease:
    """Return EASE with the ridge weight that ranks the dev queries best, of implicit feedback."""
    if not _has_queries(dev):
        return next(Ease.fit_all(train, spec.num_items, [EaseConfig()]))

    def loss(fit: Ease) -> float:
        ndcg_B = ranking_of(fit, dev, RANKING_K)[f"ndcg@{RANKING_K}"]
        return 1.0 - float(np.nan_to_num(ndcg_B).mean())

    configs = [EaseConfig(regularisation=ridge) for ridge in EASE_GRID]
    fits = zip(configs, Ease.fit_all(train, spec.num_items, configs), strict=True)
    return _best(fits, loss, "dev_ranking_loss", on_trial)


def tune_user_median(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, on_trial: OnTrial = unrecorded
) -> UserMedian:
    """Return the user's median, drawn to that of all as far as predicts the dev queries best."""
    if not _has_queries(dev):
        return UserMedian.fit(train, spec.num_items)
    configs = [UserMedianConfig(num_imaginary=n) for n in IMAGINARY_GRID]
    return _most_exact(
        ((c, UserMedian.fit(train, spec.num_items, c)) for c in configs), dev, on_trial
    )


def tune_item_mean(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, on_trial: OnTrial = unrecorded
) -> ItemMean:
    """Return the item mean with the regularisation that predicts the dev queries best."""
    if not _has_queries(dev):
        return ItemMean.fit(train, spec.num_items)
    configs = [ItemMeanConfig(regularisation=r) for r in ITEM_MEAN_GRID]
    return _most_exact(
        ((c, ItemMean.fit(train, spec.num_items, c)) for c in configs), dev, on_trial
    )


def tune_biases(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, on_trial: OnTrial = unrecorded
) -> ItemMeanUserBias:
    """Return item mean and user bias, both ridge weights chosen on the dev queries."""
    if not _has_queries(dev):
        return ItemMeanUserBias.fit(train, spec.num_items, spec.value_range)
    configs = [
        BiasConfig(item_regularisation=item, user_regularisation=user)
        for item, user in itertools.product(ITEM_BIAS_GRID, USER_BIAS_GRID)
    ]
    fits = ((c, ItemMeanUserBias.fit(train, spec.num_items, spec.value_range, c)) for c in configs)
    return _most_exact(fits, dev, on_trial)


def tune_matrix_factorisation(
    spec: TaskSetSpec,
    train: Tasks,
    dev: Tasks,
    biases: BiasConfig,
    seed: int = 0,
    on_trial: OnTrial = unrecorded,
) -> MatrixFactorisation:
    """Return the factorisation whose size and ridge weight predict the dev queries best.

    The biases' own ridge weights, which have no unit, are taken over from the tuned bias model.
    """
    unit = _unit(train)

    def config(num_factors: int, regularisation: float) -> MatrixFactorisationConfig:
        return MatrixFactorisationConfig(
            num_factors=num_factors,
            factor_regularisation=unit * regularisation,
            item_regularisation=biases.item_regularisation,
            user_regularisation=biases.user_regularisation,
        )

    def fit(
        chosen: MatrixFactorisationConfig, start: MatrixFactorisation | None = None
    ) -> MatrixFactorisation:
        spread = FIRST_SPREAD * math.sqrt(unit)
        return MatrixFactorisation.fit(
            train, spec.num_items, spec.value_range, chosen, seed, start, spread
        )

    if not _has_queries(dev):
        default = MatrixFactorisationConfig()
        chosen = config(default.num_factors, default.factor_regularisation)
        return fit(chosen)

    def fits() -> Iterable[tuple[MatrixFactorisationConfig, MatrixFactorisation]]:
        for num_factors in NUM_FACTORS_GRID:
            last = None
            for regularisation in FACTOR_REGULARISATION_PATH:
                candidate = config(num_factors, regularisation)
                last = fit(candidate, last)
                yield candidate, last

    return _most_exact(fits(), dev, on_trial)


def _unit(train: Tasks) -> float:
    """Return the power of two, which rounds nothing, that is nearest to the standard deviation of
    the training values; 1 where they are all the same."""
    spread = float(np.std(training_rows(train).value, dtype=np.float64))
    return 2.0 ** round(math.log2(spread)) if spread > 0 else 1.0


def _has_queries(dev: Tasks) -> bool:
    return len(dev.query.item) > 0


def _most_exact(fits: Iterable[tuple[Any, P]], dev: Tasks, on_trial: OnTrial) -> P:
    """Return the fit with the lowest mean of the dev users' MAE; the first of equals."""

    def dev_mae(fit: P) -> float:
        return float(np.nanmean(mae(fit.score_query(dev), dev.query)))

    return _best(fits, dev_mae, "dev_mae", on_trial)


def _best(
    fits: Iterable[tuple[Any, P]], loss: Callable[[P], float], measure: str, on_trial: OnTrial
) -> P:
    """Return the fit with the lowest loss; the first of equals.

    Args:
        fits: configurations and what was fitted with each.
        measure: what the loss is, for who is told.
    """

    def tried(candidate: tuple[Any, P]) -> float:
        config, fit = candidate
        trial = Trial(
            method=fit.name, config=dataclasses.asdict(config), loss=loss(fit), measure=measure
        )
        on_trial(trial)
        return trial.loss

    return min(fits, key=tried)[1]
