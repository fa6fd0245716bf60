"""A model: a learner, its meta-parameters, its encoder and its catalogue, kept and used as one.

    model.safetensors   meta-parameters
    model.json          configuration, objective, range of values
    encoder.arrow       vocabularies and scales
    items.arrow         the catalogue with raw attributes
    statistics.arrow    what had been seen of each item by the end of the log

Legend: B users, I items, N query rows of all users.
"""

import copy
import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import safetensors.torch
import torch

from recmeta.config import parse, to_dict
from recmeta.metalearn.heads.median import count_levels, top_share
from recmeta.metalearn.heads.uncertainty import Uncertainty
from recmeta.metalearn.heads.units import ValueUnits
from recmeta.metalearn.learner import CatalogueRanker, Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.tensors.batch import (
    END_OF_TIME,
    POPULARITY_SCALE,
    Catalogue,
    Rows,
    Support,
    TaskBatch,
)
from recmeta.metalearn.tensors.encoding import Encoder, Features
from recmeta.tasks.episodes import concatenate, with_negatives
from recmeta.tasks.task_set import (
    Items,
    ItemStatistics,
    Objective,
    Ragged,
    Tasks,
    TaskSet,
    read_items,
    read_statistics,
    write_items,
    write_statistics,
)
from recmeta.workspace import Folder

FloatArray = npt.NDArray[np.float32]


MOST_READY_ITEMS = 200_000
"""Largest catalogue that `Model.ready` prepares as a whole, some hundred numbers an item."""


class Model:
    """A learner that is ready to adapt to users and to score items."""

    def __init__(
        self,
        config: ModelConfig,
        params: Params | None,
        encoder: Encoder,
        items: Items,
        statistics: ItemStatistics,
        objective: Objective,
        value_range: tuple[float, float],
        device: torch.device,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        self.config = config
        self.uncertainty = uncertainty
        """How far its predictions may be off; None where nothing is known of it."""
        self.encoder = encoder
        self.objective = objective
        self.value_range = value_range
        self.device = device
        self.catalogue = Catalogue(items, statistics, encoder, config.prior_strength, device)
        lowest, highest = (
            (value - encoder.value_mean) / encoder.value_scale for value in value_range
        )
        setting = Setting(
            user_fields=encoder.user_fields,
            item_fields=encoder.item_fields,
            item_features=self.catalogue.features,
            network_config=config.network,
            objective=objective,
            value_range=(lowest, highest),
        )
        self.network = setting.network
        self.learner = config.learner.build(setting)
        self._ranker = self.learner if isinstance(self.learner, CatalogueRanker) else None
        self._prepared: Rows | None = None
        self.params: Params = (
            {} if params is None else {name: p.to(device) for name, p in params.items()}
        )

    @property
    def algorithm(self) -> str:
        """The learner's name."""
        return self.config.algorithm

    @classmethod
    def untrained(
        cls,
        config: ModelConfig,
        task_set: TaskSet,
        device: torch.device,
        earlier: Encoder | None = None,
    ) -> "Model":
        """Return a model whose encoder has read the meta-training users, without parameters.

        Args:
            earlier: the encoder of the model that parameters will be taken over from.
        """
        train = task_set.tasks("train")
        rows = concatenate(train.support, train.query)
        items = task_set.items()
        met = np.flatnonzero(np.isin(items.item, np.unique(rows.item)))
        encoder = Encoder.fit(
            train.profile,
            items.item_id.take(pa.array(items.item[met])),
            items.attributes.take(pa.array(met)),
            rows.value if task_set.spec.objective == "rating" else None,
            config.features,
            earlier,
        )
        num_levels = count_levels(rows.value, task_set.spec.value_range)
        share = top_share(rows.value) if task_set.spec.objective == "rating" else 0.0
        learner = config.learner.with_levels(num_levels, share)
        return cls(
            dataclasses.replace(config, learner=learner),
            None,
            encoder,
            items,
            task_set.statistics(),
            task_set.spec.objective,
            task_set.spec.value_range,
            device,
        )

    def on(self, items: Items, statistics: ItemStatistics) -> "Model":
        """Return the same model over another catalogue, whose new items it reads by their
        content."""
        return Model(
            self.config,
            self.params,
            self.encoder,
            items,
            statistics,
            self.objective,
            self.value_range,
            self.device,
            self.uncertainty,
        )

    def ready(self) -> "Model":
        """Return the same model with all its items prepared, for tasks of now: a request has a
        handful of items, and looking these up takes less than preparing them each time.

        Its parameters must stay as they are. A model of a larger catalogue goes on preparing items
        when they are met.
        """
        made = copy.copy(self)
        if made.catalogue.num_items > MOST_READY_ITEMS:
            return made
        made._prepared = made.item_block(-1, END_OF_TIME, 0, made.catalogue.num_items)
        return made

    def save(self, folder: Folder) -> None:
        """Write the model; of the item statistics, the newest. Nothing in it is pickled."""
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.params.items()}
        folder.write_bytes("model.safetensors", safetensors.torch.save(tensors))
        folder.write_bytes("encoder.arrow", self.encoder.to_bytes())
        write_items(folder, self.catalogue.items)
        write_statistics(folder, self.catalogue.statistics.last())
        folder.write_json(
            "model.json",
            {
                "config": to_dict(self.config),
                "objective": self.objective,
                "value_range": list(self.value_range),
                "uncertainty": None if self.uncertainty is None else to_dict(self.uncertainty),
            },
        )

    @classmethod
    def load(cls, folder: Folder, device: torch.device | None = None) -> "Model":
        """Read what `save` wrote, onto a device (the CPU unless told otherwise)."""
        about = folder.read_json("model.json")
        uncertainty = about.get("uncertainty")  # models of earlier versions have none
        return cls(
            parse(ModelConfig, about["config"]),
            safetensors.torch.load(folder.read_bytes("model.safetensors")),
            Encoder.from_bytes(folder.read_bytes("encoder.arrow")),
            read_items(folder),
            read_statistics(folder),
            about["objective"],
            (about["value_range"][0], about["value_range"][1]),
            device or torch.device("cpu"),
            None if uncertainty is None else parse(Uncertainty, uncertainty),
        )

    def digest(self) -> str:
        """Return what tells this model's parameters and vocabularies from any other's."""
        found = hashlib.sha256(self.encoder.to_bytes())
        for name, p in sorted(self.params.items()):
            found.update(name.encode() + p.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    # Tasks to tensors ----------------------------------------------------------------------------

    def support(self, tasks: Tasks, users: Features | None = None, salt: int = 0) -> Support:
        """Return what is known of the tasks' users; for implicit feedback, with sampled
        negatives."""
        known = tasks.support
        if self.objective == "implicit":
            known = self._with_negatives(known, known, salt)
        if users is None:
            users = self.catalogue.users(tasks)
        return Support(users, self.rows(known, tasks))

    def rows(self, side: Ragged, tasks: Tasks) -> Rows:
        """Return one side of the tasks as padded tensors; prepared, where the model is `ready`."""
        if self._prepared is None or not self.catalogue.is_of_now(side, tasks):
            return self.catalogue.rows(side, tasks)
        return self._prepared.placed(self.catalogue.places(side))

    def batch(
        self,
        tasks: Tasks,
        users: Features | None = None,
        salt: int = 0,
        place_B: torch.Tensor | None = None,
    ) -> TaskBatch:
        """Return tasks for training; for implicit feedback, both sides get sampled negatives.

        A support's negatives avoid the support alone, since nothing else is known when a model is
        used; a query's avoid both.

        Args:
            place_B: each task's place among those that are trained on, if it is one of them.
        """
        query = tasks.query
        if self.objective == "implicit":
            query = self._with_negatives(query, concatenate(tasks.support, query), salt + 1)
        asked = self.catalogue.rows(query, tasks)
        return TaskBatch(self.support(tasks, users, salt), asked, place_B)

    def _with_negatives(self, rows: Ragged, known: Ragged, salt: int) -> Ragged:
        return with_negatives(
            rows, known, self.catalogue.num_items, self.config.num_negatives, salt
        )

    # Use -----------------------------------------------------------------------------------------

    @property
    def units(self) -> ValueUnits:
        """What its outputs mean in units of the value."""
        return ValueUnits(
            objective=self.objective,
            value_range=self.value_range,
            mean=self.encoder.value_mean,
            scale=self.encoder.value_scale,
            uncertainty=self.uncertainty,
        )

    @torch.no_grad()
    def adapt(self, tasks: Tasks, support: Support | None = None) -> UserState:
        """Return the states of the tasks' users after their support.

        Args:
            support: what `support` returns of the tasks, where it is at hand.
        """
        return self.learner.adapt(self.params, support or self.support(tasks))

    @torch.no_grad()
    def score_query(self, tasks: Tasks) -> FloatArray:
        """Return (N,) predictions of the query rows after adapting to the support.

        For ratings they are in units of the value and within its range; for implicit feedback they
        are logits.
        """
        return self.score_and_expect(tasks)[0]

    @torch.no_grad()
    def score_and_expect(self, tasks: Tasks) -> tuple[FloatArray, FloatArray]:
        """Return (N,) what `score_query` gives, and (N,) what to order the query rows by, in units
        of the model: the expected value where that predicts a median."""
        rows = self.rows(tasks.query, tasks)
        predicted = self.learner.predict(self.params, self.adapt(tasks), rows)
        expected_N: FloatArray = predicted.ranked_by_BR[rows.mask_BR].cpu().float().numpy()
        return self.units.to_values(predicted.mean_BR[rows.mask_BR]), expected_N

    def score_items(
        self, state: UserState, snapshot: int, cut_time: int, first: int, last: int
    ) -> torch.Tensor:
        """Return scores (B, last - first) of items numbered first to last, exclusive, for adapted
        users.

        Args:
            state: from `adapt`.
            snapshot: the item statistics to use.
            cut_time: microseconds since 1970; attributes valid then are used.
        """
        return self.score_block(state, self.item_block(snapshot, cut_time, first, last))

    def item_block(self, snapshot: int, cut_time: int, first: int, last: int) -> Rows:
        """Return items numbered first to last, exclusive, `prepared`."""
        return self.prepared(self.item_rows(np.arange(first, last), snapshot, cut_time))

    @torch.no_grad()
    def prepared(self, rows: Rows) -> Rows:
        """Return rows for `score_block` and `rank_block`, with the work done that no user changes:
        to be kept where many users are asked about them, as long as `params` stay."""
        return self.learner.prepare(self.params, rows)

    def item_rows(
        self, numbers: npt.NDArray[np.int64], snapshot: int = -1, cut_time: int = END_OF_TIME
    ) -> Rows:
        """Return items of these numbers as rows that all users share (B is 1).

        Args:
            snapshot: the item statistics to use; the newest unless told otherwise.
            cut_time: as for `score_items`.
        """
        versions = self.catalogue.versions(numbers, np.full(len(numbers), cut_time))
        past = self.catalogue.past(numbers, np.full(len(numbers), snapshot))
        return Rows(
            torch.from_numpy(versions[None]).to(self.device),
            torch.from_numpy(past[None]).to(self.device),
            torch.zeros((1, len(numbers)), device=self.device),
            torch.ones((1, len(numbers)), dtype=torch.bool, device=self.device),
        )

    @torch.no_grad()
    def score_block(self, state: UserState, items: Rows) -> torch.Tensor:
        """Return scores (B, items) of what `item_block` gave, for adapted users: expected values in
        units of the model, or logits."""
        return self.learner.predict(self.params, state, items).ranked_by_BR

    @property
    def settles(self) -> bool:
        """Whether the learner is a `CatalogueRanker`."""
        return self._ranker is not None

    @torch.no_grad()
    def settled(self, state: UserState) -> UserState:
        """Return adapted users as `rank_block` reads them: to be done once for many blocks."""
        return state if self._ranker is None else self._ranker.settle(self.params, state)

    @torch.no_grad()
    def rank_block(self, settled: UserState, items: Rows) -> torch.Tensor:
        """Return what lists are ordered by (B, items): the scores of `score_block` and what
        popularity adds to them."""
        bonus_BR = self.popularity_bonus(items.statistics_BRD)
        if self._ranker is None:
            return self.score_block(settled, items).add_(bonus_BR)
        return self._ranker.ranked_by(self.params, settled, items).add_(bonus_BR)

    def popularity_bonus(self, past: torch.Tensor) -> torch.Tensor:
        """Return what popularity adds to the scores of items in lists, (...), in their units.

        Args:
            past: (..., D) from `Catalogue.past`.
        """
        weight = self.config.popularity_weight if self.objective == "rating" else 0.0
        return weight * POPULARITY_SCALE * past[..., 1]
