"""Adapt users and rank the catalogue for them, in blocks, never holding users × items.

Legend: B users, I items, k list length.
"""

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from recmeta.metalearn.learner import UserState
from recmeta.metalearn.model import Model
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """How lists are made."""

    top_k: int = 10
    """Length of a list; shorter only where the catalogue has fewer unseen items."""
    exclude_seen: bool = True
    """Whether a user's own items stay out of the list."""
    user_batch: int = 128
    """Users that are adapted and scored at once."""
    item_block: int = 2048
    """Items that are scored at once."""

    def __post_init__(self) -> None:
        for name in ("top_k", "user_batch", "item_block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclasses.dataclass(frozen=True)
class AdaptedUsers:
    """Users after adaptation: all that scoring them needs beside the model."""

    user_id: list[str]
    """B ids."""
    state: UserState
    seen_user: npt.NDArray[np.int64]
    """(N,) position of the user of each seen item."""
    seen_item: npt.NDArray[np.int64]
    """(N,) its number."""

    def batches(self, size: int) -> Iterator["AdaptedUsers"]:
        """Yield the users in order, `size` at a time."""
        for start in range(0, len(self.user_id), size):
            here = (self.seen_user >= start) & (self.seen_user < start + size)
            yield AdaptedUsers(
                self.user_id[start : start + size],
                {name: t[start : start + size] for name, t in self.state.items()},
                self.seen_user[here] - start,
                self.seen_item[here],
            )

    def to(self, device: torch.device) -> "AdaptedUsers":
        """Return the users with their states on a device."""
        moved = {name: t.to(device) for name, t in self.state.items()}
        return dataclasses.replace(self, state=moved)

    def to_bytes(self) -> bytes:
        """Return a safetensors file; item numbers are those of the model that adapted the users."""
        # A file holds no tensor twice, and layers may share their inputs: clone.
        tensors = {
            f"state.{name}": t.clone(memory_format=torch.contiguous_format)
            for name, t in self.state.items()
        }
        tensors["seen_user"] = torch.from_numpy(self.seen_user)
        tensors["seen_item"] = torch.from_numpy(self.seen_item)
        tensors["user_id"] = torch.frombuffer(
            bytearray(json.dumps(self.user_id).encode()), dtype=torch.uint8
        )
        content: bytes = safetensors.torch.save(tensors)
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> "AdaptedUsers":
        """Read what `to_bytes` gave."""
        tensors = safetensors.torch.load(content)
        return cls(
            json.loads(bytes(tensors["user_id"].numpy())),
            {n.removeprefix("state."): t for n, t in tensors.items() if n.startswith("state.")},
            tensors["seen_user"].numpy(),
            tensors["seen_item"].numpy(),
        )


@dataclasses.dataclass(frozen=True)
class RankedLists:
    """Ranked items of B users, best first. A user's places past the end have item -1."""

    item_Bk: npt.NDArray[np.int64]
    score_Bk: npt.NDArray[np.float32]
    """In units of the value for ratings; a logit for implicit feedback."""


def adapt_users(model: Model, tasks: Tasks) -> AdaptedUsers:
    """Return the tasks' users, adapted to their support."""
    return AdaptedUsers(
        tasks.user_id,
        model.adapt(tasks),
        tasks.support.task,
        tasks.support.item.astype(np.int64),
    )


def rank(model: Model, users: AdaptedUsers, config: ScoringConfig) -> RankedLists:
    """Return each user's best items of the catalogue as it stands at the end of the model's log.

    Among equal scores the lower item number comes first.
    """
    num_users, num_items = len(users.user_id), model.catalogue.num_items
    snapshot = len(model.catalogue.statistics.time) - 1
    now = int(np.iinfo(np.int64).max)
    best = torch.full((num_users, 0), -torch.inf, device=model.device)
    items = torch.zeros((num_users, 0), dtype=torch.int64, device=model.device)
    for first in range(0, num_items, config.item_block):
        last = min(first + config.item_block, num_items)
        scores = model.score_items(users.state, snapshot, now, first, last)
        if config.exclude_seen:
            here = (users.seen_item >= first) & (users.seen_item < last)
            row = torch.from_numpy(users.seen_user[here]).to(model.device)
            column = torch.from_numpy(users.seen_item[here] - first).to(model.device)
            scores[row, column] = -torch.inf
        numbers = torch.arange(first, last, device=model.device).expand(num_users, -1)
        best = torch.cat([best, scores], 1)
        items = torch.cat([items, numbers], 1)
        order = torch.sort(best, dim=1, descending=True, stable=True).indices[:, : config.top_k]
        best, items = best.gather(1, order), items.gather(1, order)
    item = torch.where(torch.isfinite(best), items, -1).cpu().numpy()
    return RankedLists(item, model.to_values(best))
