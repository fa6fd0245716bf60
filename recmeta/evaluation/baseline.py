"""Baselines: their candidates, how these are fitted, and how one of them is chosen.

An untuned baseline is a straw man: each has candidates, which are fitted to training users and
judged on the query rows of other users. The users on whom predictors are compared are never seen
here.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.measuring.catalogue_metrics import ranking_of
from recmeta.evaluation.measuring.values import RELEVANT_SHARE
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.predictor import Predictor
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.item_files import Items
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Objective, Tasks, TaskSetSpec

Config = Any
"""A baseline's own frozen dataclass, or None for one without hyperparameters."""

Grid = Literal["gate", "published"]
"""The candidates that are tried. Those of the gate are few, since it tunes again in every
evaluation; the published protocols try more. If a baseline has both, neither may change: past
decisions of gates and published numbers depend on them."""

RANKING_K = 10
MOST_RANKED = 1000
FEWEST_RANKED = 300
RANKED_SCORES = 2**24
"""The most scores that are ranked for each candidate of the gate, some 17 million: those of 1,000
development users at most, and of fewer users if the catalogue is large. They are taken evenly from
all.
"""

Measure = Literal["dev_mae", "dev_ranking_loss"]
"""The measure by which candidates are chosen, lower is better: the development users' MAE, in units
of the value, or 1 - nDCG@10 over the whole catalogue, of the items that they took or, for ratings,
liked."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate of a search, and its loss."""

    method: str
    """The name of the predictor."""
    config: dict[str, Any]
    """All its parameters, by name."""
    loss: float
    """The mean loss of the development users, lower is better."""
    measure: Measure = "dev_mae"
    """The measure that the loss is of."""


OnTrial = Callable[[Trial], None]


def unrecorded(_: Trial) -> None:
    """Do nothing with a trial."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """A kind of recommender and its candidates.

    A file in `recmeta.evaluation.baselines` ends with its own, as `BASELINE`; an entry point of the
    group `recmeta.baselines` leads to one.
    """

    name: str
    """Its name in reports, and the name of its predictors."""
    candidates: Callable[["BaselineSearch"], Sequence[Config]]
    """Returns the hyperparameters to try; they may depend on the choice of a simpler baseline. A
    single candidate is taken without a trial."""
    fit_all: Callable[["BaselineSearch", Tasks, Sequence[Config]], Iterator[Predictor]]
    """Fits one predictor after the other to the support and query rows of the same tasks, so that
    candidates may share work."""
    default: Callable[["BaselineSearch"], Config] | None = None
    """Returns the candidate that is taken without judges, or None for the first candidate."""
    refinements: tuple[Callable[["BaselineSearch", Config], Sequence[Config]], ...] = ()
    """Functions that return further candidates, given the best so far, stage after stage."""
    objectives: tuple[Objective, ...] = ("rating",)
    """The kinds of feedback that the baseline can learn from."""
    lists_only: bool = False
    """Whether it orders the catalogue and predicts no values, even for ratings. Its candidates are
    then chosen by their lists."""
    slow_lists: bool = False
    """Whether a score takes about ten microseconds, so that its lists are not measured on a large
    catalogue."""
    known_items_only: bool = False
    """Whether it knows nothing about items that no training user met."""
    reads_items: bool = False
    """Whether it reads the content of items, which a search then must have."""
    reads_texts: bool = False
    """Whether it reads the vectors of the items' texts."""
    library: str | None = None
    """The library that it needs besides the package's own dependencies: a module of the extra
    `accuracy`."""


def fixed(*configs: Config) -> Callable[["BaselineSearch"], Sequence[Config]]:
    """Return the `candidates` of a baseline that tries these configurations, whatever the data."""
    return lambda search: configs


def each(
    fit: Callable[["BaselineSearch", Tasks, Any], Predictor],
) -> Callable[["BaselineSearch", Tasks, Sequence[Config]], Iterator[Predictor]]:
    """Return the `fit_all` of a baseline whose candidates share no work."""
    return lambda search, train, configs: (fit(search, train, config) for config in configs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The candidate with the least loss."""

    config: Config
    predictor: Predictor | None = None
    """The predictor that was judged, or None without judges."""
    loss: float | None = None
    """The loss of the judges, or None without judges."""
    num_trials: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaselineSearch:
    """The data that baselines are fitted to, and the choices so far."""

    objective: Objective
    value_range: tuple[float, float]
    """The lowest and the highest value."""
    num_items: int
    taken_from: float | None = None
    """See `TaskSetSpec`."""
    train: Tasks
    """Meta-training tasks: candidates are fitted to their support and query rows."""
    judges: Tasks
    """Development tasks, whose query rows decide among candidates, see `Measure`. Without them,
    defaults are taken."""
    relevant_from: float | None = None
    """The smallest rating of an item that is relevant in lists, or None for 60 % up the value
    range."""
    everybody: Tasks | None = None
    """The tasks that the chosen candidate is fitted to again. If None, it stays as it was
    judged."""
    items: Items | None = None
    """The catalogue, for baselines that read its attributes."""
    history: ItemHistory | None = None
    """Every event that counts, for baselines that look back from a user's cut time. If None, they
    count the rows that they are fitted to."""
    grid: Grid = "gate"
    seed: int = 0
    """The seed of all random numbers."""
    on_trial: OnTrial = unrecorded
    """Called with each candidate that was tried, baseline by baseline."""
    _found: dict[Baseline, Chosen] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls, spec: TaskSetSpec, train: Tasks, judges: Tasks, seed: int, on_trial: OnTrial
    ) -> Self:
        """Return a search of the gate's candidates on the tasks of a task set."""
        return cls(
            objective=spec.objective,
            value_range=spec.value_range,
            num_items=spec.num_items,
            taken_from=spec.taken_from,
            train=train,
            judges=judges,
            seed=seed,
            on_trial=on_trial,
        )

    @property
    def is_judged(self) -> bool:
        """Whether there is a row to judge candidates by."""
        return len(self.judges.query.item) > 0

    @property
    def liked_from(self) -> float:
        """The smallest value of an item that is relevant in lists; minus infinity for implicit
        feedback."""
        if self.objective == "implicit":
            return -np.inf
        if self.relevant_from is not None:
            return self.relevant_from
        lowest, highest = self.value_range
        return lowest + RELEVANT_SHARE * (highest - lowest)

    def measure_of(self, baseline: Baseline) -> Measure:
        """Return the measure by which a baseline's candidates are chosen."""
        by_values = self.objective == "rating" and not baseline.lists_only
        return "dev_mae" if by_values else "dev_ranking_loss"

    def loss_of(self, baseline: Baseline, predictor: Predictor) -> float:
        """Return the judges' mean of the measure by which the baseline's candidates are chosen."""
        if self.measure_of(baseline) == "dev_mae":
            return mean_error(predictor, self.judges)
        judges = self.judges
        most = max(FEWEST_RANKED, min(MOST_RANKED, RANKED_SCORES // self.num_items))
        if self.grid == "gate" and len(judges) > most:
            judges = judges.take(np.linspace(0, len(judges) - 1, most).astype(np.int64))
        return ranking_loss(predictor, judges, self.num_items, self.liked_from)

    def catalogue(self) -> Items:
        """Return the items.

        Raises:
            UserError: if the search was not given them.
        """
        if self.items is None:
            raise UserError(
                "a baseline that reads what items are made of needs the items: give them, too."
            )
        return self.items

    def fitted(self, baseline: Baseline) -> Predictor:
        """Return a baseline with its best hyperparameters, fitted to all data that it may see.

        Raises:
            UserError: if it does not suit the feedback, its library is absent, or there is not a
                single row to learn from.
        """
        found = self.chosen(baseline)
        if found.predictor is not None and self.everybody is None:
            return found.predictor
        rows = self.train if self.everybody is None else self.everybody
        return next(iter(baseline.fit_all(self, rows, [found.config])))

    def chosen(self, baseline: Baseline) -> Chosen:
        """Return a baseline's best candidate, the first of equals. The result is cached.

        Raises:
            UserError: as for `fitted`.
        """
        if baseline not in self._found:
            self._found[baseline] = self._choose(baseline)
        return self._found[baseline]

    def _choose(self, baseline: Baseline) -> Chosen:
        self._check(baseline)
        if not self.is_judged and baseline.default is not None:
            return Chosen(config=baseline.default(self))
        configs = baseline.candidates(self)
        if not self.is_judged or len(configs) == 1:
            return Chosen(config=configs[0])
        best = min(self._tried(baseline, configs), key=_loss)
        num_trials = len(configs)
        for refine in baseline.refinements:
            further = refine(self, best.config)
            num_trials += len(further)
            best = min([best, *_best_of(self._tried(baseline, further))], key=_loss)
        return dataclasses.replace(best, num_trials=num_trials)

    def _tried(self, baseline: Baseline, configs: Sequence[Config]) -> Iterator[Chosen]:
        fits = baseline.fit_all(self, self.train, configs)
        for config, predictor in zip(configs, fits, strict=True):
            loss = self.loss_of(baseline, predictor)
            trial = Trial(
                method=baseline.name,
                config=flat(config),
                loss=loss,
                measure=self.measure_of(baseline),
            )
            self.on_trial(trial)
            yield Chosen(config=config, predictor=predictor, loss=loss)

    def _check(self, baseline: Baseline) -> None:
        if self.objective not in baseline.objectives:
            kind = "ratings" if self.objective == "rating" else "implicit feedback"
            raise UserError(
                f"the baseline {baseline.name!r} learns from feedback of the kind "
                f"{' or '.join(baseline.objectives)}, and these are {kind}: leave it out."
            )
        if not is_installed(baseline):
            raise UserError(
                f"the baseline {baseline.name!r} needs the library {baseline.library}, which is "
                f"not installed: {INSTALL}, or leave it out."
            )


INSTALL = "pip install 'recmeta[accuracy]'"
"""The command that installs the libraries of baselines."""


def is_installed(baseline: Baseline) -> bool:
    """Return whether the library that a baseline needs, if any, is installed."""
    return baseline.library is None or importlib.util.find_spec(baseline.library) is not None


def mean_error(predictor: Predictor, judges: Tasks) -> float:
    """Return the mean over the judges of MAE.

    Judges for whom it is undefined are left out. If it is undefined for all, the mean is infinite.
    """
    return _mean(mae(predictor.score_query(judges), judges.query))


def ranking_loss(
    predictor: Predictor, judges: Tasks, num_items: int, liked_from: float = -np.inf
) -> float:
    """Return the mean over the judges of `ranking_losses`; undefined losses are treated as in
    `mean_error`."""
    return _mean(ranking_losses(predictor, judges, num_items, liked_from))


def ranking_losses(
    predictor: Predictor, judges: Tasks, num_items: int, liked_from: float = -np.inf
) -> Float64Array:
    """Return (B,) 1 - nDCG@10 of the judges' lists from the whole catalogue, or NaN where it is
    undefined.

    Args:
        liked_from: the smallest value of a relevant query item.
    """
    found = ranking_of(predictor, judges, num_items, RANKING_K, liked_from)
    loss_B: Float64Array = 1.0 - found[f"ndcg@{RANKING_K}"]
    return loss_B


def _mean(value_B: Float64Array) -> float:
    return np.inf if np.isnan(value_B).all() else float(np.nanmean(value_B))


def _loss(found: Chosen) -> float:
    assert found.loss is not None, "only candidates that were judged are compared"
    return found.loss


def _best_of(found: Iterable[Chosen]) -> list[Chosen]:
    """Return the best of some candidates, if there are any, without keeping the others in
    memory."""
    best = min(found, key=_loss, default=None)
    return [] if best is None else [best]


def flat(config: Config, prefix: str = "") -> dict[str, Any]:
    """Return a configuration's values by name, those of configurations inside it by dotted name."""
    if not dataclasses.is_dataclass(config):
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_inner = dataclasses.is_dataclass(value)
        name = prefix + field.name
        found |= flat(value, f"{name}.") if is_inner else {name: value}
    return found
