"""The parts of a `ListHead` that come from the training users' rows: tables of items that predict
others, and the head that predicts what an adapted user takes next.
"""

import dataclasses

import torch

from recmeta.metalearn.heads.choice_head import ChoiceHead
from recmeta.metalearn.heads.list_head import ATTRIBUTES, ListHead, Table
from recmeta.metalearn.heads.neighbours import taken_next, taken_together
from recmeta.metalearn.heads.shared_attributes import SharedAttributes, attribute_codes
from recmeta.metalearn.tensors.encoding import Encoder
from recmeta.metalearn.tensors.value_codes import profile_codes
from recmeta.tasks.task_set import Ragged, TaskSet
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.choices.learn import ChoiceData, Profiles, meta_learned

TOGETHER, NEXT = "together", "next"
NUM_NEIGHBOURS = 100
NO_CHOICES = ChoiceConfig(epochs=0)


def choice_head(
    config: ChoiceConfig,
    encoder: Encoder,
    task_set: TaskSet,
    seed: int,
    device: torch.device,
    epochs: int | None = None,
) -> ChoiceHead | None:
    """Return the meta-learned head of what training users took next, or None if it is not
    configured.

    Args:
        epochs: the number of passes, or None for the number that is best on the development users.
    """
    spec, development = task_set.spec, task_set.tasks("dev")
    if not config.epochs:
        return None
    judges = development if epochs is None else task_set.tasks("train")
    taken = dataclasses.replace(
        development,
        support=development.support.taken(spec.taken_from),
        query=development.query.taken(spec.taken_from),
    )
    train_UW, field_V = profile_codes(encoder, task_set.tasks("train").profile)
    judged_BW, _ = profile_codes(encoder, development.profile)
    data = ChoiceData(
        rows=taken_rows(task_set),
        judges=None if epochs is not None else taken,
        profiles=Profiles(train_UW, judged_BW, len(field_V)),
        num_items=spec.num_items,
        value_range=spec.value_range if spec.objective == "rating" else None,
        in_order=spec.temporal,
        num_next=int(judges.query.lengths.max(initial=1)),
    )
    return meta_learned(data, config, seed, device, epochs)


def recounted(
    head: ListHead,
    encoder: Encoder,
    task_set: TaskSet,
    seed: int,
    choices: ChoiceConfig = NO_CHOICES,
) -> ListHead:
    """Return the head with its tables counted again from a task set's training users, and with its
    `ChoiceHead` trained on them again, for the same number of passes.

    Args:
        encoder: the encoder of the model that will have the head.
    """
    tables = neighbour_tables(encoder, task_set, head.horizon, seed)
    device = head.count_I.device
    learned = head.choices
    if learned is not None:
        learned = choice_head(choices, encoder, task_set, seed, device, learned.epochs)
    return dataclasses.replace(
        head,
        tables={name: tables[name].to(device) for name in head.tables},
        choices=learned,
    )


def neighbour_tables(
    encoder: Encoder, task_set: TaskSet, horizon: int | None, seed: int
) -> dict[str, Table]:
    """Return the tables of how strongly items predict others, counted from training users' rows.

    Args:
        encoder: knows the items' attributes.
        horizon: the number of rows that an episode spans, or None if rows have no order.
    """
    rows, num_items = taken_rows(task_set), task_set.spec.num_items
    first = None if horizon is None else 2 * horizon
    found: dict[str, Table] = {
        TOGETHER: taken_together(rows, num_items, NUM_NEIGHBOURS, first, seed)
    }
    if horizon is not None:
        found[NEXT] = taken_next(rows, num_items, NUM_NEIGHBOURS, horizon, seed)
    codes = attribute_codes(encoder, task_set.items())
    if codes is not None:
        code_IW, field_V = codes
        some = rows if first is None else rows.first(first)
        found[ATTRIBUTES] = SharedAttributes.counted(code_IW, field_V, some)
    return found


def training_rows(task_set: TaskSet) -> Ragged:
    """Return the support and query rows of the training users."""
    train = task_set.tasks("train")
    return train.rows


def taken_rows(task_set: TaskSet) -> Ragged:
    """Return the rows of the training users whose items were taken."""
    return training_rows(task_set).taken(task_set.spec.taken_from)
