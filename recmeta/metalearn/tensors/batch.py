"""Tasks as padded tensors, ready for a learner.

Legend: B tasks, R rows of one side (padded), I items, V item versions, D item statistics, F
factors, K folds.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from recmeta import schema
from recmeta.metalearn.tensors.encoding import Encoder, Features
from recmeta.metalearn.tensors.lookup import Lookup
from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray
from recmeta.tasks.item_files import Items, ItemStatistics
from recmeta.tasks.task_set import Ragged, Tasks

NUM_STATISTICS = 2
"""The number of statistics of an item's past: its shrunk mean value and its popularity."""
POPULARITY_SCALE = 10
"""The divisor of log(1 + users), which brings popularity to the size of other features."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """One side of B tasks, padded to the longest; B is 1 where all users share the rows."""

    item_BR: torch.Tensor
    """int64, row of the catalogue's features; 0 where padded."""
    statistics_BRD: torch.Tensor
    """float32, statistics of the item at the task's cut time, without the row itself."""
    value_BR: torch.Tensor
    """float32, in units of the model: (value - mean) / scale for ratings, 0 or 1 for implicit."""
    mask_BR: torch.Tensor
    """bool, false where padded."""

    def placed(self, places: "Places") -> "Rows":
        """Return rows that all users share (B is 1) as each user's own, in other places. A subclass
        also places its own tensors, or they are prepared again."""
        past_BRD = self.statistics_BRD[0][places.place_BR]
        return Rows(
            self.item_BR[0][places.place_BR],
            past_BRD * places.mask_BR[..., None],
            places.value_BR,
            places.mask_BR,
        )


@dataclasses.dataclass(frozen=True)
class Places:
    """The places of B users' rows (padded) among rows that all users share."""

    place_BR: torch.Tensor
    """int64; 0 where padded."""
    value_BR: torch.Tensor
    """As in `Rows`."""
    mask_BR: torch.Tensor
    """As in `Rows`."""


def joined(first: Rows, second: Rows) -> Rows:
    """Return both sides of the same tasks as one; padding may lie between them."""
    sides = zip(
        (first.item_BR, first.statistics_BRD, first.value_BR, first.mask_BR),
        (second.item_BR, second.statistics_BRD, second.value_BR, second.mask_BR),
        strict=True,
    )
    return Rows(*(torch.cat(both, 1) for both in sides))


@dataclasses.dataclass(frozen=True)
class Support:
    """The known part of B users: their features and a few interactions."""

    user: Features
    rows: Rows


@dataclasses.dataclass(frozen=True)
class TaskBatch:
    """B tasks: the known rows and the rows to predict."""

    support: Support
    query: Rows
    place_B: torch.Tensor | None = None
    """int64, each task's place among the training tasks, or None if they are not among them."""
    left_out_KIF: torch.Tensor | None = None
    """For a learner that starts from a factorisation fitted to the tasks: the known items' factors,
    by code, fitted without the tasks of each of K folds. The task at place p is in fold p mod K.
    """
    num_together: int | None = None
    """The number of tasks of the whole batch that this is a part of, or None if it is a whole
    batch."""

    def __len__(self) -> int:
        return len(self.query.mask_BR)

    @property
    def name_B(self) -> torch.Tensor:
        """The names by which the users' random numbers are drawn: the tasks' places or, without
        these, their positions in the batch."""
        if self.place_B is not None:
            return self.place_B
        return torch.arange(len(self), device=self.query.mask_BR.device)

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors that belong to this batch; the left-out factors are shared by all
        batches."""
        rows = [*vars(self.support.rows).values(), *vars(self.query).values()]
        places = [] if self.place_B is None else [self.place_B]
        return [*self.support.user.values(), *rows, *places]


def onto(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """Return a CPU's tensor on a device. A GPU's copy is asynchronous, from pinned memory."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Catalogue:
    """The items, encoded for one model, and their statistics over time."""

    def __init__(
        self,
        items: Items,
        statistics: ItemStatistics,
        encoder: Encoder,
        prior_strength: float,
        device: torch.device,
    ) -> None:
        self.items = items
        self.statistics = statistics
        self.encoder = encoder
        self.prior_strength = prior_strength
        self.device = device
        ids = items.item_id.take(items.item)
        encoded = encoder.encode_items(ids, items.attributes)
        self.features: Features = {name: t.to(device) for name, t in encoded.items()}
        self.lookup = Lookup(items.item_id)
        """The look-up of items by their ids."""
        self.has_versions = len(items.item) > len(items.item_id)
        """Whether some item's attributes changed."""
        self._number_V = torch.from_numpy(items.item.astype(np.int64)).to(device)
        self._times = np.unique(items.valid_from)
        self._version_keys = self._key(items.item, np.searchsorted(self._times, items.valid_from))

    @property
    def num_items(self) -> int:
        """The number of distinct items."""
        return len(self.items.item_id)

    def versions(self, item: npt.NDArray[np.integer], cut_time: IntArray) -> IntArray:
        """Return the row of `features` that was valid for each item at each cut time, in the same
        shape.

        If no version was valid yet, the item's earliest is taken, since the catalogue offers the
        item.
        """
        if not self.has_versions:
            return np.asarray(item, np.int64)
        rank = np.searchsorted(self._times, cut_time, side="right") - 1
        found = np.searchsorted(self._version_keys, self._key(item, rank), side="right") - 1
        first = np.searchsorted(self._version_keys, self._key(item, np.zeros_like(rank)))
        return np.maximum(found, first)

    def past(
        self,
        item: npt.NDArray[np.integer],
        snapshot: npt.NDArray[np.integer],
        own: BoolArray | None = None,
        own_value: Float32Array | None = None,
    ) -> Float32Array:
        """Return the statistics of items at snapshots, (..., D) for inputs that broadcast to (...).

        Column 0 is the item's mean value, shrunk to the global mean as if by `prior_strength` more
        users, minus the global mean, in units of the encoder's scale; column 1 is log(1 + users) /
        `POPULARITY_SCALE`. Rows with `own` are first taken out of their item's count and sum, so
        that no row's features contain its own value.
        """
        count = self.statistics.num_users[snapshot, item]
        total = self.statistics.sum_values[snapshot, item]
        if own is not None and own_value is not None:
            count = count - own
            total = total - own * own_value
        mean = self.encoder.value_mean
        excess = (total - count * mean) / (count + self.prior_strength)
        popularity = np.log1p(np.maximum(count, 0)) / POPULARITY_SCALE
        return np.stack([excess / self.encoder.value_scale, popularity], -1).astype(np.float32)

    def users(self, tasks: Tasks) -> Features:
        """Return the features of the tasks' users on the catalogue's device."""
        encoded = self.encoder.encode_users(tasks.profile)
        return {name: onto(self.device, t) for name, t in encoded.items()}

    def support(self, tasks: Tasks) -> Support:
        """Return the support of the tasks."""
        return Support(self.users(tasks), self.rows(tasks.support, tasks))

    def rows(self, side: Ragged, tasks: Tasks) -> Rows:
        """Return one side of the tasks as padded tensors."""
        task, mask = side.task, side.mask
        version = self.versions(side.item, tasks.cut_time[task])
        past = self.past(side.item, tasks.snapshot[task], side.counted, side.value)
        return Rows(
            self._padded(version, mask),
            self._padded(past, mask),
            self._padded(self._scaled(side), mask),
            onto(self.device, torch.from_numpy(mask)),
        )

    def item_rows(
        self, numbers: IntArray, snapshot: int = -1, cut_time: int = schema.END_OF_TIME
    ) -> Rows:
        """Return the items with these numbers as rows that all users share (B is 1).

        Args:
            snapshot: the item statistics to use; by default the newest.
            cut_time: microseconds since 1970; attributes valid then are used.
        """
        versions = self.versions(numbers, np.full(len(numbers), cut_time))
        past = self.past(numbers, np.full(len(numbers), snapshot))
        return Rows(
            torch.from_numpy(versions[None]).to(self.device),
            torch.from_numpy(past[None]).to(self.device),
            torch.zeros((1, len(numbers)), device=self.device),
            torch.ones((1, len(numbers)), dtype=torch.bool, device=self.device),
        )

    def numbers(self, rows: Rows) -> torch.Tensor:
        """Return the number of each row's item, int64 (B, R)."""
        return self._number_V[rows.item_BR]

    def is_of_now(self, side: Ragged, tasks: Tasks) -> bool:
        """Return whether the side's items have their statistics at the end of the log, with the
        rows themselves included."""
        last = len(self.statistics.time) - 1
        return bool(
            (tasks.snapshot == last).all()
            and (tasks.cut_time == schema.END_OF_TIME).all()
            and not side.counted.any()
        )

    def places(self, side: Ragged) -> Places:
        """Return one side as places in the whole catalogue, in the order of its numbers."""
        mask = side.mask
        return Places(
            self._padded(side.item.astype(np.int64), mask),
            self._padded(self._scaled(side), mask),
            onto(self.device, torch.from_numpy(mask)),
        )

    def _scaled(self, side: Ragged) -> Float32Array:
        """Return (N,) values in units of the model."""
        scaled = (side.value - self.encoder.value_mean) / self.encoder.value_scale
        return scaled.astype(np.float32)

    def _padded(self, values: npt.NDArray[np.generic], mask: BoolArray) -> torch.Tensor:
        """Return values (N, ...) laid out as the mask (B, R) says, 0 where padded."""
        full = np.zeros(mask.shape + values.shape[1:], values.dtype)
        full[mask] = values
        return onto(self.device, torch.from_numpy(full))

    def _key(self, item: npt.NDArray[np.integer], time_rank: npt.NDArray[np.integer]) -> IntArray:
        """Return keys that order (item, time) pairs."""
        return np.asarray(item, np.int64) * (len(self._times) + 1) + time_rank + 1
