"""The order of lists as a graph: what `recmeta.metalearn.heads.list_head` computes, of one user.

Legend: R known rows (padded), I items, N neighbours of an item (padded), W values of an item
(padded), V values, D numbers of a choice vector, K knots, C columns.
"""

import numpy as np
import torch

from recmeta.exporting.graph import Graph, Value
from recmeta.exporting.known_user import KnownUser, array, number, value_codes_of
from recmeta.metalearn.heads import choice_head, list_head
from recmeta.metalearn.heads.choice_head import ChoiceHead
from recmeta.metalearn.heads.list_head import ListHead
from recmeta.metalearn.heads.neighbours import Neighbours
from recmeta.metalearn.heads.shared_attributes import SharedAttributes
from recmeta.metalearn.tensors.encoding import Field


def order_of_lists(
    head: ListHead, user: KnownUser, learner_I: Value, fields: tuple[Field, ...]
) -> Value:
    """Return (I,) what lists are ordered by.

    Args:
        learner_I: what the learner says of every item.
        fields: of the profile.
    """
    graph = user.graph
    weight_R = _row_weights(head, user)
    is_told_R = ~weight_R.equals(0.0)
    weight_C = _weights(graph, head, is_told_R.to(np.float32).sum(0, keeps=True))
    columns = {list_head.LEARNER: learner_I}
    for name in head.columns:
        if name == list_head.POPULARITY:
            log_count_I = (head.count_I + head.offset).log().cpu().numpy()
            columns[name] = graph.constant(log_count_I, "items.log_count")
        elif name in head.tables:
            evidence_I = _evidence(head, name, user.item_R, weight_R, graph)
            columns[name] = _standardised(graph, evidence_I)
    if head.choices is not None:
        before_D, after_D = _choice_users(head, head.choices, user, fields)
        params = head.choices.params
        predicts_ID = graph.constant(array(params, choice_head.PREDICTS), "choices.predicts")
        popularity_I = graph.constant(array(params, choice_head.POPULARITY), "choices.popularity")
        columns[list_head.CHOICES] = popularity_I + predicts_ID @ after_D
        columns[list_head.CHOICES_BEFORE] = popularity_I + predicts_ID @ before_D
    score_I: Value | None = None
    for place, name in enumerate(head.columns):
        weighted_I = weight_C.rows(graph.integers([place])) * columns[name]
        score_I = weighted_I if score_I is None else score_I + weighted_I
    assert score_I is not None, "lists read the learner at least"
    return score_I


def _row_weights(head: ListHead, user: KnownUser) -> Value:
    """Return (R,) the weights of rows in the tables; 0 of padding and of rows that say nothing."""
    if head.centre is None:
        return _is_taken(head, user).to(np.float32)
    weight_R = user.given_R - head.centre
    small = user.graph.number(1e-6, np.float32)
    weight_R = user.graph.where(weight_R.equals(0.0), small, weight_R)
    return user.graph.where(user.is_known_R, weight_R, 0.0)


def _is_taken(head: ListHead, user: KnownUser) -> Value:
    """Return (R,) which rows say that an item was taken."""
    if head.taken_from is None:
        return user.is_known_R
    return user.is_known_R & (user.given_R >= head.taken_from)


def _weights(graph: Graph, head: ListHead, num_rows_1: Value) -> Value:
    """Return (C,) the columns' weights, piecewise linear in log(1 + rows)."""
    knot_K = np.log1p(np.array(list_head.KNOTS, np.float64))
    weight_KC = head.weight_KC.detach().cpu().double().numpy()
    at_1 = graph.op("Log", num_rows_1.to(np.float64) + 1.0)
    found = graph.constant(weight_KC[0])
    for first in range(len(knot_K) - 1):
        length = float(knot_K[first + 1] - knot_K[first])
        share_1 = ((at_1 - float(knot_K[first])) / length).clipped(0.0, 1.0)
        found = found + share_1 * graph.constant(weight_KC[first + 1] - weight_KC[first])
    return found.to(np.float32)


def _evidence(head: ListHead, name: str, item_R: Value, weight_R: Value, graph: Graph) -> Value:
    """Return (I,) what the rows say of every item by a table."""
    table = head.tables[name]
    if isinstance(table, Neighbours):
        source_IN, strength_IN = by_target(table)
        weight_I = graph.added_at(table.num_items, item_R, weight_R)
        strength = graph.constant(strength_IN, f"{name}.strength")
        return (weight_I.rows(graph.constant(source_IN, f"{name}.source")) * strength).sum(1)
    return _shared_values(table, item_R, weight_R, graph)


def _shared_values(table: SharedAttributes, item_R: Value, weight_R: Value, graph: Graph) -> Value:
    code_IW = graph.constant(table.code.cpu().numpy(), "items.codes")
    weight_V = table.weight.cpu().numpy()
    value_RW = code_IW.rows(item_R)
    counts_RW = 0.0 * value_RW.to(np.float32) + weight_R.reshaped(-1, 1)
    says_V = graph.added_at(len(weight_V), value_RW.reshaped(-1), counts_RW.reshaped(-1))
    says_V = says_V * graph.constant(weight_V, "values.weight")
    return says_V.rows(code_IW).sum(1)


def by_target(
    table: Neighbours,
) -> tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.int32]],
    np.ndarray[tuple[int, ...], np.dtype[np.float32]],
]:
    """Return a table by the items that are spoken for: for each, which items do and how strongly,
    (I, N) both; strength 0 where there are no more."""
    target = table.item.cpu().numpy()
    source = np.repeat(np.arange(table.num_items), table.offsets.diff().cpu().numpy())
    order = np.argsort(target, kind="stable")
    lengths = np.bincount(target, minlength=table.num_items)
    first = np.cumsum(lengths) - lengths
    place = np.arange(len(target)) - first[target[order]]
    source_IN = np.zeros((table.num_items, max(int(lengths.max(initial=0)), 1)), np.int32)
    strength_IN = np.zeros(source_IN.shape, np.float32)
    source_IN[target[order], place] = source[order]
    strength_IN[target[order], place] = table.weight.cpu().numpy()[order]
    return source_IN, strength_IN


def _standardised(graph: Graph, evidence_I: Value) -> Value:
    """Return evidence with mean 0 and standard deviation 1 over the catalogue."""
    centred_I = evidence_I - evidence_I.mean()
    deviation_1 = graph.op("Sqrt", (centred_I * centred_I).mean())
    return centred_I / deviation_1.clipped(1e-9)


def _choice_users(
    head: ListHead, choices: ChoiceHead, user: KnownUser, fields: tuple[Field, ...]
) -> tuple[Value, Value]:
    """Return (D,) the user of the choice head before and after the inner steps."""
    graph, params = user.graph, choices.params
    explains_ID = graph.constant(array(params, choice_head.EXPLAINS), "choices.explains")
    log_base_I = graph.constant(array(params, choice_head.POPULARITY), "choices.popularity")
    before_D = graph.constant(array(params, choice_head.START), "choices.start")
    codes_W = value_codes_of(user, fields)
    if choice_head.BY_PROFILE in params and codes_W is not None:
        by_value_VD = graph.constant(array(params, choice_head.BY_PROFILE), "choices.by_profile")
        is_value_W1 = (codes_W > 0).to(np.float32).reshaped(-1, 1)
        before_D = before_D + (by_value_VD.rows(codes_W) * is_value_W1).sum(0)

    weight_R, num_rows_1 = _choice_weights(head, choices, user)
    sum_D = weight_R @ explains_ID.rows(user.item_R)
    total_1 = weight_R.sum(0, keeps=True)
    prior_rows = float(torch.nn.functional.softplus(params[choice_head.PRIOR_ROWS]))
    confidence_1 = 1.0 / graph.op("Sqrt", num_rows_1.clipped(most=choices.most_rows) + prior_rows)
    user_D = before_D
    for step, rate_D in enumerate(params[choice_head.LOG_RATES].exp()):
        if step == 0:
            expected_D = graph.constant(choices.expected_D.cpu().numpy(), "choices.expected")
        else:
            share_I = graph.op("Softmax", log_base_I + explains_ID @ user_D, axis=0)
            expected_D = share_I @ explains_ID
        rate = graph.constant(rate_D.detach().cpu().numpy(), "choices.rate")
        user_D = user_D + rate * confidence_1 * (sum_D - total_1 * expected_D)
    return before_D, user_D


def _choice_weights(head: ListHead, choices: ChoiceHead, user: KnownUser) -> tuple[Value, Value]:
    """Return (R,) the weights of rows in the inner loss, and the number of rows."""
    graph, params = user.graph, choices.params
    counts_R = _is_taken(head, user).to(np.float32)
    num_rows_1 = counts_R.sum(0, keeps=True)
    age_R = num_rows_1 - graph.op("CumSum", counts_R, graph.number(0, np.int64))
    lag_G = graph.constant(params[choice_head.LAG].exp().detach().cpu().numpy(), "choices.lag")
    num_lags = len(params[choice_head.LAG])
    by_age_R = lag_G.rows(age_R.clipped(0.0, num_lags - 1.0).to(np.int64))
    weight_R = counts_R * by_age_R
    if num_lags > 1:
        weight_R = weight_R * (age_R < float(choices.most_rows)).to(np.float32)
    else:
        most = float(choices.most_rows)
        weight_R = weight_R * (most / num_rows_1.clipped(1.0)).clipped(most=1.0)
    if head.value_range is not None and head.value_range[0] != head.value_range[1]:
        low, high = head.value_range
        liking_R = (2.0 * user.given_R - (low + high)) / (high - low)
        weight_R = weight_R * (1.0 + number(params, choice_head.LIKING) * liking_R)
    return weight_R, num_rows_1
