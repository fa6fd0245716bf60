"""The evaluation of a model and of tuned baselines on cold users, whom the model never saw.

>>> import recmeta
>>> from recmeta.testing.synthetic import SyntheticConfig, generate
>>> log = generate(SyntheticConfig(num_users=200, num_items=30, rows_per_user=(5, 12)), seed=0)
>>> data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
>>> model = recmeta.fit(data, learner="bayesian-linear", epochs=1, progress=False)
>>> found = recmeta.evaluate(model, data, baselines=["item-mean"], progress=False)
>>> found
EvaluationResult(bayesian-linear: mae ... [..., ...] on ... cold users; item-mean: ...)
>>> found.to_frame().column_names
['predictor', 'metric', 'mean', 'ci_low', 'ci_high', 'num_users']
>>> found.curve.column_names
['predictor', 'shots', 'mean', 'ci_low', 'ci_high', 'num_users']
>>> sorted(found.metrics)
['bayesian-linear', 'item-mean']
"""

import dataclasses
from collections.abc import Collection
from typing import Any, Generic

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.api import origin as origins
from recmeta.api.data.dataset import Dataset, check_data
from recmeta.api.data.frames import FrameT, Kind, out
from recmeta.api.recommender import Recommender
from recmeta.errors import UserError
from recmeta.errors.causes import noted
from recmeta.evaluation.comparison.bootstrap import Interval
from recmeta.evaluation.comparison.gate import GateDecision
from recmeta.evaluation.evaluate import EvaluationConfig
from recmeta.evaluation.judgement import Judgement, JudgementConfig, gate, judge
from recmeta.evaluation.result import AdaptationCurve
from recmeta.reporting.picture import Picture
from recmeta.reporting.progress_bars import shown_progress

_CURVES = ("adaptation_curve", "list_curve")
_FIELDS = ("mean", "ci_low", "ci_high", "num_users")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationResult(Generic[FrameT]):
    """The results of a model and of baselines on the cold users."""

    judgement: Judgement
    """Everything that was measured, user by user."""
    gate: GateDecision
    """Whether the gate would promote the model if there were no champion, and why."""
    kind: Kind
    """The library of the frames that are returned."""

    def __repr__(self) -> str:
        found = self.judgement.evaluation
        metric, name = found.primary_metric, self.judgement.candidate
        own = found.intervals[name][metric]
        others = "".join(
            f"; {other}: {intervals[metric].mean:.3f}"
            for other, intervals in found.intervals.items()
            if other != name and metric in intervals
        )
        return (
            f"EvaluationResult({name}: {metric} {own.mean:.3f} [{own.ci_low:.3f}, "
            f"{own.ci_high:.3f}] on {own.num_users:,} cold users{others})"
        )

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Means by predictor and metric, such as `metrics["maml"]["mae"]`; docs/metrics.md explains
        them. The model also has metrics for the coverage of its intervals."""
        return self.judgement.metrics

    def to_frame(self) -> FrameT:
        """Return a row per predictor and metric: `predictor`, `metric`, `mean` over the cold users,
        its interval `ci_low` to `ci_high`, and `num_users` who have the metric."""
        rows = [
            ({"predictor": name, "metric": metric}, interval)
            for name, found in self.judgement.evaluation.intervals.items()
            for metric, interval in found.items()
        ]
        return self._out(rows)

    @property
    def curve(self) -> FrameT:
        """The adaptation curve, a row per predictor and number of shots: `predictor`, `shots`,
        `mean` of the primary metric, `ci_low`, `ci_high`, `num_users`. All points are of the same
        users.
        """
        return self._points(self.judgement.evaluation.curve)

    @property
    def list_curve(self) -> FrameT:
        """The adaptation curve of lists, in the same form; `mean` is that of `full_ndcg@k`. For
        ratings it covers at most 200 users, and the baselines that make lists."""
        return self._points(self.judgement.evaluation.list_curve)

    def per_user(self) -> FrameT:
        """Return a row per predictor and cold user with every metric, which is null where it is not
        defined."""
        found: FrameT = out(self.judgement.evaluation.per_user_table(), self.kind)
        return found

    def cold_users(self) -> FrameT:
        """Return the `user_id` of the cold users."""
        ids = pa.array(list(self.judgement.evaluation.user_id), pa.string())
        found: FrameT = out(pa.table({schema.USER_ID: ids}), self.kind)
        return found

    def plot(self) -> Picture:
        """Return a picture of the adaptation curves, which notebooks show.

        Raises:
            UserError: if Matplotlib is not installed.
        """
        from recmeta.reporting import plots

        found = self.judgement.evaluation.to_dict()
        curves = [found[name] | {"learned": [self.judgement.candidate]} for name in _CURVES]
        return Picture.drawn(lambda: plots.adaptation_curve(curves))

    def _points(self, curve: AdaptationCurve) -> FrameT:
        rows = [
            ({"predictor": name, "shots": shots}, interval)
            for name, points in curve.points.items()
            for shots, interval in zip(curve.shots, points, strict=True)
        ]
        return self._out(rows)

    def _out(self, rows: list[tuple[dict[str, Any], Interval]]) -> FrameT:
        plain = [keys | {name: getattr(i, name) for name in _FIELDS} for keys, i in rows]
        found: FrameT = out(pa.Table.from_pylist(plain), self.kind)
        return found


@noted()
def evaluate(
    model: Recommender[Any],
    data: Dataset[FrameT],
    *,
    baselines: Collection[str] | None = None,
    config: JudgementConfig | EvaluationConfig | None = None,
    progress: bool = True,
) -> EvaluationResult[FrameT]:
    """Measure a model on the cold users of a data set, whom `fit` never saw, together with
    baselines that are tuned on the development users.

    The model is shown the first interactions of each cold user, and predicts and ranks the next
    ones. `recmeta evaluate` calls the same functions.

    Args:
        model: a model from `fit`, or from `load` if `Recommender.save` wrote it.
        data: the data set that the model was fitted on, or one with none of its users. In the
            latter case, the model is measured on the users who would be held out.
        baselines: names of baselines, such as `["item-mean", "mf-fold-in"]`. If None, they are the
            default ones for the feedback. If empty, there are none.
        config: the metrics, shots and intervals; a `JudgementConfig` also configures the gate. If
            None, it is that of the model's configuration.
        progress: whether to show progress on standard error or in the notebook.

    Raises:
        UserError: if the model knows some users of a data set that it was not fitted on, a baseline
            is unknown, or the data set has no cold users.
    """
    check_data(data)
    if not isinstance(model, Recommender):
        raise UserError(
            f"the model is a {type(model).__name__}; it must come from recmeta.fit or recmeta.load."
        )
    origin, seen = model.origin, model.seen
    if origin is None or seen is None:
        raise UserError(
            "the model comes from a workspace, which knows what it was trained on: measure it "
            "there with `recmeta evaluate`, or look at open_workspace(…).metrics()."
        )
    _check_unseen(data, origin.data, seen)
    how = config if isinstance(config, JudgementConfig) else origin.evaluate
    if isinstance(config, EvaluationConfig):
        how = dataclasses.replace(how, evaluation=config)
    with shown_progress(shown=progress) as show:
        task_set = data.task_set(origin.tasks, show)
        if task_set.spec.objective != model.feedback:
            raise UserError(
                f"the data set is of {task_set.spec.objective} feedback and the model learned from "
                f"{model.feedback}: give feedback={model.feedback!r} where the Dataset is made."
            )
        found = judge(
            how.evaluation,
            task_set,
            model.model,
            None,
            baseline_names=how.baselines if baselines is None else tuple(baselines),
            progress=show,
        )
        decision = gate(how, found, has_champion=False)
        show("evaluate", 4, 4)
    return EvaluationResult(judgement=found, gate=decision, kind=data.kind)


def _check_unseen(
    data: Dataset[Any], fitted_on: str, seen: np.ndarray[Any, np.dtype[np.int64]]
) -> None:
    """Refuse data on which the model would be measured on users from whom it has learned."""
    if data.fingerprint == fitted_on:
        return
    users = data.user_ids()
    num_known = int(np.isin(origins.hashes(users), seen).sum())
    if num_known:
        raise UserError(
            f"the data set is not the one that the model was fitted on, and the model has learned "
            f"from {num_known:,} of its {len(users):,} users: evaluate it on the data of fit, or "
            "on other users."
        )
