"""A model: a learner, its meta-parameters, its encoder and its catalogue, kept as one.

`recmeta.metalearn.scorer` uses it.

    model.safetensors   meta-parameters
    model.json          configuration, objective, range of values
    encoder.arrow       vocabularies and scales
    items.arrow         the catalogue with raw attributes
    statistics.arrow    each item's statistics at the end of the log
    levels.safetensors  the head for levels of a rating; absent in a model without it
    lists.safetensors   the head for lists; absent in a model that has not learned it
    digests.json        digests of these files, which are checked before they are parsed

Legend: B users.
"""

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch

from recmeta.config import parse, to_dict
from recmeta.errors import Broken, UserError
from recmeta.metalearn.heads.certificate import Certificate
from recmeta.metalearn.heads.levels import LevelHead
from recmeta.metalearn.heads.list_head import ListHead
from recmeta.metalearn.heads.median import count_levels, top_share
from recmeta.metalearn.heads.shared_attributes import attribute_codes
from recmeta.metalearn.heads.uncertainty import Uncertainty
from recmeta.metalearn.heads.units import ValueUnits
from recmeta.metalearn.learner import Params
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.model_config import ModelConfig, packages_of, saved_config
from recmeta.metalearn.tensors.batch import (
    Catalogue,
    Support,
    TaskBatch,
)
from recmeta.metalearn.tensors.encoding import Encoder, Features
from recmeta.metalearn.tensors.lookup import Lookup
from recmeta.plugins import only_trusted
from recmeta.tasks import scratch
from recmeta.tasks.episodes import with_negatives
from recmeta.tasks.item_files import (
    Items,
    ItemStatistics,
    read_items,
    read_statistics,
    write_items,
    write_statistics,
)
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import (
    Objective,
    Ragged,
    Tasks,
    TaskSet,
)
from recmeta.workspace import Folder, Sealed, sealed, sealing


class Model:
    """A learner with all that it needs to adapt to users and to score items."""

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
        learned_lists: ListHead | None = None,
        levels: LevelHead | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self.config = config
        self.uncertainty = uncertainty
        """The uncertainty of its predictions, or None if it is not known."""
        self.learned_lists = learned_lists
        """The head that orders its lists, or None if it has not been learned: see `lists`."""
        self.levels = levels
        """The head for levels of a rating, or None if the learner's prediction is used as it is."""
        self.certificate = certificate
        """The certificate for whom its lists are no worse than those of popularity, or None if
        there is none."""
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
        self.params: Params = (
            {} if params is None else {name: p.to(device) for name, p in params.items()}
        )

    @property
    def lists(self) -> ListHead:
        """The head that orders its lists. If it has not been learned, lists are ordered by the
        learner's output and, for ratings, `ModelConfig.popularity_weight` times the logarithm of
        popularity."""
        if self.learned_lists is not None:
            return self.learned_lists
        weight = self.config.popularity_weight if self.objective == "rating" else 0.0
        counts = self.catalogue.statistics.num_users[-1]
        return ListHead.of_popularity(weight, counts, self.device)

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
        """Return a model without parameters, whose encoder is fitted to the meta-training users.

        Args:
            earlier: the encoder of the model whose parameters will be taken over.
        """
        train = task_set.tasks("train")
        rows = train.rows
        items = task_set.items()
        is_met_I = scratch.counts(rows.item, task_set.spec.num_items) > 0
        met = np.flatnonzero(is_met_I[items.item])
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

    def on(
        self,
        items: Items,
        statistics: ItemStatistics,
        history: ItemHistory | None = None,
        *,
        with_lists: bool = True,
    ) -> "Model":
        """Return the model over another catalogue, whose new items it knows by their content.

        Args:
            history: the history of that catalogue's items, for their popularity. If None,
                popularity stays that of this catalogue.
            with_lists: whether lists will be made; predictions do not need their head.
        """
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
            self._lists_on(items, history) if with_lists else None,
            self._levels_on(items),
            self.certificate,
        )

    def _levels_on(self, items: Items) -> LevelHead | None:
        if self.levels is None or items.item_id.equals(self.catalogue.items.item_id):
            return self.levels
        return self.levels.on(self.catalogue.lookup.numbers_of(items.item_id))

    def _lists_on(self, items: Items, history: ItemHistory | None) -> ListHead | None:
        learned, mine = self.learned_lists, self.catalogue.items.item_id
        same = items.item_id.equals(mine) and items.attributes.equals(
            self.catalogue.items.attributes
        )
        if learned is None or (history is None and same):
            return learned
        number_I = Lookup(items.item_id).numbers_of(mine)
        if history is None:
            count_I = np.zeros(len(items.item_id), np.float32)
            count_I[number_I[number_I >= 0]] = learned.count_I.cpu().numpy()[number_I >= 0]
        else:
            count_I = history.now(learned.half_life_days if history.has_times else None)
        codes = attribute_codes(self.encoder, items)
        return learned.on(number_I, count_I, None if codes is None else codes[0])

    def save(self, folder: Folder) -> None:
        """Write the model, with the newest of the item statistics. Nothing in it is pickled."""
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.params.items()}
        with sealing(folder) as place:
            place.write_bytes("model.safetensors", safetensors.torch.save(tensors))
            place.write_bytes("encoder.arrow", self.encoder.to_bytes())
            levels, learned = self.levels, self.learned_lists
            if levels is not None:
                place.write_bytes("levels.safetensors", safetensors.torch.save(levels.tensors()))
            if learned is not None:
                place.write_bytes("lists.safetensors", safetensors.torch.save(learned.tensors()))
            write_items(place, self.catalogue.items)
            write_statistics(place, self.catalogue.statistics.last())
            place.write_json(
                "model.json",
                {
                    "config": to_dict(self.config),
                    "objective": self.objective,
                    "value_range": list(self.value_range),
                    "uncertainty": None if self.uncertainty is None else to_dict(self.uncertainty),
                    "levels": None if levels is None else levels.about(),
                    "lists": None if learned is None else learned.about(),
                    "certificate": None if self.certificate is None else to_dict(self.certificate),
                    "packages": packages_of(self.config),
                },
            )

    @classmethod
    @only_trusted()
    def load(cls, folder: Folder, device: torch.device | None = None) -> "Model":
        """Read what `save` wrote, onto a device (the CPU by default).

        Raises:
            UserError: if its learner or network is from a package that is not installed, or is
                named by a path to a module that is not trusted.
            Broken: if a file is missing or is not what was written.
        """
        place = sealed(folder)
        try:
            return cls._load(place, device)
        except UserError:
            raise
        except Exception as error:
            if place.digests is not None:  # the files are as they were written
                raise
            raise Broken(
                f"the model in {folder.path} cannot be read ({type(error).__name__}: {error}), and "
                "has no digests to say which file is broken, since an earlier version wrote it. "
                f"{place.remedy}"
            ) from error

    @classmethod
    def _load(cls, folder: Sealed, device: torch.device | None) -> "Model":
        about = folder.read_json("model.json")
        # Models of earlier versions have none of these files.
        uncertainty, about_lists = about.get("uncertainty"), about.get("lists")
        certificate = about.get("certificate")
        about_levels, levels = about.get("levels"), None
        if about_levels is not None:
            tensors = safetensors.torch.load(folder.read_bytes("levels.safetensors"))
            levels = LevelHead.from_saved(about_levels, tensors)
        device = device or torch.device("cpu")
        lists = None
        if about_lists is not None:
            tensors = safetensors.torch.load(folder.read_bytes("lists.safetensors"))
            lists = ListHead.from_saved(about_lists, tensors, device)
        return cls(
            saved_config(about["config"], about.get("packages", ())),
            safetensors.torch.load(folder.read_bytes("model.safetensors")),
            Encoder.from_bytes(folder.read_bytes("encoder.arrow")),
            read_items(folder),
            read_statistics(folder),
            about["objective"],
            (about["value_range"][0], about["value_range"][1]),
            device,
            None if uncertainty is None else parse(Uncertainty, uncertainty),
            lists,
            levels,
            None if certificate is None else parse(Certificate, certificate),
        )

    def digest(self) -> str:
        """Return a digest of this model's parameters and vocabularies."""
        found = hashlib.sha256(self.encoder.to_bytes())
        for name, p in sorted(self.params.items()):
            found.update(name.encode() + p.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    @property
    def units(self) -> ValueUnits:
        """The conversion of its outputs to units of the value."""
        return ValueUnits(
            objective=self.objective,
            value_range=self.value_range,
            mean=self.encoder.value_mean,
            scale=self.encoder.value_scale,
            uncertainty=self.uncertainty,
        )

    # Tasks to tensors ----------------------------------------------------------------------------

    def known_rows(self, tasks: Tasks, salt: int = 0) -> Ragged:
        """Return the support of tasks as learners see it: for implicit feedback, with sampled
        negatives. These avoid only the support, since nothing else is known when a model is
        used."""
        known = tasks.support
        return self._with_negatives(known, known, salt) if self.objective == "implicit" else known

    def batch(
        self,
        tasks: Tasks,
        users: Features | None = None,
        salt: int = 0,
        place_B: torch.Tensor | None = None,
    ) -> TaskBatch:
        """Return tasks for training; for implicit feedback, both sides get sampled negatives, and
        a query's avoid both.

        Args:
            place_B: each task's place among the training tasks, if the tasks are among them.
        """
        query = tasks.query
        if self.objective == "implicit":
            query = self._with_negatives(query, tasks.support.followed_by(query), salt + 1)
        if users is None:
            users = self.catalogue.users(tasks)
        known = self.catalogue.rows(self.known_rows(tasks, salt), tasks)
        return TaskBatch(Support(users, known), self.catalogue.rows(query, tasks), place_B)

    def _with_negatives(self, rows: Ragged, known: Ragged, salt: int) -> Ragged:
        return with_negatives(
            rows, known, self.catalogue.num_items, self.config.num_negatives, salt
        )
