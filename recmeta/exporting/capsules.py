"""User capsules: what a model's version has learned of a user, as vectors that any program can
score items with.

    score(u, i) = u · v_i + Σ_{k in keys of i} w_u[k] + f(a_i; θ_u)

is what the server orders lists by (`recmeta.metalearn.heads.list_head`), up to rounding. The first
term has popularity, the learner's weights and those of the choice head; the second what a user's
rows say of single items (neighbours) and of values that items share (attributes), both
standardised; the third, where a model has layers that adapt, their output (`learner_vectors`).

Legend: B users, I items, D numbers of a vector, K keys, S support rows (padded), V values.
"""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recmeta import schema
from recmeta.errors import UserError
from recmeta.exporting.fingerprint import fingerprint
from recmeta.exporting.learner_vectors import LearnerVectors
from recmeta.metalearn.heads import list_head
from recmeta.metalearn.heads.list_head import ListHead
from recmeta.metalearn.heads.neighbours import Neighbours
from recmeta.metalearn.heads.shared_attributes import SharedAttributes
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.ranking import AdaptedUsers

Float64Array = npt.NDArray[np.float64]
FORMAT = 1
USERS_FILE, ITEMS_FILE, ABOUT_FILE = "users.parquet", "items.parquet", "vectors.json"


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """Columns of vectors, by name and in order: of the items (I, C), of users (B, C)."""

    names: tuple[str, ...]
    columns: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, named: Mapping[str, torch.Tensor]) -> Self:
        return cls(tuple(named), tuple(named.values()))

    def joined(self) -> torch.Tensor:
        return torch.cat([part.double() for part in self.columns], 1)


class VectorSpace:
    """A model's version as vectors: of its items, and of users whom it has adapted to."""

    def __init__(self, model: Model, version: str) -> None:
        """
        Args:
            version: of the registered model.

        Raises:
            UserError: for a learner that has no capsules.
        """
        self.model, self.version = model, version
        self.scorer = Scorer.of(model)
        self.fingerprint = fingerprint(model)
        rows = self.scorer.item_block(-1, schema.END_OF_TIME, 0, model.catalogue.num_items)
        self.learner = LearnerVectors.of(model, self.scorer.params, rows)
        tables = self.lists.tables
        self._neighbours = {n: t for n, t in tables.items() if isinstance(t, Neighbours)}
        self._values = {n: t for n, t in tables.items() if isinstance(t, SharedAttributes)}
        self.num_values = sum(len(t.weight) for t in self._values.values())
        """V: keys below it are values that items share; item n's own key is V + n."""

    @property
    def lists(self) -> ListHead:
        """What lists are ordered by."""
        return self.scorer.lists

    def about(self) -> dict[str, Any]:
        """Return what a reader of the vectors has to know, JSON-ready."""
        first, blocks = 0, {}
        found = self._item_blocks()
        for name, part in zip(found.names, found.columns, strict=True):
            blocks[name] = [first, first + part.shape[1]]
            first += part.shape[1]
        return {
            "format": FORMAT,
            "model_version": self.version,
            "fingerprint": self.fingerprint,
            "learner": self.model.algorithm,
            "num_keys": self.num_values + self.model.catalogue.num_items,
            "blocks": blocks,
            "layers": self.learner.chain(),
        }

    # Items ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def items(self, *, exported_at: datetime.datetime) -> pa.Table:
        """Return the vectors of all items: a row of `schema.ITEM_VECTORS` each."""
        features, num_items = self.learner.features(), self.model.catalogue.num_items
        columns = {
            schema.ITEM_ID: self.model.catalogue.items.item_id.cast(pa.string()),
            **self._of_version(num_items),
            schema.VECTOR: _lists(self._item_blocks().joined()),
            schema.KEYS: self._keys(),
            schema.FEATURES: pa.nulls(num_items) if features is None else _lists(features),
            schema.EXPORTED_AT: pa.array([exported_at] * num_items, schema.TIME),
        }
        names = schema.ITEM_VECTORS.columns.names
        return pa.table([columns[n] for n in names], names).cast(schema.ITEM_VECTORS.columns)

    def _item_blocks(self) -> _Blocks:
        lists, learned = self.lists, self.learner.items()
        named = {
            "constant": torch.ones_like(learned[:, :1]),
            list_head.POPULARITY: (lists.count_I + lists.offset).log()[:, None],
            list_head.LEARNER: learned,
        }
        if lists.choices is not None:
            params = lists.choices.params
            named[list_head.CHOICES] = torch.cat(
                [params["popularity"][:, None], params["predicts"]], 1
            )
        return _Blocks.of(named)

    def _keys(self) -> pa.Array:
        """Return the keys of each item: its values, and one of its own."""
        num_items = self.model.catalogue.num_items
        parts = [table.code.cpu().numpy() for table in self._values.values()]
        own_I1 = (self.num_values + np.arange(num_items))[:, None]
        key_IK = np.concatenate([*parts, own_I1], 1)
        is_key_IK = key_IK > 0
        if not self.num_values:
            is_key_IK[:, -1] = True
        offsets = np.concatenate([[0], is_key_IK.sum(1).cumsum()]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(key_IK[is_key_IK].astype(np.int32)))

    def _of_version(self, num_rows: int) -> dict[str, pa.Array]:
        return {
            schema.MODEL_VERSION: pa.array([self.version] * num_rows, pa.string()),
            schema.FINGERPRINT: pa.array([self.fingerprint] * num_rows, pa.string()),
        }

    # Users ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def capsules(self, users: AdaptedUsers, *, run: str, adapted_at: datetime.datetime) -> pa.Table:
        """Return the capsules of users: a row of `schema.USER_CAPSULES` each.

        Args:
            run: the key of the step that adapted them.
        """
        state, num_users = self.lists.with_rows(users.state), len(users.user_id)
        weight_BC = self._weights(state)
        constant_B1, keys, key_weights = self._by_keys(state, weight_BC)
        layers = self._layers(state, weight_BC)
        num_rows_B = np.bincount(users.seen_user, minlength=num_users)
        columns = {
            schema.RUN: pa.array([run] * num_users, pa.string()),
            schema.USER_ID: pa.array(users.user_id, pa.string()),
            schema.ADAPTED_AT: pa.array([adapted_at] * num_users, schema.TIME),
            **self._of_version(num_users),
            schema.NUM_INTERACTIONS: pa.array(num_rows_B, pa.int64()),
            schema.VECTOR: _lists(self._user_blocks(state, weight_BC, constant_B1).joined()),
            schema.KEYS: keys,
            schema.KEY_WEIGHTS: key_weights,
            schema.LAYERS: pa.nulls(num_users) if layers is None else _lists(layers),
        }
        names = schema.USER_CAPSULES.columns.names
        return pa.table([columns[n] for n in names], names).cast(schema.USER_CAPSULES.columns)

    def _weights(self, state: UserState) -> dict[str, torch.Tensor]:
        """Return (B, 1) the weight of each column of lists; 0 of one that they do not have."""
        weight_BC = self.lists.weights((state[list_head.WEIGHT] != 0).sum(1))
        names = self.lists.columns
        found = {name: weight_BC[:, n, None] for n, name in enumerate(names)}
        further = (list_head.POPULARITY, list_head.CHOICES, list_head.CHOICES_BEFORE)
        return {name: torch.zeros_like(weight_BC[:, :1]) for name in further} | found

    def _user_blocks(
        self, state: UserState, weights: Mapping[str, torch.Tensor], constant_B1: torch.Tensor
    ) -> _Blocks:
        named = {
            "constant": constant_B1,
            list_head.POPULARITY: weights[list_head.POPULARITY],
            list_head.LEARNER: weights[list_head.LEARNER] * self.learner.users(state),
        }
        choices = self.lists.choices
        if choices is not None:
            after_B1, before_B1 = weights[list_head.CHOICES], weights[list_head.CHOICES_BEFORE]
            inputs = list_head.choice_inputs(state)
            user_BD = after_B1 * choices.adapt(*inputs) + before_B1 * choices.starts(inputs[-1])
            named[list_head.CHOICES] = torch.cat([after_B1 + before_B1, user_BD], 1)
        return _Blocks.of(named)

    def _by_keys(
        self, state: UserState, weights: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, pa.Array, pa.Array]:
        """Return (B, 1) what standardising takes off every score, and the keys of users that have
        a weight, with it."""
        item_BS, weight_BS = state[list_head.ITEM], state[list_head.WEIGHT]
        constant_B1 = weight_BS.double().new_zeros((len(item_BS), 1))
        parts = []
        for name, values in self._values.items():
            evidence_BI = values.evidence(item_BS, weight_BS)
            factor_B1 = weights[name].double() / _deviation(evidence_BI)
            constant_B1 -= factor_B1 * evidence_BI.double().mean(1, keepdim=True)
            parts.append(factor_B1 * values.by_value(item_BS, weight_BS))
        own_BI = constant_B1.new_zeros((len(item_BS), self.model.catalogue.num_items))
        for name, table in self._neighbours.items():
            evidence_BI = table.evidence(item_BS, weight_BS)
            factor_B1 = weights[name].double() / _deviation(evidence_BI)
            constant_B1 -= factor_B1 * evidence_BI.double().mean(1, keepdim=True)
            own_BI += factor_B1 * evidence_BI
        by_key_BK = torch.cat([*parts, own_BI], 1).cpu().numpy()
        user, key = np.nonzero(by_key_BK)
        offsets = np.searchsorted(user, np.arange(len(item_BS) + 1)).astype(np.int32)
        numbers = pa.array(by_key_BK[user, key].astype(np.float32))
        keys = pa.ListArray.from_arrays(offsets, pa.array(key.astype(np.int32)))
        return constant_B1, keys, pa.ListArray.from_arrays(offsets, numbers)

    def _layers(self, state: UserState, weights: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return (B, L) the matrices of the layers, end to end; the last one with the weight that
        lists give to the learner. None without layers."""
        matrices = self.learner.matrices(state)
        if not matrices:
            return None
        matrices[-1] = matrices[-1] * weights[list_head.LEARNER][:, :, None]
        return torch.cat([matrix.flatten(1) for matrix in matrices], 1)


def scores(capsules: pa.Table, items: pa.Table, about: Mapping[str, Any]) -> Float64Array:
    """Return (B, I) the scores of items for the users of capsules.

    Args:
        capsules, items: as `VectorSpace` or a folder of `recmeta export --vectors` has them.
        about: the content of vectors.json.

    Raises:
        UserError: where these are not of one version of a model, or some are empty.
    """
    _check_versions(capsules, items, about)
    vector_ID = np.stack(items[schema.VECTOR].to_numpy(zero_copy_only=False)).astype(np.float64)
    found = np.empty((len(capsules), len(items)))
    keys = items[schema.KEYS].combine_chunks()
    key_N, first_I = keys.flatten().to_numpy(), keys.offsets.to_numpy()[:-1]
    for row, capsule in enumerate(capsules.to_pylist()):
        found[row] = vector_ID @ np.array(capsule[schema.VECTOR])
        weight_K = np.zeros(about["num_keys"])
        weight_K[capsule[schema.KEYS]] = capsule[schema.KEY_WEIGHTS]
        found[row] += np.add.reduceat(weight_K[key_N], first_I - first_I[0])
        if capsule[schema.LAYERS] is not None:
            found[row] += _output(np.array(capsule[schema.LAYERS]), items, about)
    return found


def _output(numbers: Float64Array, items: pa.Table, about: Mapping[str, Any]) -> Float64Array:
    """Return (I,) the output of a user's layers."""
    features_IF = np.stack(items[schema.FEATURES].to_numpy(zero_copy_only=False))
    ones_I1 = np.ones((len(features_IF), 1))
    hidden: list[Float64Array] = []
    for layer in about["layers"]:
        parts = [features_IF] if layer["reads_features"] else []
        x = np.hstack([*hidden, *parts, ones_I1])
        size = x.shape[1] * layer["width"]
        z = x @ numbers[:size].reshape(x.shape[1], layer["width"])
        hidden, numbers = [np.maximum(z, 0)], numbers[size:]
    return np.asarray(z[:, 0])


def _check_versions(capsules: pa.Table, items: pa.Table, about: Mapping[str, Any]) -> None:
    """Raise UserError unless all vectors are of the version that a description is of."""
    wanted = about["model_version"], about["fingerprint"]
    if about["format"] != FORMAT:
        raise UserError(
            f"the vectors have format {about['format']}, and this version of recmeta reads format "
            f"{FORMAT}: export them again with `recmeta export --vectors`."
        )
    for what, table in (("capsules", capsules), ("item vectors", items)):
        if table[schema.FINGERPRINT].null_count:
            raise UserError(
                f"some of the {what} are empty, as those that a feature store does not have: leave "
                "them out, or export and materialise them first."
            )
        named = (table[name].to_pylist() for name in (schema.MODEL_VERSION, schema.FINGERPRINT))
        for version, own in sorted(set(zip(*named, strict=True)) - {wanted})[:1]:
            raise UserError(
                f"the {what} are of version {version} of the model (fingerprint {own}), not of "
                f"version {wanted[0]} (fingerprint {wanted[1]}), whose vectors have other axes: "
                f"adapt the users to that one, by `recmeta export --vectors DIR --model-version "
                f"{wanted[0]}`."
            )


def _deviation(evidence_BI: torch.Tensor) -> torch.Tensor:
    return evidence_BI.double().std(1, keepdim=True, correction=0).clamp(min=1e-9)


def _lists(number_NC: torch.Tensor) -> pa.Array:
    """Return the rows of a matrix as lists of float32."""
    num_rows, width = number_NC.shape
    offsets = np.arange(num_rows + 1, dtype=np.int32) * width
    flat = number_NC.float().cpu().numpy().reshape(-1)
    return pa.ListArray.from_arrays(offsets, pa.array(flat, pa.float32()))
