"""Meta-training: a model at its start becomes a trained one."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from recmeta.evaluation.calibration import learn_uncertainty
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import Epoch, train
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.levels import learn_levels
from recmeta.training.lists import learn_lists, recounted
from recmeta.training.members import judged_choice, train_members
from recmeta.training.start import Begun, at_start, best_of
from recmeta.workspace import Folder


class Trained(NamedTuple):
    """What training brought."""

    history: list[Epoch]
    best: Epoch
    """The epoch whose parameters were kept; number 0 is the start, which has no training loss."""


def fit(
    config: MetaTrainConfig,
    begun: Begun,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    """Meta-train a model in place, a selector's members first, and learn how likely each level of a
    rating is, how far predictions are off and what lists are ordered by. A start that does better
    on the development users than every epoch is what the model keeps.

    Args:
        begun: what `at_start` gives on the task set.
        folder: of the checkpoints. Where there are some already, training goes on from them.
    """
    model, development = begun.model, task_set.tasks("dev")
    train_members(config.members, model, task_set, folder, config.seed)
    start = {name: p.detach().clone() for name, p in model.params.items()}
    history = train(
        model,
        task_set.tasks("train"),
        development,
        episodes=config.episodes,
        config=config.training,
        seed=config.seed,
        in_order=task_set.spec.temporal,
        checkpoint=folder,
        on_epoch=on_epoch,
        held=begun.held,
        left_out_KIF=begun.left_out_KIF,
    )
    best = best_of(model, start, history, development, config.training)
    model.levels = learn_levels(model, task_set, config.seed)
    model.uncertainty = learn_uncertainty(model, development)
    if config.lists == "learned":
        model.learned_lists = learn_lists(model, task_set, config.seed, config.choices)
    return Trained(history, best)


def refit(
    config: MetaTrainConfig,
    model: Model,
    best: Epoch,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    earlier: Model | None = None,
    source: Model | None = None,
    everybody: TaskSet | None = None,
    chosen: WeightedALSConfig | None = None,
) -> Model:
    """Return a model that has learned from the development users, too: from the start again, for as
    many epochs as were best without them. Where there are none, it is the same model.

    Args:
        model: trained by `fit` on the task set.
        best: its best epoch; of 0, the start itself is taken.
        folder: of the model; the checkpoint is below it, and training goes on from it.
        earlier: the model that training went on from, where there was one.
        source: what `content_source` gives.
        everybody: whom to train on; None: the training and the development users.
        chosen: `Begun.chosen` of the model; None: the development users choose again.
    """
    if not task_set.spec.num_tasks["dev"]:
        return model
    everybody = task_set.joined() if everybody is None else everybody
    again = at_start(
        config,
        everybody,
        model.device,
        earlier,
        source=source,
        tuned_on=task_set,
        chosen=chosen,
    )
    if best.number:
        training = dataclasses.replace(config.training, epochs=best.number)
        config = dataclasses.replace(config, training=training)
        fit(config, again, everybody, folder / "refit", on_epoch)
    again.model.levels = model.levels  # learned of users on whom the learner was not trained
    if model.learned_lists is not None:
        again.model.learned_lists = recounted(
            model.learned_lists, everybody, config.seed, config.choices
        )
    return again.model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained model and how it came to be."""

    model: Model
    history: list[Epoch]
    """Of the training whose epochs the development users judged."""
    best: Epoch
    """The epoch that they chose; number 0 is the start."""
    num_passes: int
    """Epochs in all, those of the refit included."""
    choice: dict[str, Any]
    """Of a selector: what its choice is worth; else empty."""


def fit_whole(
    config: MetaTrainConfig,
    begun: Begun,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    on_refit: Callable[[Epoch, int], None] = lambda epoch, num_epochs: None,
    earlier: Model | None = None,
    source: Model | None = None,
) -> Fitted:
    """Train a model from its start to its end: `fit` and, where the configuration asks for it,
    `refit`.

    Args:
        begun: from `at_start`.
        folder: of the checkpoints. Where there are some already, training goes on from them.
        on_refit: called after each epoch of the refit, with how many there will be.
        earlier: the model that training went on from, where there was one.
        source: the model whose content this one started from.
    """
    model = begun.model
    history, best = fit(config, begun, task_set, folder, on_epoch)
    choice = judged_choice(model, task_set.tasks("dev"), folder)
    num_passes = len(history)
    if config.refit:
        num_passes += best.number
        model = refit(
            config,
            model,
            best,
            task_set,
            folder,
            lambda epoch: on_refit(epoch, best.number),
            earlier,
            source,
            chosen=begun.chosen,
        )
    return Fitted(model=model, history=history, best=best, num_passes=num_passes, choice=choice)
