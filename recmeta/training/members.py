"""A selector's members: trained one by one before its gate, and judged beside its choice."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recmeta.evaluation.comparison.choice import judge_choice
from recmeta.metalearn.members import member, num_members, put_member
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import train
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.start import best_of, member_start
from recmeta.workspace import Folder


def train_members(
    members: Sequence[MetaTrainConfig],
    model: Model,
    task_set: TaskSet,
    folder: Folder,
    seed: int,
) -> None:
    """Train a selector's members, each as it is said, and give the selector their parameters.

    Args:
        members: none for a model that is no selector, or whose members learn along with its gate.
        folder: of the selector's checkpoint; theirs are below it, and training goes on from them.
    """
    for number, how in enumerate(members):
        part = member(model, number)
        start = member_start(dataclasses.replace(how, seed=seed), part, task_set)
        part.params = start.params
        development = task_set.tasks("dev")
        history = train(
            part,
            task_set.tasks("train"),
            development,
            episodes=how.episodes,
            config=how.training,
            seed=seed,
            in_order=task_set.spec.temporal,
            checkpoint=folder / f"members/{number}",
            left_out_KIF=start.left_out_KIF,
        )
        best_of(part, start.params, history, development, how.training)
        put_member(model, number, part)


def judged_choice(model: Model, development: Tasks, folder: Folder) -> dict[str, Any]:
    """Write what a selector's choice is worth on development tasks into choice.json, and return the
    heart of it; nothing of a model that does not choose, or without tasks."""
    if not num_members(model) or len(development) == 0:
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
