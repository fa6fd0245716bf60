"""Meta-training, which turns a model at its start into a trained one."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from recmeta.evaluation.calibration import learn_uncertainty
from recmeta.evaluation.certificate import attribute_of, learn_certificate
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.outer_loop.processes import train
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.tasks.task_set import TaskSet
from recmeta.training.augmentation.generated import with_generated
from recmeta.training.config import MetaTrainConfig
from recmeta.training.levels import learn_levels
from recmeta.training.lists.learn import learn_lists
from recmeta.training.lists.parts import recounted
from recmeta.training.members import OnMember, judged_choice, train_members, unseen
from recmeta.training.start import Begun, TrainedMembers, at_start, best_of
from recmeta.workspace import Folder


class Trained(NamedTuple):
    """The result of training."""

    history: list[Epoch]
    best: Epoch
    """The epoch whose parameters were kept. Number 0 is the start, which has no training loss."""
    best_of_members: tuple[Epoch, ...]
    """The best epoch of each member that was trained before the model."""


def fit(
    config: MetaTrainConfig,
    begun: Begun,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    on_member: OnMember = unseen,
    on_members: Callable[[TrainedMembers], None] = lambda members: None,
    processes: int = 1,
) -> Trained:
    """Meta-train a model in place, its members first, and learn the probabilities of the levels of
    a rating, the uncertainty of predictions and the order of lists. If the start does better on the
    development users than every epoch, the model keeps the start.

    Args:
        begun: the result of `at_start` on the task set.
        folder: the folder of the checkpoints. If there are some already, training continues from
            them.
        on_member: called with every epoch of a member.
        on_members: called with the members once they are trained, before the model is.
        processes: the number of processes of this machine that share each outer gradient; the
            calling process does everything else.
    """
    model, development = begun.model, task_set.tasks("dev")
    if config.certificate is not None:  # refuses an unknown attribute before training
        attribute_of(development, config.certificate.attribute)
    learned_from = task_set
    if config.augment is not None:
        learned_from = with_generated(
            config.augment, task_set, model.device, folder, config.seed, processes
        )
    members = train_members(
        config, begun, learned_from, folder, on_member=on_member, processes=processes
    )
    on_members(members)
    start = {name: p.detach().clone() for name, p in model.params.items()}
    history = _train(config, begun, learned_from, folder, on_epoch, processes)
    best = best_of(model, start, history, development, config.training)
    # One thread, so that the number of threads does not decide the last bits of what is learned.
    with one_thread(model.device.type == "cpu"):
        if config.levels == "learned":
            model.levels = learn_levels(model, task_set, config.seed)
        model.uncertainty = learn_uncertainty(model, development)
    if config.lists == "learned":
        learned = learn_lists(model, task_set, config.seed, config.choices)
        if learned is not None:
            model.learned_lists = learned.head
            if config.certificate is not None:
                model.certificate = learn_certificate(
                    learned.without,
                    learned.development,
                    task_set.history(),
                    learned.head.half_life_days,
                    learned.liked_from,
                    config.certificate,
                )
    return Trained(history, best, members.best)


def _train(
    config: MetaTrainConfig,
    begun: Begun,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    processes: int,
) -> list[Epoch]:
    """Meta-train a model whose members are trained, in place."""
    return train(
        begun.model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        processes=processes,
        episodes=config.episodes,
        config=config.training,
        seed=config.seed,
        in_order=task_set.spec.temporal,
        checkpoint=folder,
        on_epoch=on_epoch,
        held=begun.held,
        left_out_KIF=begun.left_out_KIF,
    )


def refit(
    config: MetaTrainConfig,
    begun: Begun,
    trained: Trained,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    everybody: TaskSet | None = None,
    processes: int = 1,
) -> Model:
    """Return a model that is also trained on the development users: again from the start, for the
    number of epochs that was best without them. If there are no development users, it is the same
    model.

    Args:
        begun: the result of `at_start` on the task set, whose model `fit` has trained. If it has
            no `chosen` factorisation, the development users choose again.
        trained: the result of `fit`; if its best epoch is 0, the start itself is taken.
        folder: the folder of the model; the checkpoint is below it, and training continues from it.
        everybody: the users to train on, or None for the training and the development users.
        processes: see `fit`.
    """
    model = begun.model
    if not task_set.spec.num_tasks["dev"]:
        return model
    everybody = task_set.joined() if everybody is None else everybody
    again = at_start(
        config,
        everybody,
        model.device,
        begun.earlier,
        source=begun.source,
        tuned_on=task_set,
        chosen=begun.chosen,
    )
    folder = folder / "refit"
    epochs = [e.number for e in trained.best_of_members]
    train_members(config, again, everybody, folder, epochs, processes=processes)
    if trained.best.number:
        training = dataclasses.replace(config.training, epochs=trained.best.number)
        config = dataclasses.replace(config, training=training)
        _train(config, again, everybody, folder, on_epoch, processes)
    # These were learned from users on whom the learner was not trained.
    again.model.levels, again.model.certificate = model.levels, model.certificate
    if model.learned_lists is not None:
        again.model.learned_lists = recounted(
            model.learned_lists, again.model.encoder, everybody, config.seed, config.choices
        )
    return again.model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained model and the record of its training."""

    model: Model
    history: list[Epoch]
    """The epochs of the training that was judged by the development users."""
    best: Epoch
    """The epoch that they chose. Number 0 is the start."""
    num_passes: int
    """The number of all epochs, those of the refit included."""
    choice: dict[str, Any]
    """For a selector, the comparison of its choice with its members; otherwise empty."""


def fit_whole(
    config: MetaTrainConfig,
    begun: Begun,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    on_refit: Callable[[Epoch, int], None] = lambda epoch, num_epochs: None,
    on_member: OnMember = unseen,
    processes: int = 1,
) -> Fitted:
    """Train a model from its start to its end: `fit` and, if the configuration asks for it,
    `refit`.

    Args:
        begun: the result of `at_start`.
        folder: the folder of the checkpoints. If there are some already, training continues from
            them.
        on_refit: called after each epoch of the refit, with the number of epochs that there will
            be.
        on_member: called with every epoch of a member that is trained before the model.
        processes: see `fit`.
    """
    model = begun.model
    trained = fit(config, begun, task_set, folder, on_epoch, on_member, processes=processes)
    history, best = trained.history, trained.best
    choice = judged_choice(model, task_set.tasks("dev"), folder)
    num_passes = len(history)
    if config.refit:
        num_passes += best.number
        model = refit(
            config,
            begun,
            trained,
            task_set,
            folder,
            lambda epoch: on_refit(epoch, best.number),
            processes=processes,
        )
    return Fitted(model=model, history=history, best=best, num_passes=num_passes, choice=choice)
