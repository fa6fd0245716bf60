"""Estimates of what other lists would have earned, from a log of served lists.

>>> import polars as pl, recmeta
>>> served = pl.DataFrame({
...     "user_id": ["ann", "ann", "bob", "bob"], "item_id": ["a", "b", "b", "a"],
...     "rank": [1, 2, 1, 2], "propensity": [0.5, 0.5, 0.5, 0.5], "reward": [1.0, 0.0, 0.0, 0.0],
... })
>>> others = pl.DataFrame({
...     "user_id": ["ann", "ann", "bob", "bob"], "item_id": ["a", "b", "a", "b"],
...     "rank": [1, 2, 1, 2],
... })
>>> found = recmeta.off_policy(served, others)
>>> found.to_frame()["policy", "estimator", "value"].rows()[:3]
[('logged', 'mean', 0.5), ('other', 'ips', 1.0), ('other', 'snips', 1.0)]
>>> recmeta.off_policy(served, others, config={"confidence": 0.8}).estimates.num_matched
2
>>> recmeta.ab_test(rate=0.05, effect=0.01, users_per_day=1_000).days
17
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Generic

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.api.data.frames import FrameT, Kind, kind_of, missing_column, out, to_polars
from recmeta.config import parse
from recmeta.errors import UserError, listed, shown
from recmeta.evaluation.comparison.bootstrap import Interval
from recmeta.evaluation.off_policy.estimate import (
    OffPolicyConfig,
    OffPolicyEstimates,
    estimate,
)
from recmeta.evaluation.off_policy.slates import LoggedSlates, OtherLists
from recmeta.logs.checking import parsing
from recmeta.tasks.arrays import Float64Array

LOGGED, LISTS = "the log of served lists", "the frame of other lists"
REWARD, SLATE, PREDICTED, PROBABILITY = "reward", "slate", "predicted", "probability"
"""The columns that no table of a workspace has."""
MOST_PLACES = 10_000
"""The most places of a list; larger numbers are not ranks."""
ROUNDING = 1e-6
"""The tolerance by which the probabilities of a place may exceed 1 in sum."""
_KEY = [schema.USER_ID, SLATE]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffPolicyResult(Generic[FrameT]):
    """The estimates for other lists from a log of served lists."""

    estimates: OffPolicyEstimates
    """All estimates."""
    num_left_out: int
    """The number of served lists for which the other policy has none. They are not part of the
    estimates."""
    kind: Kind
    """The library of the frames that are returned."""

    def __repr__(self) -> str:
        found = self.estimates
        values = ", ".join(
            f"{name} {one.value.mean:.4g} [{one.value.ci_low:.4g}, {one.value.ci_high:.4g}]"
            for name, one in found.estimates.items()
        )
        return f"OffPolicyResult({values}; logged {found.logged.mean:.4g})"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about why the estimates may be unreliable."""
        return self.estimates.warnings

    def to_frame(self) -> FrameT:
        """Return a row per estimate: `policy` (`logged` or `other`), `estimator`, `value` per list
        with its interval `ci_low` to `ci_high`, and the `difference` from what the served lists
        earned, with its own (`difference_low`, `difference_high`)."""
        nothing = Interval(mean=np.nan, ci_low=np.nan, ci_high=np.nan, num_users=0)
        rows = [("logged", "mean", self.estimates.logged, nothing)]
        for name, one in self.estimates.estimates.items():
            rows.append(("other", name, one.value, one.difference))
        plain = [
            {
                "policy": policy,
                "estimator": name,
                "value": value.mean,
                "ci_low": value.ci_low,
                "ci_high": value.ci_high,
                "difference": difference.mean,
                "difference_low": difference.ci_low,
                "difference_high": difference.ci_high,
            }
            for policy, name, value, difference in rows
        ]
        found: FrameT = out(pl.DataFrame(plain), self.kind)
        return found


def off_policy(
    logged: FrameT, lists: Any, *, config: OffPolicyConfig | Mapping[str, Any] | None = None
) -> OffPolicyResult[FrameT]:
    """Return what other lists would have earned in place of those that were served.

    The other lists may come from another model, from other rules or from anywhere: only their
    differences from the served lists count. docs/how-to/exploration.md says when the numbers can be
    relied on.

    Args:
        logged: a row per place of a served list: `user_id`, `item_id`, `rank` (1 is the best),
            `propensity`, the probability with which this item was shown there, and `reward`, its
            outcome (0 if nothing happened). `slate` distinguishes the lists of a user; without it
            each user has one. Both frames may have `predicted`, a model's expectation of the
            reward; without it, the doubly robust estimate learns a model from the log.
        lists: `user_id`, `item_id` and `rank` of the other policy; `slate`, if the served lists
            have it, and `probability` if the policy is random (1 without it).
        config: the level of the intervals, the number of resamples and the seed
            (`OffPolicyConfig`), or the values that differ from the defaults, such as
            `{"confidence": 0.9}`.

    Raises:
        UserError: for a missing column, a propensity that is not above 0 and at most 1, a reward or
            rank that is no number, a place of a list that is filled twice, or frames without a user
            in common.
    """
    kind = kind_of(logged, LOGGED)
    if isinstance(config, Mapping):
        config = parse(OffPolicyConfig, config, "config")
    served = _checked(logged, LOGGED, [schema.PROPENSITY, REWARD])
    others = _checked(lists, LISTS, [])
    if SLATE in others.columns and SLATE not in served.columns:
        raise UserError(f"{LISTS} has a column 'slate', and {LOGGED} has none: give both, or none.")
    key = _KEY if SLATE in others.columns else [schema.USER_ID]
    if SLATE not in served.columns:
        served = served.with_columns(pl.lit("").alias(SLATE))
    _refuse_doubles(served, LOGGED, [*_KEY, schema.RANK])
    if PROBABILITY not in others.columns:
        others = others.with_columns(pl.lit(1.0).alias(PROBABILITY))
        _refuse_doubles(others, LISTS, [*key, schema.RANK])
    _check_share(others, LISTS, PROBABILITY, lowest_allowed=True)
    _check_places(others, key)
    slates = served.select(_KEY).unique().sort(_KEY).with_row_index("number")
    other = slates.join(others, on=key, how="inner")
    kept = slates.filter(pl.col("number").is_in(other["number"].unique().implode()))
    if not kept.height:
        raise UserError(
            f"{LISTS} has no list for a user of {LOGGED}: the ids of users (and slates) must be "
            f"the same, such as {listed(served[schema.USER_ID].unique().sort()[:3].to_list())}."
        )
    result = estimate(*_arrays(served, other.drop("number"), kept.drop("number")), config)
    return OffPolicyResult(estimates=result, num_left_out=slates.height - kept.height, kind=kind)


def _arrays(
    served: pl.DataFrame, other: pl.DataFrame, slates: pl.DataFrame
) -> tuple[LoggedSlates, OtherLists]:
    """Return both policies' lists for these slates, with numbers in place of ids."""
    numbered = slates.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    served, other = (frame.join(numbered, on=_KEY, how="inner") for frame in (served, other))
    ids = pl.concat([served[schema.ITEM_ID], other[schema.ITEM_ID]])
    codes = ids.rank("dense").cast(pl.Int64).to_numpy() - 1
    # Places that no list has are left out, because sums are stored by place.
    ranks = pl.concat([served[schema.RANK], other[schema.RANK]])
    places = ranks.rank("dense").cast(pl.Int64).to_numpy() - 1
    with_model = PREDICTED in served.columns and PREDICTED in other.columns

    def predicted(frame: pl.DataFrame) -> Float64Array | None:
        return frame[PREDICTED].to_numpy() if with_model else None

    users = numbered[schema.USER_ID].rank("dense").cast(pl.Int64).to_numpy() - 1
    logged = LoggedSlates(
        user_S=users,
        slate_N=served["number"].to_numpy(),
        place_N=places[: served.height],
        item_N=codes[: served.height],
        propensity_N=served[schema.PROPENSITY].to_numpy(),
        reward_N=served[REWARD].to_numpy(),
        predicted_N=predicted(served),
    )
    return logged, OtherLists(
        slate_T=other["number"].to_numpy(),
        place_T=places[served.height :],
        item_T=codes[served.height :],
        probability_T=other[PROBABILITY].to_numpy(),
        predicted_T=predicted(other),
    )


def _checked(frame: Any, what: str, numbers: list[str]) -> pl.DataFrame:
    """Return the checked columns of a frame, with ids as text and numbers as numbers.

    Args:
        numbers: the numeric columns that it must have besides user, item and rank.
    """
    kind_of(frame, what)
    rows = to_polars(frame, what)
    for name in (schema.USER_ID, schema.ITEM_ID, schema.RANK, *numbers):
        if name not in rows.columns:
            raise missing_column(what, name, rows.columns)
    ids = [schema.USER_ID, schema.ITEM_ID, *([SLATE] if SLATE in rows.columns else [])]
    further = [name for name in (PROBABILITY, PREDICTED) if name in rows.columns]
    refuse_nested(rows, what, [*ids, schema.RANK, *numbers, *further])
    read = rows.select(
        *(parsing.identifier(name, rows.schema[name]).alias(name) for name in ids),
        *(
            pl.col(name).cast(pl.Float64, strict=False).alias(name)
            for name in (schema.RANK, *numbers, *further)
        ),
    )
    for name in read.columns:
        bad = read[name].is_null() if name in ids else ~read[name].is_finite().fill_null(False)
        if bad.any():
            place = int(np.flatnonzero(bad.to_numpy())[0])
            raise UserError(
                f"{what} has {shown(rows[name][place])} as {name} in row {place + 1}: every row "
                f"must have {'one' if name in ids else 'a number there'}."
            )
    rank = read[schema.RANK]
    if bool(((rank < 1) | (rank > MOST_PLACES) | (rank != rank.round())).any()):
        raise UserError(
            f"{what} has a rank that is not a whole number from 1 to {MOST_PLACES:,}: 1 is the "
            "best place."
        )
    if schema.PROPENSITY in read.columns:
        _check_share(read, what, schema.PROPENSITY)
    return read.with_columns(rank.cast(pl.Int64))


def refuse_nested(rows: pl.DataFrame, what: str, names: Sequence[str]) -> None:
    """Refuse columns whose values are lists or records.

    Raises:
        UserError: for the first that is one.
    """
    for name in names:
        if rows.schema[name].is_nested() or rows.schema[name] == pl.Object:
            place = int(rows[name].is_not_null().arg_max() or 0)
            raise UserError(
                f"{what} has {shown(rows[name].to_list()[place])} as {name} in row {place + 1}: "
                "every row must have one text or number there."
            )


def _check_share(rows: pl.DataFrame, what: str, name: str, *, lowest_allowed: bool = False) -> None:
    """Refuse a column with values that are not probabilities."""
    values = rows[name]
    too_low = values < 0 if lowest_allowed else values <= 0
    if bool((too_low | (values > 1)).any()):
        wrong = values.filter(too_low | (values > 1))[0]
        raise UserError(
            f"{what} has a {name} of {wrong:g}; it must be {'from' if lowest_allowed else 'above'} "
            f"0 {'to' if lowest_allowed else 'and at most'} 1."
        )


def _check_places(others: pl.DataFrame, key: list[str]) -> None:
    """Refuse an item that occurs twice at a place, and places whose probabilities exceed 1 in
    sum."""
    place = [*key, schema.RANK]
    filled = others.group_by(place, maintain_order=True).agg(
        pl.col(PROBABILITY).sum(), pl.col(schema.ITEM_ID).is_duplicated().any()
    )
    wrong = filled.filter(pl.col(schema.ITEM_ID) | (pl.col(PROBABILITY) > 1 + ROUNDING))
    if wrong.height:
        first = wrong.row(0, named=True)
        what = (
            "the same item twice"
            if first[schema.ITEM_ID]
            else f"probabilities that sum up to {first[PROBABILITY]:g}"
        )
        raise UserError(
            f"{LISTS} has {what} at rank {first[schema.RANK]} of the list of user "
            f"{shown(first[schema.USER_ID])}: an item has one row there, and all of them have 1 "
            "together at most."
        )


def _refuse_doubles(rows: pl.DataFrame, what: str, key: list[str]) -> None:
    """Refuse a frame with two items at one place of a list."""
    twice = rows.filter(rows.select(key).is_duplicated())
    if twice.height:
        first = twice.row(0, named=True)
        raise UserError(
            f"{what} has more than one item at rank {first[schema.RANK]} of the list of user "
            f"{shown(first[schema.USER_ID])}: give a column 'slate' that tells a user's lists "
            f"apart{', or probability' if what == LISTS else ''}."
        )
