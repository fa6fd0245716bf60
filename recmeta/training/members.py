"""A learner's members, which are trained one by one before it. Those of a selector are compared
with its choice."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from recmeta.evaluation.comparison.choice import judge_choice
from recmeta.metalearn.algorithms.combined.selector import SelectorConfig
from recmeta.metalearn.member_config import as_member, of_member
from recmeta.metalearn.members import member, put_member
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.processes import train
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.start import Begun, TrainedMembers, best_of
from recmeta.workspace import Folder

OnMember = Callable[[str, int, Epoch], None]
"""Called with an epoch of a member: its algorithm, the most epochs that there will be, the
epoch."""


def unseen(algorithm: str, num_epochs: int, epoch: Epoch) -> None:
    """Ignore an epoch."""


def train_members(
    config: MetaTrainConfig,
    begun: Begun,
    task_set: TaskSet,
    folder: Folder,
    epochs: Sequence[int] | None = None,
    on_member: OnMember = unseen,
    processes: int = 1,
) -> TrainedMembers:
    """Train the members of a model, each by its own configuration, and give the model their
    parameters. Members that came trained stay as they are.

    Args:
        config: the configuration of the model. If it has no members, those of its learner are
            trained together with it.
        begun: the model at its start.
        folder: the folder of the model's checkpoint. Those of the members are below it, and
            training continues from them.
        epochs: the number of epochs of each member, 0 for one that keeps its start, or None for the
            numbers that are best on the development users.
        on_member: called with every epoch of a member.
        processes: the number of processes that share each outer gradient.
    """
    if begun.trained is not None:
        return begun.trained
    model, development, kept = begun.model, task_set.tasks("dev"), []
    for number, (how, given) in enumerate(zip(config.members, begun.members, strict=True)):
        training = how.training
        if epochs is not None:
            training = dataclasses.replace(training, epochs=epochs[number])
        part = member(model, number)
        start = {name: p.detach().clone() for name, p in part.params.items()}
        history = train(
            part,
            task_set.tasks("train"),
            development,
            processes=processes,
            episodes=how.episodes,
            config=training,
            seed=config.seed,
            in_order=task_set.spec.temporal,
            checkpoint=folder / f"members/{number}",
            on_epoch=functools.partial(on_member, how.model.algorithm, training.epochs),
            held=given.held,
            left_out_KIF=given.left_out_KIF,
        )
        kept.append(best_of(part, start, history, development, training))
        put_member(model, number, part)
    # A copy, since a learner may go on training them.
    params = {
        name: p.detach().clone()
        for number in range(len(kept))
        for name, p in as_member(number, of_member(number, model.params)).items()
    }
    return TrainedMembers(params, tuple(kept), begun.chosen)


def judged_choice(model: Model, development: Tasks, folder: Folder) -> dict[str, Any]:
    """Write the comparison of a selector's choice with its members on development tasks to
    choice.json, and return its main figures. Do nothing for a model without a selector, or without
    tasks."""
    if not isinstance(model.config.learner, SelectorConfig) or len(development) == 0:
        return {}
    report = judge_choice(model, development).to_dict()
    folder.write_json("choice.json", report)
    gain = report["chosen_less_best"]
    return {
        "best_member": report["best_member"],
        "best_member_loss": report["members"][report["best_member"]],
        "oracle_loss": report["oracle"],
        "choice_less_best_member": [gain[end] for end in ("mean", "ci_low", "ci_high")],
    }
