"""Adapt users and rank the catalogue for them, in blocks, never holding users × items.

Legend: B users, I items, k list length.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import safetensors.torch
import torch

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.numerics.threads import num_threads, on_threads, one_thread
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import Rows, Support
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.serving.retrieval import RetrievalConfig
from recmeta.serving.rules import Rules
from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray
from recmeta.tasks.task_set import Tasks

ROWS_AT_ONCE = 16_384
"""Number of pairs of user and item that one thread scores at once: enough for large products, and
few enough for its core's caches."""
SETTLED_ROWS_AT_ONCE = 65_536
"""The same if the learner ranks catalogues and manages the caches itself."""
FEW_USERS = 4
"""Up to this many users are adapted by one thread, since their operations are small."""
FEW_PAIRS = FEW_USERS * 4_096
"""Up to this many pairs of user and item are scored by one thread."""
MOST_KEPT_ITEMS = 1_000_000
"""Size of the largest catalogue of which a ranker keeps every block, about a hundred numbers for
each item."""
_ALL_BUT_SIGN = 0x7FFFFFFF


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """How lists are made."""

    top_k: int = 10
    """The length of a list. A list is shorter only where the catalogue has fewer unseen items."""
    exclude_seen: bool = True
    """Whether a user's own items are left out of the list."""
    user_batch: int = 128
    """The number of users that are adapted and scored at once."""
    item_block: int = 4096
    """The number of items that are scored at once."""
    reasons: bool = True
    """Whether each listed item names the interaction that speaks most for it. This takes one more
    adaptation for each of the user's interactions."""
    popularity_weight: float | None = None
    """A weight of the logarithm of popularity that replaces the model's; with a smaller one lists
    show more of the catalogue. If not set, the model's weight is used, which was learned."""
    rules: Rules = Rules()
    """The rules that every list follows."""
    retrieval: RetrievalConfig | None = None
    """How candidates are found where the catalogue is too large to be scored for every user. If not
    set, every item is scored."""
    never_worse: bool = True
    """Whether users for whom the model's lists are not certified to be no worse than those of
    recent popularity get the latter; see `train.certificate`. Without a certificate nobody does."""
    explore: ExploreConfig | None = None
    """How lists of users with few interactions try items about which the model is uncertain; if
    None, they do not."""

    def __post_init__(self) -> None:
        for name in ("top_k", "user_batch", "item_block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.popularity_weight is not None and not 0 <= self.popularity_weight < math.inf:
            raise UserError(
                f"popularity_weight is {self.popularity_weight}; it must be finite and at least 0, "
                "which leaves popularity out of the order."
            )
        if self.explore is not None and (self.rules.diversity or self.rules.max_per_category):
            raise UserError(
                "explore is set together with diversity or max_per_category, which an exploring "
                "place could break: leave out one of the two."
            )


@dataclasses.dataclass(frozen=True)
class AdaptedUsers:
    """Users after adaptation: all that scoring needs in addition to the model."""

    user_id: list[str]
    """B ids."""
    state: UserState
    seen_user: IntArray
    """(N,) position of the user of each seen item."""
    seen_item: IntArray
    """(N,) its number."""
    allowed_BI: BoolArray | None = None
    """Which items may be in each user's list, beside the rules that hold for all users; if None,
    any."""

    def batches(self, size: int) -> Iterator["AdaptedUsers"]:
        """Yield the users in order, `size` at a time."""
        for start in range(0, len(self.user_id), size):
            here = (self.seen_user >= start) & (self.seen_user < start + size)
            yield AdaptedUsers(
                self.user_id[start : start + size],
                {name: t[start : start + size] for name, t in self.state.items()},
                self.seen_user[here] - start,
                self.seen_item[here],
                None if self.allowed_BI is None else self.allowed_BI[start : start + size],
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

    item_Bk: IntArray
    worth_Bk: Float32Array
    """The values by which lists are ordered: log-probabilities up to a number that is the same for
    all items of a user (see `ListHead`); -inf past the end."""
    score_Bk: Float32Array
    """For ratings the expected value, which need not fall along the list, and the lowest one past
    its end; for implicit feedback `worth_Bk`."""


def adapt_users(scorer: Scorer, tasks: Tasks, support: Support | None = None) -> AdaptedUsers:
    """Return the tasks' users, adapted to their support.

    Args:
        support: from `scorer.support(tasks)`, if it is available.
    """
    with one_thread(len(tasks) <= FEW_USERS):
        state = scorer.adapt(tasks, support)
    return AdaptedUsers(
        tasks.user_id,
        state,
        tasks.support.task,
        tasks.support.item.astype(np.int64),
    )


def rank(scorer: Scorer, users: AdaptedUsers, config: ScoringConfig) -> RankedLists:
    """Return each user's best items: see `Ranker`."""
    return Ranker(scorer, config).rank(users)


class Ranker:
    """Ranks the catalogue as it stands at the end of a model's log.

    The part of scoring that does not depend on users is done once and kept. One object serves many
    calls.
    """

    def __init__(
        self,
        scorer: Scorer,
        config: ScoringConfig,
        is_eligible_I: BoolArray | None = None,
    ) -> None:
        """
        Args:
            is_eligible_I: which items may be in a list; if None, all.
        """
        if config.popularity_weight is not None:
            scorer = scorer.weighted(config.popularity_weight)
        self.scorer = scorer
        self.model = model = scorer.model
        self.config = config
        self._barred_I = None
        if is_eligible_I is not None and not is_eligible_I.all():
            self._barred_I = torch.from_numpy(~is_eligible_I).to(model.device)
        num_items = model.catalogue.num_items
        self.starts = range(0, num_items, config.item_block)
        self._keeps = num_items <= MOST_KEPT_ITEMS
        self._kept: dict[int, Rows] = {}

    def rank(self, users: AdaptedUsers, top_k: int | None = None) -> RankedLists:
        """Return each user's best items, with the scores that lists show.

        Args:
            top_k: how many; if None, as many as the configuration says.
        """
        item_Bk, worth_Bk = self.best(users, top_k)
        return RankedLists(item_Bk, worth_Bk, self.scores(users.state, item_Bk, worth_Bk))

    def best(self, users: AdaptedUsers, top_k: int | None = None) -> tuple[IntArray, Float32Array]:
        """Return (B, k) each user's best items, and the values by which they are ordered; -1 and
        -inf past the end. Among equal values the lower item number comes first.

        Args:
            top_k: how many; if None, as many as the configuration says.
        """
        num_items = self.model.catalogue.num_items
        with one_thread(len(users.user_id) * num_items <= FEW_PAIRS):
            return self._best(users, min(top_k or self.config.top_k, num_items))

    def _best(self, users: AdaptedUsers, length: int) -> tuple[IntArray, Float32Array]:
        device = self.model.device
        most_rows = SETTLED_ROWS_AT_ONCE if self.scorer.settles else ROWS_AT_ONCE
        at_once = max(1, most_rows // self.config.item_block)
        if device.type != "cpu":
            at_once = self.config.user_batch
        # No thread is left idle by few users.
        at_once = max(1, min(at_once, -(-len(users.user_id) // num_threads(device))))
        batches = list(users.batches(at_once))
        # Fewer users than threads share the catalogue's blocks.
        num_shares = max(1, min(num_threads(device) // max(len(batches), 1), len(self.starts)))
        pieces = [(some, share) for some in batches for share in range(num_shares)]
        found = on_threads(
            lambda piece: self._best_keys(piece[0], self.starts[piece[1] :: num_shares], length),
            pieces,
            device,
        )
        nobody = torch.zeros((0, length), dtype=torch.int64, device=device)
        starts = range(0, len(found), num_shares)
        key_Bk = torch.cat([nobody, *(_best(found[n : n + num_shares], length) for n in starts)])
        worth_Bk, item_Bk = parted(key_Bk)
        item_Bk = torch.where(torch.isfinite(worth_Bk), item_Bk, -1)
        return item_Bk.cpu().numpy(), worth_Bk.cpu().numpy()

    @torch.no_grad()
    def scores(self, state: UserState, item_Bk: IntArray, worth_Bk: Float32Array) -> Float32Array:
        """Return (B, k) the scores that lists show, as in `RankedLists`."""
        if self.model.objective != "rating":
            return worth_Bk
        expected_Bk = self.scorer.predict_values(state, self.scorer.rows_of_now(item_Bk)).expected
        return np.where(item_Bk >= 0, expected_Bk, np.float32(self.model.value_range[0]))

    def _best_keys(self, users: AdaptedUsers, starts: Sequence[int], length: int) -> torch.Tensor:
        """Return keys (B, k) of some users' best items, in order, of the blocks that start here."""
        device = self.model.device
        best_Bk = torch.zeros((len(users.user_id), 0), dtype=torch.int64, device=device)
        settled = self.scorer.settled(users.state)
        for first in starts:
            scores = self.scorer.rank_block(settled, self._block(first))
            last = first + scores.shape[1]
            if self._barred_I is not None:
                scores[:, self._barred_I[first:last]] = -torch.inf
            if users.allowed_BI is not None:
                allowed_BR = torch.from_numpy(users.allowed_BI[:, first:last]).to(device)
                scores.masked_fill_(~allowed_BR, -torch.inf)
            if self.config.exclude_seen:
                here = (users.seen_item >= first) & (users.seen_item < last)
                row = torch.from_numpy(users.seen_user[here]).to(device)
                column = torch.from_numpy(users.seen_item[here] - first).to(device)
                scores[row, column] = -torch.inf
            best_Bk = _best([best_Bk, item_keys(scores, first)], length)
        return best_Bk

    def _block(self, first: int) -> Rows:
        """Return the block of items that starts here."""
        if first in self._kept:
            return self._kept[first]
        last = min(first + self.config.item_block, self.model.catalogue.num_items)
        snapshot = len(self.model.catalogue.statistics.time) - 1
        block = self.scorer.item_block(snapshot, schema.END_OF_TIME, first, last)
        if self._keeps:
            self._kept[first] = block
        return block


def _best(keys: Sequence[torch.Tensor], length: int) -> torch.Tensor:
    """Return the greatest keys (B, k) of several tensors of them, in order."""
    key_BN = torch.cat(list(keys), 1)
    return key_BN.topk(min(length, key_BN.shape[1]), dim=1).values


def item_keys(score_BI: torch.Tensor, first: int) -> torch.Tensor:
    """Return whole numbers that order (score, item) pairs: by score, equal ones by lower item.

    The bits of a float, read as a whole number, are in order where it is positive, and in reverse
    where it is negative. They become the upper half of the key; the item's number, counted down, is
    the lower.
    """
    bits_BI = (score_BI.float() + 0.0).view(torch.int32)  # + 0: there is but one zero
    ordered_BI = torch.where(bits_BI < 0, bits_BI ^ _ALL_BUT_SIGN, bits_BI)
    last = first + score_BI.shape[1]
    down_I = _ALL_BUT_SIGN - torch.arange(first, last, device=score_BI.device)
    return (ordered_BI.long() << 32) + down_I


def parted(key_Bk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores, in float32, and the items of keys from `item_keys`."""
    ordered_Bk = (key_Bk >> 32).int()
    bits_Bk = torch.where(ordered_Bk < 0, ordered_Bk ^ _ALL_BUT_SIGN, ordered_Bk)
    return bits_Bk.view(torch.float32), _ALL_BUT_SIGN - (key_Bk & 0xFFFFFFFF)
