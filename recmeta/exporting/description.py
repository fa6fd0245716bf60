"""What stands beside a graph: which items its places mean, and how its inputs are encoded."""

from typing import Any

from recmeta.exporting.fingerprint import fingerprint
from recmeta.exporting.graph import IR_VERSION, OPSET
from recmeta.exporting.known_user import ITEM, MASK, TOP_K, VALUE, profile_input
from recmeta.exporting.ranking_graph import SCORE, TOP_ITEM, TOP_SCORE
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.encoding import Field

FORMAT = 1
"""The version of the description; a reader of another one refuses it."""
GRAPH_FILE, DESCRIPTION_FILE = "model.onnx", "model.json"


def description(model: Model, version: str) -> dict[str, Any]:
    """Return what a program needs to run a model's graph, JSON-ready.

    Args:
        version: of the registered model.
    """
    items = model.catalogue.items
    titles = items.titles()
    return {
        "format": FORMAT,
        "graph": GRAPH_FILE,
        "model_version": version,
        "fingerprint": fingerprint(model),
        "learner": model.algorithm,
        "objective": model.objective,
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "scale": _scale(model),
        "inputs": _inputs(model),
        "profile": [_field(field) for field in model.encoder.user_fields],
        "outputs": {
            SCORE: "float32 (items), what lists are ordered by, of every item: the logarithm of "
            "the probability that the user takes and likes it next, up to a constant of the user",
            TOP_ITEM: f"int64 ({TOP_K}), places of the best items that are not among the rows",
            TOP_SCORE: f"float32 ({TOP_K}), their scores; -inf where there are no more items. "
            "exp(score - largest score) is the server's relative_likelihood",
        },
        "left_out": _left_out(model),
        "items": {
            "item_id": items.item_id.to_pylist(),
            "title": [None] * len(items.item_id) if titles is None else titles.to_pylist(),
            "num_users": model.catalogue.statistics.num_users[-1].astype(int).tolist(),
        },
    }


def _scale(model: Model) -> dict[str, Any] | None:
    """Return the range of ratings and, where it has levels, each of these."""
    if model.objective != "rating":
        return None
    low, high = model.value_range
    levels = None if model.levels is None else [float(v) for v in model.levels.value_L]
    return {"lowest": low, "highest": high, "levels": levels}


def _inputs(model: Model) -> dict[str, str]:
    found = {
        ITEM: "int64 (rows), places in items of what the user is known to have, the oldest first, "
        "each item once, by its latest row; 0 where padded",
        MASK: "bool (rows), true for a row, false for padding, which comes last",
        TOP_K: "int64 (1), the length of the list",
    }
    if model.objective == "rating":
        found[VALUE] = "float32 (rows), the rating, within scale; 0 where padded"
    return found


def _field(field: Field) -> dict[str, Any]:
    """Return how an attribute of the profile is encoded."""
    kinds = {
        "numeric": "float32 (1), the number itself; NaN if it is not known",
        "categorical": "int64 (1), the place in values, counted from 1; 0 if it is not known",
        "multi": f"int64 ({field.width}), the places in values, counted from 1; then 0",
    }
    found: dict[str, Any] = {
        "name": field.name,
        "input": profile_input(field),
        "kind": field.kind,
        "encoding": kinds[field.kind],
    }
    if field.is_coded:
        found |= {"values": list(field.values), "width": field.width}
    return found


def _left_out(model: Model) -> list[str]:
    """Return what the server does beside this."""
    found = ["reasons", "business rules and filters of requests", "exploration"]
    if model.objective == "rating":
        found.append("the expected rating and its uncertainty, which do not decide the order")
    if model.certificate is not None and model.certificate.is_partial:
        found.append(
            "popular items for users for whom the model's lists are not certified (train."
            "certificate): lists of these are the model's"
        )
    return found
