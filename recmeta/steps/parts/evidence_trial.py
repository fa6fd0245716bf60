"""Ask held-out users as each strategy would, and measure what the answers are worth.

A user answers only about items that they really rated, and knows no others. A question about an
item that few people know is therefore mostly wasted, and questions are counted whether they are
answered or not.

Legend: U users, P points of the curve.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals, paired_difference
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.logs import tables
from recmeta.manifest import Manifest
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.progress import Progress, silent
from recmeta.serving.evidence.fitting import at_the_end, counted
from recmeta.serving.evidence.interview import Interview, interview
from recmeta.serving.evidence.query_loss import query_loss
from recmeta.serving.evidence.questionnaire import Questionnaire
from recmeta.serving.evidence.respondents import Respondents, respondents
from recmeta.tasks.arrays import Float64Array, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.workspace import Workspace

CONTROL = "popularity"
METRICS = ("mae", "ndcg", "answers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """How strategies are tried."""

    questions: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30)
    """Numbers of questions after which accuracy is measured."""
    answers: tuple[int, ...] = (0, 1, 2, 3, 5, 10)
    """Numbers of answers after which accuracy is measured."""
    ndcg_k: int = 5
    """Cut-off of nDCG over a user's own query rows."""
    query_share: float = 0.3
    """Share of a user's ratings that is to be predicted, the same for all strategies; the other
    ratings are possible answers."""
    most_query: int = 20
    """The most ratings of a user that are to be predicted."""
    most_users: int = 300
    """The most held-out users who are asked; further ones are left out at random."""
    num_draws: int = 5
    """How often the ratings to be predicted are drawn; a user's numbers are means over these
    draws."""
    num_resamples: int = 2000
    """Bootstrap resamples of users."""
    confidence: float = 0.95
    """Level of the intervals."""
    seed: int = 0
    """The seed of the ratings to be predicted, and of resamples."""

    def __post_init__(self) -> None:
        for name in ("questions", "answers"):
            points = getattr(self, name)
            if not points or list(points) != sorted(set(points)) or points[0] < 0:
                raise ValueError(f"{name} is {points}; it must rise, from 0 or more.")
        if max(self.questions) < 1:
            raise ValueError(f"questions is {self.questions}; it must have one above 0.")
        if not 0 < self.query_share < 1:
            raise ValueError(f"query_share is {self.query_share}; it must be between 0 and 1.")
        for name in ("most_users", "num_draws", "num_resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclasses.dataclass(frozen=True)
class StrategyTrial:
    """The results of asking by each strategy."""

    config: TrialConfig
    num_users: int
    by_questions: dict[str, dict[str, Float64Array]]
    """(U, P) the metric after a number of questions, by strategy and metric."""
    by_answers: dict[str, Float64Array]
    """(U, P) the MAE after a number of answers, by strategy; NaN for users who gave fewer."""

    def to_dict(self) -> dict[str, Any]:
        """Return means over users with intervals, and the difference to popularity, JSON-ready."""
        return {
            "num_users": self.num_users,
            "confidence": self.config.confidence,
            "questions": list(self.config.questions),
            "answers": list(self.config.answers),
            "ndcg_k": self.config.ndcg_k,
            "strategies": {
                name: {
                    "by_questions": {m: self._intervals(v) for m, v in found.items()},
                    "mae_less_popularity": self._differences(name),
                    "by_answers": self._intervals(self.by_answers[name]),
                }
                for name, found in self.by_questions.items()
            },
        }

    def _intervals(self, values_UP: Float64Array) -> list[dict[str, Any]]:
        generator = np.random.default_rng(self.config.seed)
        found = mean_intervals(
            values_UP, generator, self.config.num_resamples, self.config.confidence
        )
        return [_plain(i) for i in found]

    def _differences(self, name: str) -> list[dict[str, Any]]:
        generator = np.random.default_rng(self.config.seed)
        own_UP, control_UP = (self.by_questions[n]["mae"] for n in (name, CONTROL))
        return [
            _plain(
                paired_difference(
                    own_UP[:, p],
                    control_UP[:, p],
                    generator,
                    self.config.num_resamples,
                    self.config.confidence,
                )
            )
            for p in range(own_UP.shape[1])
        ]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Users whom the model has not seen, with all their ratings."""

    users: Tasks
    rows: Ragged

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        tasks: Manifest[Any],
        users: Tasks,
        model: Model,
        config: TrialConfig,
    ) -> "HeldOut":
        """Return development or test users, as a model meets them at the end of its log.

        Args:
            tasks: of build-tasks; the log is read as it stood then.
        """
        _, first = np.unique(users.user_id, return_index=True)  # one may have tasks in two states
        drawn = np.random.default_rng(config.seed).permutation(first)[: config.most_users]
        users = users.take(np.sort(drawn))
        rows = counted(_all_rows(workspace, tasks, users, model), False)
        return cls(at_the_end(users, model), rows)

    def draws(self, config: TrialConfig) -> Iterator[Respondents]:
        """Yield the users with a part of their ratings to be predicted and the rest as answers,
        drawn anew every time."""
        for generator in np.random.default_rng(config.seed).spawn(config.num_draws):
            yield respondents(
                self.users,
                self.rows,
                generator,
                query_share=config.query_share,
                most_query=config.most_query,
            )[0]


def try_strategies(
    model: Model,
    questionnaire: Questionnaire,
    names: tuple[str, ...],
    held_out: HeldOut,
    config: TrialConfig,
    progress: Progress = silent,
) -> StrategyTrial:
    """Ask people by each strategy.

    Args:
        model: of `as_training_users_left_it`.
        names: of strategies that apply to the model.
    """
    by_questions, by_answers = {}, {}
    for number, name in enumerate(names):
        progress("asking", number, len(names))
        strategy = questionnaire.strategy(name, model)
        asked, answered = [], []
        for people in held_out.draws(config):
            held = interview(strategy, questionnaire.candidates, people, max(config.questions))
            asked.append(_after_questions(model, held, config))
            answered.append(_after_answers(model, held, config))
        by_questions[name] = {m: np.mean([one[m] for one in asked], axis=0) for m in METRICS}
        by_answers[name] = _mean_of_present(np.stack(answered))
    progress("asking", len(names), len(names))
    return StrategyTrial(config, len(by_answers[names[0]]), by_questions, by_answers)


def mean_error(
    model: Model, questionnaire: Questionnaire, name: str, held_out: HeldOut, config: TrialConfig
) -> float:
    """Return the MAE of a strategy, averaged over users, numbers of questions and draws, by which
    strategies are chosen."""
    strategy = questionnaire.strategy(name, model)
    errors = []
    for people in held_out.draws(config):
        held = interview(strategy, questionnaire.candidates, people, max(config.questions))
        points = [n for n in config.questions if n > 0]
        errors += [query_loss(model, held.after_questions(n)).mean() for n in points]
    return float(np.mean(errors))


def _mean_of_present(values_DUP: Float64Array) -> Float64Array:
    """Return (U, P) the mean over the draws that have a value; NaN if none has."""
    num_UP = (~np.isnan(values_DUP)).sum(0)
    total_UP = np.nansum(values_DUP, 0)
    mean_UP = np.full(total_UP.shape, np.nan)
    np.divide(total_UP, num_UP, out=mean_UP, where=num_UP > 0)
    return mean_UP


def _after_questions(model: Model, held: Interview, config: TrialConfig) -> dict[str, Float64Array]:
    scorer = Scorer.of(model)
    found: dict[str, list[Float64Array]] = {name: [] for name in METRICS}
    for num_questions in config.questions:
        tasks = held.after_questions(num_questions)
        predicted = scorer.predict_query_values(tasks)
        lowest = model.value_range[0]
        found["mae"].append(mae(predicted.value, tasks.query))
        found["ndcg"].append(ndcg(predicted.order, tasks.query, config.ndcg_k, "linear", lowest))
        found["answers"].append(tasks.support.lengths.astype(np.float64))
    return {name: np.stack(columns, 1) for name, columns in found.items()}


def _after_answers(model: Model, held: Interview, config: TrialConfig) -> Float64Array:
    scorer, columns = Scorer.of(model), []
    for num_answers in config.answers:
        tasks, enough_U = held.after_answers(num_answers)
        mae_U = mae(scorer.score_query(tasks), tasks.query)
        columns.append(np.where(enough_U, mae_U, np.nan))
    return np.stack(columns, 1)


def _all_rows(workspace: Workspace, tasks: Manifest[Any], users: Tasks, model: Model) -> Ragged:
    """Return every user's first rating of each item, in the order of time."""
    version = tasks.inputs[schema.INTERACTIONS.name]
    table = tables.opened(workspace, schema.INTERACTIONS, version)
    events = tasks.config["split"]["events"] or [schema.RATING_EVENT]
    numbered_users = pl.LazyFrame(
        {schema.USER_ID: users.user_id, "user": np.arange(len(users), dtype=np.int64)}
    )
    item_id = pl.Series(model.catalogue.items.item_id)
    numbered_items = pl.LazyFrame(
        {schema.ITEM_ID: item_id, "item": np.arange(len(item_id), dtype=np.int32)}
    )
    rows = (
        pl.scan_delta(table)
        .filter(pl.col(schema.EVENT).is_in(events))
        .join(numbered_users, on=schema.USER_ID)
        .join(numbered_items, on=schema.ITEM_ID)
        .sort("user", schema.TIMESTAMP, "item", schema.EVENT, schema.VALUE)
        .unique(["user", "item"], keep="first", maintain_order=True)
        .select("user", "item", pl.col(schema.VALUE).cast(pl.Float32))
        .collect()
    )
    lengths = np.bincount(rows["user"].to_numpy(), minlength=len(users))
    return Ragged(
        offsets_of(lengths),
        rows["item"].to_numpy(),
        rows[schema.VALUE].to_numpy(),
        np.zeros(len(rows), np.bool_),
    )


def _plain(interval: Interval) -> dict[str, Any]:
    found = dataclasses.asdict(interval)
    return {name: v if np.isfinite(v) else None for name, v in found.items()}
