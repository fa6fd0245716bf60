"""The score by which lists are ordered: the log-probability that a user takes an item next and
likes it.

    score(i) = w_π(n) log(π_i + c) + Σ_k w_k(n) z_k(i, S) + w_t(n) t(i, S) + w_0(n) t(i, ∅)
               + w_l(n) l(i, S)

π is the number of recent takes of the item before the user's cut time (`ItemHistory`); z_k is the
evidence of the user's rows S from a table of neighbours or from shared attributes, centred and
scaled over the catalogue; t is the log-odds that an adapted user takes the item next
(`ChoiceHead`), if the model has learned them, and t(i, ∅) the same before any row is known; l is
the learner's output: the expected value of a rating, or the score for implicit feedback. The
weights depend on the number n of the user's rows: piecewise linear in log(1 + n). They maximise the
likelihood of the items that development users took and liked next, a softmax over the catalogue
(McFadden, Frontiers in Econometrics, Academic Press 1974), which is why the softmax of the scores
is a probability; where it makes lists better, popularity's weight is lowered below that optimum:
see `recmeta.training.lists`.

Legend: B users, S support rows (padded), I items, R items of each user, K knots, C columns.
"""

import dataclasses
import functools
from typing import Any, Self

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.heads.choice_head import ChoiceHead, likings
from recmeta.metalearn.heads.neighbours import Neighbours
from recmeta.metalearn.heads.shared_attributes import SharedAttributes
from recmeta.metalearn.learner import Params, UserState
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.task_set import Ragged

KNOTS = (0, 1, 3, 10, 30)
"""Numbers of support rows at which weights are learned."""
POPULARITY, LEARNER, CHOICES = "popularity", "learner", "choices"
"""Names of columns; each table of evidence from a user's rows is a further column with a name of
its own."""
CHOICES_BEFORE = "choices-before"
"""The value of `choices` before any row was known. It is a column of its own, so that few rows do
not count for more than they are worth."""
ATTRIBUTES = "attributes"
"""Name of the column for attributes that items share; all other tables are of neighbours."""
Table = Neighbours | SharedAttributes
"""The evidence of an item for other items."""
ITEM, WEIGHT, LIKING = "list.item", "list.weight", "list.liking"
"""Keys of a user's state, (B, S): the rows' items, the weight of each in the tables, and how much
it was liked, from -1 to 1; NaN if it was not taken, or is padding."""
PROFILE = "list.profile"
"""Key of a user's state, (B, W): codes of the profile, see `value_codes`."""
BASE, LEARNER_WEIGHT = "list.base", "list.learner"
"""Keys of a settled state: the scores without the learner's part, (B, I), and the weight of the
learner's output, (B, 1)."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ListHead:
    """The order of lists. Item numbers are those of the catalogue that the model is over."""

    columns: tuple[str, ...]
    """C names: `popularity`, `learner`, `choices`, and those of `tables`."""
    weight_KC: torch.Tensor
    """float32, the columns' weights at each of `KNOTS`."""
    offset: float = 1.0
    """c, which is added to every count before its logarithm is taken."""
    half_life_days: float | None = None
    """The age at which a take counts half. If None, every take counts 1."""
    count_I: torch.Tensor
    """float32, π: the counts at the end of the log that the model is over."""
    tables: dict[str, Table] = dataclasses.field(default_factory=dict)
    """The tables of evidence from the items of a user's rows, by column."""
    centre: float | None = None
    """The value from which a row's weight is measured, in units of the value: a row with a lower
    value counts against the items near it. If None, every row counts 1."""
    taken_from: float | None = None
    """The least value of a take, see `TaskSetSpec`; without a centre, a row with a lower value has
    weight 0."""
    horizon: int | None = None
    """The number of a user's newest rows that the tables of neighbours read, or None where rows
    have no order."""
    choices: ChoiceHead | None = None
    """The head that predicts what an adapted user takes next, or None if it was not learned."""
    value_range: tuple[float, float] | None = None
    """The range of the values, which says how much a row was liked, or None if values do not say
    so."""

    @classmethod
    def of_popularity(
        cls, weight: float, count_I: Float32Array, device: torch.device
    ) -> "ListHead":
        """Return the head that adds a multiple of log(1 + users) to the learner's output."""
        weight_C = torch.tensor([weight, 1.0], device=device)
        return cls(
            columns=(POPULARITY, LEARNER),
            weight_KC=weight_C.expand(len(KNOTS), -1),
            count_I=torch.from_numpy(np.array(count_I, np.float32)).to(device),
        )

    @property
    def table_names(self) -> tuple[str, ...]:
        """The columns that are tables."""
        return tuple(name for name in self.columns if name in self.tables)

    def with_popularity(self, weight: float) -> "ListHead":
        """Return the head with this weight of popularity at every number of rows.

        Raises:
            UserError: if the head does not read popularity.
        """
        if POPULARITY not in self.columns:
            raise UserError(
                "popularity_weight is set, and this model's lists do not read popularity: leave it "
                "out."
            )
        weight_KC = self.weight_KC.clone()
        weight_KC[:, self.columns.index(POPULARITY)] = weight
        return dataclasses.replace(self, weight_KC=weight_KC)

    def with_popularity_share(self, share: float) -> "ListHead":
        """Return the head with a lower weight of popularity: this share of it at the last knot,
        more with fewer rows, and all of it without rows."""
        knot_K = torch.tensor(KNOTS, device=self.weight_KC.device).log1p()
        weight_KC = self.weight_KC.clone()
        weight_KC[:, self.columns.index(POPULARITY)] *= share ** (knot_K / knot_K[-1])
        return dataclasses.replace(self, weight_KC=weight_KC)

    def on(
        self, number_I: IntArray, count_I: Float32Array, code_IW: torch.Tensor | None
    ) -> "ListHead":
        """Return the head over another catalogue.

        Args:
            number_I: each item's number in that catalogue, or -1 where it has none.
            count_I: π of the items of that catalogue.
            code_IW: their values, see `attribute_codes`, or None if the encoder knows no attribute.
        """
        num_items = len(count_I)

        def over(table: Table) -> Table:
            if isinstance(table, Neighbours):
                return table.renumbered(number_I, num_items)
            assert code_IW is not None, "the encoder knew attributes when this was counted"
            return table.over(code_IW)

        return dataclasses.replace(
            self,
            count_I=torch.from_numpy(np.array(count_I, np.float32)).to(self.count_I.device),
            tables={name: over(table) for name, table in self.tables.items()},
            choices=None if self.choices is None else self.choices.on(number_I, num_items),
        )

    def to(self, device: torch.device) -> "ListHead":
        """Return the head on a device."""
        return dataclasses.replace(
            self,
            weight_KC=self.weight_KC.to(device),
            count_I=self.count_I.to(device),
            tables={name: table.to(device) for name, table in self.tables.items()},
            choices=None if self.choices is None else self.choices.to(device),
        )

    # Users ---------------------------------------------------------------------------------------

    def state(self, support: Ragged, profile_BW: torch.Tensor) -> UserState:
        """Return the state of B users as `settle` reads it: their rows and, if the head reads them,
        their profiles.

        Args:
            profile_BW: int64, see `value_codes`.
        """
        mask_BS = support.mask
        item_BS = np.zeros(mask_BS.shape, np.int64)
        weight_BS = np.zeros(mask_BS.shape, np.float32)
        item_BS[mask_BS] = support.item
        weight_BS[mask_BS] = self.row_weights(support.value)
        device = self.count_I.device
        found = {
            ITEM: torch.from_numpy(item_BS).to(device),
            WEIGHT: torch.from_numpy(weight_BS).to(device),
        }
        if self.choices is not None:
            liking_BS = np.full(mask_BS.shape, np.nan, np.float32)
            taken_from = -np.inf if self.taken_from is None else self.taken_from
            liking_N = likings(support.value, self.value_range)
            liking_BS[mask_BS] = np.where(support.value >= taken_from, liking_N, np.nan)
            found[LIKING] = torch.from_numpy(liking_BS).to(device)
            found[PROFILE] = profile_BW.to(device)
        return found

    def row_weights(self, value_N: Float32Array) -> Float32Array:
        """Return (N,) the weights of rows with these values. A row that is no evidence has weight
        0, as padding has."""
        if self.centre is None:
            taken_from = -np.inf if self.taken_from is None else self.taken_from
            return (value_N >= taken_from).astype(np.float32)
        weight_N = (value_N - self.centre).astype(np.float32)
        return np.where(weight_N == 0, np.float32(1e-6), weight_N)

    def with_rows(self, state: UserState) -> UserState:
        """Return a state in which `settle` finds rows: none of them in a state of an earlier
        version, whose lists did not read the rows."""
        if ITEM in state:
            return state
        num_users = len(next(iter(state.values())))
        no_rows = Ragged.from_lists([[]] * num_users, [[]] * num_users)
        return state | self.state(no_rows, torch.zeros((num_users, 0), dtype=torch.int64))

    def settle(self, state: UserState, count_BI: torch.Tensor | None = None) -> UserState:
        """Return the parts of users' scores that do not depend on the learner.

        Args:
            count_BI: π at the users' cut times, or None for `count_I`.
        """
        state = self.with_rows(state)
        item_BS, weight_BS = state[ITEM], state[WEIGHT]
        weight_BC = self.weights((weight_BS != 0).sum(1))
        counts = self.count_I[None] if count_BI is None else count_BI
        base_BI = weight_BS.new_zeros((len(item_BS), self.count_I.shape[0]))
        for column, name in enumerate(self.columns):
            weight_B1 = weight_BC[:, column, None]
            if name == POPULARITY:
                base_BI.addcmul_(weight_B1, (counts + self.offset).log())
            elif name in self.tables:
                z_BI = self.standardised(self.tables[name].evidence(item_BS, weight_BS))
                base_BI.addcmul_(weight_B1, z_BI)
            elif name == CHOICES:
                base_BI.addcmul_(weight_B1, self.log_odds(state))
            elif name == CHOICES_BEFORE:
                base_BI.addcmul_(weight_B1, self.log_odds_before(state))
        learner_B1 = weight_BC[:, self.columns.index(LEARNER), None]
        return {BASE: base_BI, LEARNER_WEIGHT: learner_B1}

    def log_odds(self, state: UserState) -> torch.Tensor:
        """Return (B, I) the log-probabilities that adapted users take the items next, up to a
        constant for each user."""
        assert self.choices is not None, "only a head with choices has that column"
        user_BD = self.choices.adapt(*choice_inputs(state))
        return self.choices.scores(user_BD)

    def log_odds_before(self, state: UserState) -> torch.Tensor:
        """Return (B, I) the log-probabilities before any row of the users was known."""
        assert self.choices is not None, "only a head with choices has that column"
        *_, profile_BW = choice_inputs(state)
        return self.choices.scores(self.choices.starts(profile_BW))

    def choice_effects(self, state: UserState, target_Bk: torch.Tensor) -> torch.Tensor:
        """Return (B, S, k) the effect of each of the users' rows on those log-probabilities of some
        items.

        Args:
            target_Bk: int64 items of each user.
        """
        assert self.choices is not None, "only a head with choices has that column"
        return self.choices.effects(*choice_inputs(state), target_Bk)

    def weights(self, num_rows_B: torch.Tensor) -> torch.Tensor:
        """Return (B, C) the columns' weights for users with these numbers of rows."""
        return self._weight_NC[num_rows_B.clamp(max=KNOTS[-1])]

    @functools.cached_property
    def _weight_NC(self) -> torch.Tensor:
        """The weights for each number of rows up to the last knot, from which on they are the
        same."""
        num_rows_N = torch.arange(KNOTS[-1] + 1, device=self.weight_KC.device)
        return hat(num_rows_N).to(self.weight_KC) @ self.weight_KC

    @staticmethod
    def standardised(evidence_BI: torch.Tensor) -> torch.Tensor:
        """Return evidence with mean 0 and standard deviation 1 over the catalogue, or 0 where there
        is no evidence."""
        mean_B1 = evidence_BI.mean(1, keepdim=True)
        deviation_B1 = evidence_BI.std(1, keepdim=True, correction=0)
        return (evidence_BI - mean_B1) / deviation_B1.clamp(min=1e-9)

    @staticmethod
    def scores(settled: UserState, learner_BR: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Return (B, R) the values by which lists are ordered.

        Args:
            learner_BR: the learner's outputs.
            item: int64 numbers, (R,) for all users or (B, R) for each user's own.
        """
        base_BI = settled[BASE]
        base_BR = base_BI[:, item] if item.dim() == 1 else base_BI.gather(1, item)
        return torch.addcmul(base_BR, settled[LEARNER_WEIGHT].to(learner_BR), learner_BR)

    # Saving --------------------------------------------------------------------------------------

    def tensors(self) -> Params:
        """Return all tensors by name, on the CPU."""
        found = {"weight": self.weight_KC, "count": self.count_I}
        for name, table in self.tables.items():
            for field in dataclasses.fields(table):
                found[f"{name}.{field.name}"] = getattr(table, field.name)
        if self.choices is not None:
            found |= {f"{CHOICES}.{name}": p for name, p in self.choices.params.items()}
        return {name: t.detach().cpu().contiguous() for name, t in found.items()}

    def about(self) -> dict[str, Any]:
        """Return everything but the tensors, JSON-ready."""
        return {
            "columns": list(self.columns),
            "tables": list(self.tables),
            "offset": self.offset,
            "half_life_days": self.half_life_days,
            "centre": self.centre,
            "horizon": self.horizon,
            "taken_from": self.taken_from,
            "choices": None if self.choices is None else self.choices.about(),
            "value_range": None if self.value_range is None else list(self.value_range),
        }

    @classmethod
    def from_saved(cls, about: dict[str, Any], tensors: Params, device: torch.device) -> Self:
        """Return the head that `about` and `tensors` describe."""
        tables: dict[str, Table] = {}
        for name in about["tables"]:
            kind = SharedAttributes if name == ATTRIBUTES else Neighbours
            parts = (tensors[f"{name}.{field.name}"] for field in dataclasses.fields(kind))
            tables[name] = kind(*parts).to(device)
        # Heads of earlier versions have neither entry.
        about_choices, value_range = about.get("choices"), about.get("value_range")
        choices = None
        if about_choices is not None:
            prefix = f"{CHOICES}."
            params = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
            choices = ChoiceHead(params=params, **about_choices).to(device)
        return cls(
            columns=tuple(about["columns"]),
            weight_KC=tensors["weight"].to(device),
            offset=about["offset"],
            half_life_days=about["half_life_days"],
            count_I=tensors["count"].to(device),
            tables=tables,
            centre=about["centre"],
            horizon=about["horizon"],
            taken_from=about.get(
                "taken_from"
            ),  # absent in an earlier version, in which every row counts
            choices=choices,
            value_range=None if value_range is None else (value_range[0], value_range[1]),
        )


def choice_inputs(
    state: UserState,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the users' rows, how much they were liked and which were taken, (B, S) each, and the
    users' profiles (B, W), which are unknown in states of an earlier version."""
    item_BS, liking_BS = state[ITEM], state[LIKING]
    profile_BW = state.get(PROFILE, item_BS.new_zeros((len(item_BS), 0)))
    return item_BS, liking_BS.nan_to_num(), ~liking_BS.isnan(), profile_BW


def hat(num_rows_B: torch.Tensor) -> torch.Tensor:
    """Return (B, K) the weight of each knot for users with these numbers of rows: the two knots
    next to log(1 + n) share a weight of 1."""
    knot_K = torch.tensor(KNOTS, dtype=torch.float64, device=num_rows_B.device).log1p()
    at_B = num_rows_B.double().log1p().clamp(max=float(knot_K[-1]))
    left_B = (torch.searchsorted(knot_K, at_B, right=True) - 1).clamp(0, len(KNOTS) - 2)
    share_B = (at_B - knot_K[left_B]) / (knot_K[left_B + 1] - knot_K[left_B])
    found_BK = torch.zeros((len(at_B), len(KNOTS)), dtype=torch.float64, device=at_B.device)
    found_BK.scatter_(1, left_B[:, None], (1 - share_B)[:, None])
    found_BK.scatter_(1, left_B[:, None] + 1, share_B[:, None])
    return found_BK
