"""Adapting a model to a user and ordering its catalogue, as one ONNX graph.

Legend: R known rows (padded), I items, K places of a list.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from recmeta import schema
from recmeta.errors import UserError
from recmeta.exporting import closed_forms, gradient_steps
from recmeta.exporting.closed_forms import Expected
from recmeta.exporting.graph import OPSET, Graph, Input, Value
from recmeta.exporting.known_user import TOP_K, KnownUser, inputs_of, known_user
from recmeta.exporting.list_order import order_of_lists
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinear
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import WeightedRidge
from recmeta.metalearn.algorithms.optimisation_based.maml import MAML
from recmeta.metalearn.inner_loop.on_base import OnBase, OnPosterior, RowsOfBoth
from recmeta.metalearn.learner import MetaLearner, Params
from recmeta.metalearn.member_config import of_member, without_members
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import Rows

SCORE, TOP_ITEM, TOP_SCORE = "score", "top_item", "top_score"
"""Names of the outputs: what lists are ordered by, of every item; places of the best items that the
user does not have yet, best first; and their scores, -inf past the last of them."""

GRAPHS: dict[type[Any], Callable[..., Expected]] = {
    BayesianLinear: closed_forms.bayesian_linear,
    WeightedRidge: closed_forms.weighted_ridge,
    MAML: gradient_steps.maml,
}
"""Learners that are graphs; and MAML on one of the first two. Subclasses adapt in other ways."""


def ranking_graph(model: Model, metadata: dict[str, str]) -> onnx.ModelProto:
    """Return a model as a graph that adapts to one user and orders the catalogue.

    Raises:
        UserError: for a learner, a network or an attribute that no graph stands for.
    """
    scorer = Scorer.of(model)
    graph = Graph("recmeta", inputs_of(model))
    user = known_user(graph, model)
    items = scorer.item_block(-1, schema.END_OF_TIME, 0, model.catalogue.num_items)
    expected = _of_learner(model.learner, scorer.params, items, user, model)
    score_I = order_of_lists(scorer.lists, user, expected.every_I, model.encoder.user_fields)
    item_K, score_K = _best(user, score_I, model.catalogue.num_items)
    outputs = {
        SCORE: (score_I, Input(np.float32, (model.catalogue.num_items,))),
        TOP_ITEM: (item_K, Input(np.int64, ("places",))),
        TOP_SCORE: (score_K, Input(np.float32, ("places",))),
    }
    return graph.model(outputs, metadata | {"opset": str(OPSET)})


def _of_learner(
    learner: MetaLearner, params: Params, items: Rows, user: KnownUser, model: Model
) -> Expected:
    """Return what a learner orders items by.

    Args:
        items: the catalogue, as the learner prepares it.
    """
    if type(learner) in (OnBase, OnPosterior):
        assert isinstance(learner, OnBase)
        return _on_base(learner, params, items, user, model)
    if type(learner) not in GRAPHS:
        raise UserError(
            f"the learner is {model.algorithm!r}, which has no ONNX graph: train "
            "'bayesian-linear', 'weighted-ridge' or 'maml', by itself or on one of the two."
        )
    if isinstance(learner, MAML) and model.objective == "implicit":
        raise UserError(
            "on implicit feedback, the layers of 'maml' adapt to items that it draws as not "
            "taken, which a graph cannot: train 'weighted-ridge'."
        )
    return GRAPHS[type(learner)](learner, params, items, user)


def _on_base(
    learner: OnBase, params: Params, items: Rows, user: KnownUser, model: Model
) -> Expected:
    """Return what a base expects, with what layers add that adapt to what it leaves."""
    base = of_member(0, params)
    if not isinstance(items, RowsOfBoth):  # the layers have no output
        return _of_learner(learner.base, base, items, user, model)
    found = _of_learner(learner.base, base, items.of_base, user, model)
    left = KnownUser(**(vars(user) | {"value_R": user.value_R - found.known_R}))
    added = _of_learner(learner.layers, without_members(params), items.of_layers, left, model)
    return Expected(found.known_R + added.known_R, found.every_I + added.every_I)


def _best(user: KnownUser, score_I: Value, num_items: int) -> tuple[Value, Value]:
    """Return (K,) the best items that a user does not have, and their scores."""
    graph = user.graph
    has_I = graph.added_at(num_items, user.item_R, user.counts_R) > 0.0
    lowest = graph.number(-np.inf, np.float32)
    open_I = graph.where(has_I, lowest, score_I)
    length = graph.op("Min", graph.inputs[TOP_K], graph.integers([num_items]))
    return graph.top(open_I, length)
