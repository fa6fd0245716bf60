"""Which of an item's features moved its score for a user: the item is scored again without them.

The effect of a feature is the score of the item minus the score of the same item with this feature
unknown. It is exact for any learner and uses only the learner's public interface: an item without a
feature is a row of another catalogue. Effects of features with the same information need not add
up.

Legend: F features, M masks.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.arrays import BoolArray, Float32Array
from recmeta.tasks.item_files import Items, ItemStatistics

PAST = "past interactions"
"""What others did with the item, as one more feature."""


@dataclasses.dataclass(frozen=True)
class FeatureEffects:
    """The effect of each feature of an item on its score for one user."""

    name: tuple[str, ...]
    """F features: attributes, the item's id (what the model has learned of this very item beside
    its attributes), and `PAST`."""
    effect_F: Float32Array
    """In units of the value; a logit for implicit feedback."""


def features(model: Model) -> tuple[str, ...]:
    """Return the names of the F features of an item that have effects."""
    return (*(field.name for field in model.encoder.item_fields), PAST)


def feature_effects(model: Model, state: UserState, item: int) -> FeatureEffects:
    """Return the effects of an item's features on its score for one adapted user.

    Args:
        state: of one user (B = 1), from `Model.adapt`.
        item: its number.
    """
    names = features(model)
    known_MF = np.concatenate([np.ones((1, len(names)), np.bool_), ~np.eye(len(names), dtype=bool)])
    score_M = scores_knowing(model, state, item, known_MF)
    return FeatureEffects(names, score_M[0] - score_M[1:])


def scores_knowing(model: Model, state: UserState, item: int, known_MF: BoolArray) -> Float32Array:
    """Return (M,) scores of an item, before clipping, of which only some features are known.

    Args:
        state: of one user (B = 1).
        known_MF: which of `features(model)`.
    """
    known = {f.name: known_MF[:, n] for n, f in enumerate(model.encoder.item_fields)}
    num_copies = len(known_MF)
    catalogue = model.catalogue
    version = int(catalogue.versions(np.array([item]), np.array([schema.END_OF_TIME]))[0])
    attributes = {
        name: _copies(column.combine_chunks().slice(version, 1), known.get(name), num_copies)
        for name, column in zip(
            catalogue.items.attributes.column_names,
            catalogue.items.attributes.columns,
            strict=True,
        )
    }
    identity = catalogue.items.item_id.slice(item, 1)
    copies = Items(
        _copies(identity, known.get(schema.ITEM_ID), num_copies),
        np.arange(num_copies, dtype=np.int32),
        np.full(num_copies, schema.ALWAYS),
        pa.table(attributes) if attributes else _no_columns(num_copies),
    )
    past = catalogue.statistics.last()
    has_past_M = known_MF[:, -1]
    statistics = ItemStatistics(
        past.time,
        past.num_users[:, [item]] * has_past_M,
        past.sum_values[:, [item]] * has_past_M,
    )
    scorer = Scorer.of(model.on(copies, statistics, with_lists=False))  # the user is adapted
    rows = scorer.item_block(0, schema.END_OF_TIME, 0, num_copies)
    score_M: Float32Array = scorer.predict_values(state, rows).mean[0]
    return score_M


def _copies(value: pa.Array, known_M: BoolArray | None, num_copies: int) -> pa.Array:
    """Return M times the one value, null where it is unknown; None if it is known everywhere."""
    known = np.ones(num_copies, np.bool_) if known_M is None else known_M
    return value.take(pa.array(np.zeros(num_copies, np.int64), mask=~known))


def _no_columns(num_rows: int) -> pa.Table:
    return pa.table({"": pa.nulls(num_rows)}).select([])
