"""The trials of a study of `recmeta tune`: what each one draws, and what became of it.

Optuna's module comes as an argument: it is an extra, and imported when a search begins.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from recmeta.config import merged, parse, to_dict
from recmeta.training.config import MetaTrainConfig
from recmeta.training.search_space import Space, nested

if TYPE_CHECKING:
    import optuna

LEARNER = "learner"
DIVERGED = "diverged"
AS_IT_IS = "as_it_is"
"""A trial's attribute: the learner whose untouched configuration it is."""
State = Literal["complete", "stopped", "diverged"]
STATES: tuple[State, ...] = ("complete", "stopped", "diverged")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A learner that is tuned."""

    config: MetaTrainConfig
    """Its configuration before it is tuned, which also gives the values that are not in the
    space."""
    space: Space


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndedTrial:
    """A trial, and what became of it."""

    values: dict[str, Any]
    """The values that it drew; only the learner if it is an unchanged configuration."""
    state: State
    epochs: int
    """How many epochs it was trained for."""
    loss: float | None
    """The loss of its best epoch; None if it diverged in the first one."""


def in_order_of(
    study: "optuna.Study", candidates: Mapping[str, Candidate]
) -> Mapping[str, Candidate]:
    """Return the candidates in the order in which the study has drawn among them. The same learners
    in another order are the same study, and Optuna refuses choices in another order."""
    for trial in study.trials:
        drawn: Any = trial.distributions.get(LEARNER)
        if drawn is not None:
            return {name: candidates[name] for name in drawn.choices}
    return candidates


def enqueue(optuna: Any, study: "optuna.Study", learners: list[str]) -> None:
    """Enqueue every learner's unchanged configuration first, and again the trial that was running
    when the study was killed."""
    known = {t.user_attrs[AS_IT_IS] for t in study.trials if AS_IT_IS in t.user_attrs}
    for learner in learners:
        if learner not in known:
            study.enqueue_trial({}, user_attrs={AS_IT_IS: learner})
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def drawn(
    trial: "optuna.Trial | optuna.trial.FrozenTrial", candidates: Mapping[str, Candidate]
) -> tuple[MetaTrainConfig, dict[str, Any]]:
    """Return the configuration that a trial stands for, and the values that it drew."""
    untouched = trial.user_attrs.get(AS_IT_IS)
    if untouched is not None:
        return candidates[untouched].config, {LEARNER: untouched}
    learner = trial.suggest_categorical(LEARNER, list(candidates))
    candidate = candidates[learner]
    values = {name: d.suggest(trial, f"{learner}/{name}") for name, d in candidate.space.items()}
    plain = to_dict(candidate.config)
    for name, value in values.items():
        plain = merged(plain, nested(name, value))
    return parse(MetaTrainConfig, plain, "train"), {LEARNER: learner, **values}


def num_ended(optuna: Any, study: "optuna.Study") -> int:
    """Return how many trials count: those that were killed are asked for again."""
    states = optuna.trial.TrialState
    return len(study.get_trials(deepcopy=False, states=[states.COMPLETE, states.PRUNED]))


def complete(optuna: Any, study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Return the trials that were trained to their end."""
    return study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])


def ended_trials(
    study: "optuna.Study", candidates: Mapping[str, Candidate]
) -> tuple[EndedTrial, ...]:
    """Return the trials that count, in their order."""
    state_of: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "stopped"}
    found = []
    for trial in study.trials:
        if trial.state.name not in state_of:
            continue
        # Optuna's value of a trial that was stopped is that of its last epoch.
        is_complete = trial.state.name == "COMPLETE"
        losses = trial.values if is_complete else list(trial.intermediate_values.values())
        found.append(
            EndedTrial(
                values=drawn(trial, candidates)[1],
                state="diverged" if DIVERGED in trial.user_attrs else state_of[trial.state.name],
                epochs=len(trial.intermediate_values),
                loss=min(losses, default=None),
            )
        )
    return tuple(found)
