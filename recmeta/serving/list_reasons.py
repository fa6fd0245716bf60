"""Why an item stands in a user's list rather than the list's other items.

What lists are ordered by is a sum (`ListHead`), and so is what each of the user's rows adds to it:
what it says by the tables of neighbours, at the weights and the scale of this user, what it does to
the log-odds that the user takes an item next, and what it does to the learner's output, both
exactly (`ChoiceHead.effects`, `output_effects`). An effect on an item is then taken
relative to the mean effect of the same row on all items of the list: a row that raises every item
alike is no reason for any of them. It is a difference of log-probabilities.

Legend: B users, k items of each list, N support rows of all users, I items.
"""

import numpy as np
import torch

from recmeta.metalearn.heads.list_head import CHOICES, ITEM, LEARNER, WEIGHT, ListHead
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import Support
from recmeta.metalearn.tensors.value_codes import profile_codes
from recmeta.serving.explanations import SupportEffects, output_effects
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.task_set import Tasks


@torch.no_grad()
def list_effects(
    scorer: Scorer,
    state: UserState,
    tasks: Tasks,
    item_Bk: IntArray,
    support: Support | None = None,
) -> SupportEffects:
    """Return what every support row adds to the order of the items in its user's list, relative to
    the mean over the list.

    Args:
        state: of the tasks' users.
        tasks: B users, with their known interactions as support.
        item_Bk: the lists; -1 where there is no item.
        support: from `scorer.support(tasks)`, if it is available.
    """
    found = output_effects(scorer, tasks, item_Bk, support, on_lists=True)
    lists, position_N = scorer.lists, tasks.support.position
    if WEIGHT not in state:  # of an earlier version
        profile_BW, _ = profile_codes(scorer.model.encoder, tasks.profile)
        state = {**state, **lists.state(tasks.support, profile_BW)}
    weight_BC = lists.weights((state[WEIGHT] != 0).sum(1))
    learner_N = weight_BC[:, lists.columns.index(LEARNER)].cpu().numpy()[found.user_N]
    effect_Nk = found.effect_Nk * learner_N[:, None]
    effect_Nk += _by_neighbours(lists, state, weight_BC, found.user_N, position_N, item_Bk)
    if CHOICES in lists.columns:
        choices_B1 = weight_BC[:, lists.columns.index(CHOICES), None].cpu().numpy()
        target_Bk = torch.from_numpy(np.maximum(item_Bk, 0)).to(weight_BC.device)
        by_choices_BSk = lists.choice_effects(state, target_Bk).cpu().numpy()
        effect_Nk += choices_B1[found.user_N] * by_choices_BSk[found.user_N, position_N]
    is_item_Nk = (item_Bk >= 0)[found.user_N]
    total_N1 = np.where(is_item_Nk, effect_Nk, 0).sum(1, keepdims=True)
    count_N1 = is_item_Nk.sum(1, keepdims=True)
    relative_Nk = effect_Nk - np.where(count_N1 > 1, total_N1 / np.maximum(count_N1, 1), 0)
    relative_Nk = np.where(is_item_Nk, relative_Nk, np.nan).astype(np.float32)
    return SupportEffects(found.score_Bk, relative_Nk, found.user_N)


def _by_neighbours(
    lists: ListHead,
    state: UserState,
    weight_BC: torch.Tensor,
    user_N: IntArray,
    position_N: IntArray,
    item_Bk: IntArray,
) -> Float32Array:
    """Return (N, k) what each row adds to its user's items by the tables of neighbours."""
    item_BS, weight_BS = state[ITEM], state[WEIGHT]
    user_n, place_n = torch.from_numpy(user_N), torch.from_numpy(position_N)
    source_N1 = item_BS[user_n, place_n][:, None]
    target_Nk = torch.from_numpy(np.maximum(item_Bk, 0)).to(source_N1.device)[user_n]
    total_Nk = weight_BS.new_zeros(target_Nk.shape)
    for column, name in enumerate(lists.columns):
        if name not in lists.tables:
            continue
        table = lists.tables[name]
        deviation_B = table.evidence(item_BS, weight_BS).std(1, correction=0).clamp(min=1e-9)
        share_B = weight_BC[:, column] / deviation_B
        counts_N = share_B[user_n] * weight_BS[user_n, place_n]
        total_Nk += counts_N[:, None] * table.strength(source_N1.expand_as(target_Nk), target_Nk)
    found: Float32Array = total_Nk.cpu().numpy()
    return found
