"""Interaction logs whose best possible predictor is known.

Every user u has a vector w_u = (bias, d preferences), every item i a vector φ_i = (1, d properties)
and a quality q_i, and a rating is

    r_ui = mean + q_i + w_u · φ_i + ε,    w_u ~ N(m(profile of u), Σ),    ε ~ N(0, noise²)

Preferences are low-rank, profiles and item attributes tell a share of them, and which items a user
meets depends on popularity (a power law) but not on what the user thinks of them. So, given the
items, a user's posterior is a Bayesian linear regression and its mean, in closed form, predicts
better than anything else can (Bishop, Pattern Recognition and Machine Learning, 2006, eq. 3.50).

In the implicit variant preferences decide what a user clicks; no closed form is known for it.

Legend: U users, I items, B tasks, S support rows (padded), N query rows, d preferences, w = 1 + d.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from recmeta import schema
from recmeta.tasks.arrays import Float64Array, IntArray, offsets_of, positions_of
from recmeta.tasks.task_set import Objective, Tasks

START = 1_600_000_000
"""Seconds since 1970 of the first possible event."""
DURATION = 365 * 86_400
"""Seconds within which users arrive."""
NUM_TAGS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """How many users and items, and how much there is to learn about them."""

    num_users: int = 600
    """Users, each with `rows_per_user` interactions or one."""
    num_items: int = 200
    """Items in the catalogue; the least popular may never be met."""
    rows_per_user: tuple[int, int] = (10, 40)
    """Fewest and most interactions of a user, drawn evenly."""
    objective: Objective = "rating"
    """`rating`: graded values with a known optimum. `implicit`: clicks on preferred items."""
    num_preferences: int = 2
    """d: the rank of what users disagree about, beyond their bias."""
    preference_scale: float = 0.6
    """Standard deviation of each preference over all users, in units of the value."""
    user_bias_scale: float = 0.4
    """Standard deviation of users' biases, in units of the value."""
    quality_scale: float = 0.4
    """Standard deviation of the items' qualities, in units of the value."""
    noise: float = 0.5
    """Standard deviation of what nothing explains, in units of the value."""
    profile_share: float = 0.3
    """Share of the variance of preferences that the users' profile tells, 0 to 1."""
    attribute_share: float = 0.7
    """Share of the variance of item properties and qualities that attributes tell, 0 to 1."""
    popularity_exponent: float = 0.8
    """The item of popularity rank n is met in proportion to n to the minus this; 0: all alike."""
    popularity_lap_days: float | None = None
    """Days in which each item goes once through all ranks of popularity, from the first to the
    last, as new releases grow old; if None, an item keeps its rank."""
    mean: float = 3.5
    """Mean value."""
    num_stars: int | None = None
    """Values are whole numbers from 1 to this, as people give them: rounded and clipped. If None,
    they are real numbers and not clipped, which the closed form needs."""

    def __post_init__(self) -> None:
        fewest, most = self.rows_per_user
        if not 1 <= fewest <= most <= self.num_items:
            raise ValueError(
                f"rows_per_user is {self.rows_per_user}; it must be two growing numbers from 1 to "
                f"num_items ({self.num_items})."
            )
        if self.num_users < 1 or self.num_preferences < 1:
            raise ValueError(
                f"num_users {self.num_users} and num_preferences {self.num_preferences} must be at "
                "least 1."
            )
        if self.num_stars is not None and self.num_stars < 2:
            raise ValueError(f"num_stars is {self.num_stars}; it must be at least 2.")
        if self.popularity_lap_days is not None and not self.popularity_lap_days > 0:
            raise ValueError(
                f"popularity_lap_days is {self.popularity_lap_days}; it must be above 0."
            )
        for name in ("profile_share", "attribute_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1.")
        if self.noise <= 0 or self.user_bias_scale <= 0 or self.preference_scale <= 0:
            raise ValueError(
                f"noise {self.noise}, user_bias_scale {self.user_bias_scale} and preference_scale "
                f"{self.preference_scale} must be positive: the optimum divides by them."
            )


@dataclasses.dataclass(frozen=True)
class Truth:
    """What generated a log. Users and items stand in the order of their ids."""

    item_base_I: Float64Array
    """Mean value plus the item's quality."""
    item_vector_Iw: Float64Array
    """φ: a 1, then the item's properties."""
    user_vector_Uw: Float64Array
    """w_u, which nobody knows."""
    prior_mean_Uw: Float64Array
    """m: what the user's profile says of w_u."""
    prior_variance_w: Float64Array
    """The diagonal of Σ; off it Σ is 0."""
    noise: float
    """Standard deviation of ε."""


@dataclasses.dataclass(frozen=True)
class SyntheticLog:
    """A log in the columns of `recmeta.schema`, and the truth behind it."""

    config: SyntheticConfig
    interactions: pa.Table
    """`user_id`, `item_id`, `timestamp`, `event`, `value`, by user and time."""
    users: pa.Table
    """`user_id`, `valid_from` (null), `group` (categorical), `age` (numeric)."""
    items: pa.Table
    """`item_id`, `valid_from` (null), `genre` (categorical), `tags` (multi-valued), `length`
    (numeric)."""
    truth: Truth

    @property
    def objective(self) -> Objective:
        """What the values are."""
        return self.config.objective


def generate(config: SyntheticConfig, seed: int) -> SyntheticLog:
    """Draw a log; the same configuration and seed give the same log."""
    rng = np.random.default_rng(seed)
    num_users, num_items = config.num_users, config.num_items
    truth, users, items = _population(config, rng)

    first_rank_I = rng.permutation(num_items)
    chance_UI = rng.gumbel(size=(num_users, num_items))
    num_rows_U = rng.integers(config.rows_per_user[0], config.rows_per_user[1] + 1, num_users)
    arrival_U = START + rng.integers(0, DURATION, num_users)

    rank_UI = np.broadcast_to(first_rank_I, (num_users, num_items))
    if config.popularity_lap_days is not None:
        laps_U = (arrival_U - START) / (config.popularity_lap_days * 86_400)
        rank_UI = (rank_UI + (laps_U * num_items).astype(np.int64)[:, None]) % num_items
    appeal_UI = -config.popularity_exponent * np.log(rank_UI + 1.0)
    if config.objective == "implicit":
        preference_UI = truth.user_vector_Uw @ truth.item_vector_Iw.T + truth.item_base_I
        appeal_UI = appeal_UI + 2.0 * preference_UI / config.preference_scale
    # The largest sums with Gumbel noise are a draw without replacement, in order (Kool, van Hoof
    # and Welling, ICML 2019).
    order_UI = np.argsort(-(appeal_UI + chance_UI), axis=1)
    user = np.repeat(np.arange(num_users), num_rows_U)
    position = positions_of(num_rows_U)
    item = order_UI[user, position]

    seconds = arrival_U[user] + position * 60 + rng.integers(0, 60, len(user))
    value = np.ones(len(user))
    if config.objective == "rating":
        agreement = np.einsum(
            "nw,nw->n", truth.user_vector_Uw[user], truth.item_vector_Iw[item], optimize=True
        )
        value = truth.item_base_I[item] + agreement + rng.normal(0, config.noise, len(user))
        if config.num_stars is not None:
            value = value.round().clip(1, config.num_stars)
    interactions = pa.table(
        {
            schema.USER_ID: users[schema.USER_ID].combine_chunks().take(pa.array(user)),
            schema.ITEM_ID: items[schema.ITEM_ID].combine_chunks().take(pa.array(item)),
            schema.TIMESTAMP: pa.array(seconds * 1_000_000).cast(schema.TIME),
            schema.EVENT: pa.array(
                ["rating" if config.objective == "rating" else "click"] * len(user)
            ),
            schema.VALUE: pa.array(value),
        }
    )
    return SyntheticLog(config, interactions, users, items, truth)


def _population(
    config: SyntheticConfig, rng: np.random.Generator
) -> tuple[Truth, pa.Table, pa.Table]:
    """Draw the truth, the users and the items."""
    items, property_Id, quality_I = _draw_items(config, rng)
    users, mean_Uw, variance_w = _draw_users(config, rng)
    truth = Truth(
        item_base_I=config.mean + quality_I,
        item_vector_Iw=np.column_stack([np.ones(config.num_items), property_Id]),
        user_vector_Uw=mean_Uw + np.sqrt(variance_w) * rng.normal(size=mean_Uw.shape),
        prior_mean_Uw=mean_Uw,
        prior_variance_w=variance_w,
        noise=config.noise,
    )
    return truth, users, items


def _draw_items(
    config: SyntheticConfig, rng: np.random.Generator
) -> tuple[pa.Table, Float64Array, Float64Array]:
    """Draw the table of items, their properties (I, d) and their qualities (I,)."""
    num_preferences = config.num_preferences
    genre = rng.integers(0, 6, config.num_items)
    has_tag = rng.random((config.num_items, NUM_TAGS)) < 0.25
    length = rng.normal(size=config.num_items)
    told_Id = (
        rng.normal(size=(6, num_preferences))[genre]
        + has_tag @ rng.normal(size=(NUM_TAGS, num_preferences))
        + length[:, None] * rng.normal(size=num_preferences)
    )
    told_I = rng.normal(size=6)[genre] + length
    property_Id = _mixed(told_Id, config.attribute_share, rng)
    quality_I = config.quality_scale * _mixed(told_I[:, None], config.attribute_share, rng)[:, 0]
    offsets = offsets_of(has_tag.sum(1)).astype(np.int32)
    items = pa.table(
        {
            schema.ITEM_ID: _ids("i", config.num_items),
            schema.VALID_FROM: pa.nulls(config.num_items, schema.TIME),
            "genre": _labels("genre", genre),
            "tags": pa.ListArray.from_arrays(
                pa.array(offsets), _labels("tag", np.nonzero(has_tag)[1])
            ),
            "length": pa.array(90 + 20 * length),
        }
    )
    return items, property_Id, quality_I


def _draw_users(
    config: SyntheticConfig, rng: np.random.Generator
) -> tuple[pa.Table, Float64Array, Float64Array]:
    """Draw the table of users, and the mean (U, w) and the variances (w,) of their vectors."""
    num_preferences = config.num_preferences
    width = 1 + num_preferences
    group = rng.integers(0, 5, config.num_users)
    age = np.round(rng.uniform(15, 75, config.num_users))
    told_Uw = rng.normal(size=(5, width))[group] + (age[:, None] - 45) / 17 * rng.normal(size=width)
    scale_w = np.array([config.user_bias_scale] + [config.preference_scale] * num_preferences)
    mean_Uw = np.sqrt(config.profile_share) * _standardised(told_Uw) * scale_w
    variance_w = np.maximum(1 - config.profile_share, 1e-9) * scale_w**2
    users = pa.table(
        {
            schema.USER_ID: _ids("u", config.num_users),
            schema.VALID_FROM: pa.nulls(config.num_users, schema.TIME),
            "group": _labels("group", group),
            "age": pa.array(age),
        }
    )
    return users, mean_Uw, variance_w


def _mixed(told: Float64Array, share: float, rng: np.random.Generator) -> Float64Array:
    """Return columns of variance 1, of which attributes tell `share`."""
    mixed: Float64Array = np.sqrt(share) * _standardised(told) + np.sqrt(1 - share) * rng.normal(
        size=told.shape
    )
    return mixed


def _standardised(columns: Float64Array) -> Float64Array:
    standardised: Float64Array = (columns - columns.mean(0)) / np.maximum(columns.std(0), 1e-9)
    return standardised


def _ids(prefix: str, count: int) -> pa.Array:
    """Return ids that sort as they are numbered."""
    digits = len(str(count - 1))
    return pa.array([f"{prefix}{number:0{digits}d}" for number in range(count)])


def _labels(prefix: str, codes: IntArray) -> pa.Array:
    """Return the name of each code, such as `genre-3`."""
    known = pa.array([f"{prefix}-{code}" for code in range(int(codes.max(initial=0)) + 1)])
    return known.take(pa.array(codes))


def write_csv(log: SyntheticLog, folder: Path) -> None:
    """Write interactions.csv, users.csv and items.csv, as someone's own log might come.

    Times are seconds since 1970; the tags of an item are joined by `|`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seconds = pc.divide(log.interactions[schema.TIMESTAMP].cast(pa.int64()), 1_000_000)
    place = log.interactions.column_names.index(schema.TIMESTAMP)
    csv.write_csv(
        log.interactions.set_column(place, schema.TIMESTAMP, seconds), folder / "interactions.csv"
    )
    csv.write_csv(log.users.drop_columns([schema.VALID_FROM]), folder / "users.csv")
    items = log.items.drop_columns([schema.VALID_FROM])
    place = items.column_names.index("tags")
    csv.write_csv(
        items.set_column(place, "tags", pc.binary_join(items["tags"], "|")), folder / "items.csv"
    )


class BayesOptimal:
    """The best possible predictor of a synthetic rating log: knows the items, infers the user."""

    name = "bayes-optimal"
    predicts_values = True

    def __init__(self, log: SyntheticLog) -> None:
        if log.config.objective != "rating":
            raise ValueError("the optimum is known for objective 'rating' alone.")
        if log.config.num_stars is not None:
            raise ValueError("the optimum is not known where values are rounded: num_stars is set.")
        self._user_id = log.users[schema.USER_ID].combine_chunks()
        self._truth = log.truth

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the posterior mean of every query row's value, given the task's support.

        The tasks' item numbers must be those of the log's whole catalogue in the order of its ids.
        """
        truth, query = self._truth, tasks.query
        mean_Bw = self._posterior_mean(tasks)
        agreement = np.einsum("nw,nw->n", mean_Bw[query.task], truth.item_vector_Iw[query.item])
        predicted: Float64Array = truth.item_base_I[query.item] + agreement
        return predicted

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) the posterior mean of every item's value."""
        scores: Float64Array = (
            self._truth.item_base_I + self._posterior_mean(tasks) @ self._truth.item_vector_Iw.T
        )
        return scores

    def _posterior_mean(self, tasks: Tasks) -> Float64Array:
        """Return (B, w): (Σ⁻¹ + ΦᵀΦ/σ²)⁻¹ (Σ⁻¹ m + Φᵀ (r − base)/σ²), user by user."""
        truth, support = self._truth, tasks.support
        ids = tasks.profile[schema.USER_ID].combine_chunks()
        user_B = pc.index_in(ids.cast(pa.string()), self._user_id).to_numpy()
        shape = (len(tasks), int(support.lengths.max(initial=0)))
        phi_BSw = np.zeros((*shape, truth.item_vector_Iw.shape[1]))
        phi_BSw[support.task, support.position] = truth.item_vector_Iw[support.item]
        left_BS = np.zeros(shape)
        left_BS[support.task, support.position] = support.value - truth.item_base_I[support.item]
        precision_Bww = np.diag(1 / truth.prior_variance_w) + (
            phi_BSw.transpose(0, 2, 1) @ phi_BSw / truth.noise**2
        )
        right_Bw = truth.prior_mean_Uw[user_B] / truth.prior_variance_w + (
            np.einsum("bsw,bs->bw", phi_BSw, left_BS) / truth.noise**2
        )
        mean_Bw: Float64Array = np.linalg.solve(precision_Bww, right_Bw[..., None])[..., 0]
        return mean_Bw
