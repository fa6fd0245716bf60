"""The start of learners with embeddings, which is the default of a learner's configuration."""

from recmeta.metalearn.learner import Params
from recmeta.metalearn.starts.beginning import Built, StartInputs
from recmeta.metalearn.starts.content_transfer import start_from_content
from recmeta.metalearn.starts.implicit_start import start_from_weighted_factors
from recmeta.metalearn.starts.last_layer import last_layer_names, reads_linearly, start_last_layer
from recmeta.metalearn.starts.pretraining import (
    has_embedding_per_item,
    start_from_factorisation,
    start_from_factors,
)


def start_embeddings(built: Built, fresh: Params, inputs: StartInputs) -> Params:
    """Return parameters whose item embeddings begin with the configured factorisation, and whose
    content is the source's, if there is one.

    Raises:
        UserError: if nothing of the source's content fits the model.
    """
    started = _with_factors(built, fresh, inputs) if inputs.has_factors else fresh
    if inputs.source is None:
        return started
    return start_from_content(built, started, inputs.source)


def _with_factors(built: Built, fresh: Params, inputs: StartInputs) -> Params:
    if built.objective == "implicit":
        if not has_embedding_per_item(fresh):
            return fresh
        item_IF = inputs.tuned_weighted_factors().item_IF
        return start_from_weighted_factors(built, fresh, inputs.rows, item_IF)
    if inputs.name == "bayesian-factors":
        return start_from_factorisation(built, fresh, inputs.rows, inputs.seed, inputs.factorised)
    found = inputs.tuned_factors()
    started = start_from_factors(built, fresh, found.bias_I, found.factor_IF)
    if inputs.last_layer_ridge is None or not reads_linearly(built, started):
        return started
    return start_last_layer(built, started, inputs.tasks, inputs.last_layer_ridge)


def rescale_last_layer(built: Built, params: Params, ratio: float, shift: float) -> Params:
    """Return parameters with which the network's outputs v become ratio · v + shift. Parameters of
    learners without the network are unchanged."""
    weight, bias = last_layer_names(built)
    if bias not in params:
        return params
    return {**params, weight: params[weight] * ratio, bias: params[bias] * ratio + shift}
