"""The evaluation of a model and baselines on the cold users of a task set, and the gate's
decision."""

import dataclasses
from typing import Any

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation import certificate
from recmeta.evaluation.baseline import OnTrial, unrecorded
from recmeta.evaluation.baseline_parts.lists_of_ratings import makes_lists
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.calibration import calibration
from recmeta.evaluation.comparison.gate import GateConfig, GateDecision, Question, decide
from recmeta.evaluation.drawn_users import MOST_JUDGES, MOST_ROWS, Drawn, what_was_drawn
from recmeta.evaluation.evaluate import EvaluationConfig, evaluate
from recmeta.evaluation.fit_baselines import (
    BASELINES,
    baseline,
    fit_baselines,
    usual_baselines,
    what_was_left_out,
)
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.measure import Runner, here
from recmeta.evaluation.measuring.values import Values, describe
from recmeta.evaluation.predictor import Predictor
from recmeta.evaluation.result import Evaluation
from recmeta.metalearn.model import Model
from recmeta.progress import Progress, silent
from recmeta.tasks.task_set import TaskSet

PROGRESS = "evaluate"
BASELINES_OF = "training users for the baselines"
JUDGES = "development users for the choice among them"
CHAMPION = "champion"
MOST_SLOW_SCORES = 2**23
"""The most scores, of all cold users and items, for which the lists of a baseline with `slow_lists`
are measured, which takes a minute or two."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgementConfig:
    """What is measured, and what the gate requires."""

    baselines: tuple[str, ...] | None = None
    """The baselines that the report shows beside the model, and to which the model must not lose:
    names in `recmeta.evaluation.fit_baselines.BASELINES`, names of entry points
    `recmeta.baselines`, or paths `package.module:Object`. If not set, they are the default
    baselines for the feedback."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """The metrics, shots and intervals."""
    gate: GateConfig = GateConfig()
    """The paired tests that decide on promotion."""

    def __post_init__(self) -> None:
        for name in self.baselines or ():
            BASELINES.module_of(name)  # an unknown name is refused before anything runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """The results on the cold users."""

    evaluation: Evaluation
    """The evaluation of all predictors."""
    candidate: str
    """The name of the model that was judged."""
    baselines: tuple[str, ...]
    left_out: str | None
    """The sentence that says which default baselines were left out, because their library is not
    installed, or None if none was."""
    drawn: str | None
    """The sentence that says of which users only some were drawn, or None if of none."""
    calibration: dict[str, Any] | None
    """How well the candidate's uncertainty held, or None if it has none."""
    values: Values | None
    """The description of the ratings, or None for implicit feedback."""
    certificate: dict[str, Any] | None
    """The candidate's certificate with its results on the cold users, see
    `recmeta.evaluation.certificate`, or None if it has no certificate."""

    @property
    def held(self) -> dict[str, float]:
        """The coverage of the candidate's intervals, as metrics; empty if it has none."""
        rows = [] if self.calibration is None else self.calibration["coverage"]
        return {f"interval_coverage@{round(100 * r['level'])}": r["observed"] for r in rows}

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The means by predictor and metric; those of the candidate include `held`."""
        found = self.evaluation.metrics
        return {**found, self.candidate: {**found[self.candidate], **self.held}}


def judge(
    config: EvaluationConfig,
    task_set: TaskSet,
    candidate: Model,
    champion: Model | None,
    rival: Model | None = None,
    *,
    baseline_names: tuple[str, ...] | None = None,
    on_trial: OnTrial = unrecorded,
    progress: Progress = silent,
    run: Runner = here,
) -> Judgement:
    """Evaluate a model, the champion, a rival and tuned baselines on the cold users of a task set.

    Args:
        baseline_names: the baselines, or None for the default ones for the feedback.
        run: measures batches of users. The result does not depend on it.

    Raises:
        UserError: for an unknown baseline, or if there are no cold users.
    """
    items, statistics = task_set.items(), task_set.statistics()
    history = task_set.history()
    progress(PROGRESS, 0, 4)
    predictors: dict[str, Predictor] = {}
    models = {candidate.config.learner_name: candidate, CHAMPION: champion}
    if rival is not None:
        assert rival.config.learner_name not in models, "a rival is another learner"
        models[rival.config.learner_name] = rival
    for name, model in models.items():
        if model is not None:
            over = model.on(items, statistics, history)
            predictors[name] = LearnedPredictor(name, over, history)
    progress(PROGRESS, 1, 4)
    spec, seed = task_set.spec, config.seed
    values, how = None, config
    if spec.objective == "rating":
        values = describe(training_rows(task_set.tasks("train")).value, spec.value_range)
        if how.relevant_from is None:
            how = dataclasses.replace(how, relevant_from=values.relevant_from)
    usual, left_out = usual_baselines(spec.objective)
    names = usual if baseline_names is None else baseline_names
    fitted_to = Drawn.with_rows(task_set.tasks("train"), BASELINES_OF, MOST_ROWS, seed)
    refitted_to = None
    if spec.objective == "implicit":
        refitted_to = Drawn.with_rows(
            task_set.joined().tasks("train"), BASELINES_OF, MOST_ROWS, seed
        )
    judges = Drawn.at_most(task_set.tasks("dev"), JUDGES, MOST_JUDGES, seed)
    baselines = fit_baselines(
        spec,
        fitted_to.tasks,
        judges.tasks,
        seed,
        on_trial,
        names=names,
        items=items,
        history=history,
        relevant_from=how.relevant_from,
        everybody=None if refitted_to is None else refitted_to.tasks,
    )
    taken = [name for name in baselines if name in predictors]
    if taken:
        raise UserError(f"the baseline {taken[0]!r} has the name of a model here: leave it out.")
    progress(PROGRESS, 2, 4)
    cold = Drawn.at_most(task_set.tasks("test"), "cold users", config.most_users, seed)
    test, name = cold.tasks, candidate.config.learner_name
    slow = [one.name for one in map(baseline, names) if one.slow_lists]
    found = evaluate(
        {**predictors, **baselines},
        test,
        spec,
        how,
        statistics.num_users[-1].astype(np.int64),
        without_lists=slow if len(test) * spec.num_items > MOST_SLOW_SCORES else [],
        run=run,
        in_list_curve=[*predictors, *filter(lambda n: makes_lists(baselines[n]), baselines)],
    )
    judged = candidate.on(items, statistics)
    certified = None
    if candidate.certificate is not None:
        own = predictors[name]
        assert isinstance(own, LearnedPredictor), "the candidate is a model"
        certified = certificate.report(
            candidate.certificate,
            own,
            history,
            test,
            -np.inf if spec.objective == "implicit" else found.relevant_from,
            np.random.default_rng(seed),
        )
    return Judgement(
        evaluation=found,
        candidate=name,
        baselines=tuple(baselines),
        left_out=what_was_left_out(left_out) if left_out and baseline_names is None else None,
        drawn=what_was_drawn([cold, refitted_to or fitted_to, judges]),
        calibration=calibration(judged, test, task_set.tasks("dev"), np.random.default_rng(seed)),
        values=values,
        certificate=certified,
    )


def gate(config: JudgementConfig, judgement: Judgement, *, has_champion: bool) -> GateDecision:
    """Return the gate's decision on the candidate."""
    decision = decide(
        candidate=judgement.candidate,
        champion=CHAMPION if has_champion else None,
        questions=_questions(judgement.evaluation),
        baselines=judgement.baselines,
        config=config.gate,
        generator=np.random.default_rng(config.evaluation.seed),
    )
    if judgement.left_out is None:
        return decision
    return dataclasses.replace(decision, reasons=(*decision.reasons, judgement.left_out))


def _questions(found: Evaluation) -> list[Question]:
    """Return the gate's questions: how well ratings are predicted, if there are any, and how good
    lists are."""
    lists = Question(
        about="lists",
        metric=found.list_metric,
        lower_is_better=False,
        per_user=found.per_user_of(found.list_metric),
    )
    if found.objective == "implicit":
        return [lists]
    ratings = Question(
        about="predicted ratings",
        metric=found.primary_metric,
        lower_is_better=found.lower_is_better,
        per_user=found.per_user_of(found.primary_metric),
    )
    return [ratings, lists]
