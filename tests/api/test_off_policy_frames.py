"""`recmeta.off_policy` on frames of any library: the columns that may stand in them."""

import tracemalloc

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import recmeta
from recmeta.errors import UserError

SERVED = pl.DataFrame(
    {
        "user_id": [7, 7, 7, 7, 8, 8],
        "slate": ["a", "a", "b", "b", "a", "a"],
        "item_id": [1, 2, 2, 1, 1, 3],
        "rank": [1, 2, 1, 2, 1, 2],
        "propensity": [0.5, 0.25, 0.5, 0.5, 0.5, 0.25],
        "reward": [1.0, 0.0, 0.0, 1.0, 1.0, 1.0],
    }
)
OTHERS = pl.DataFrame(
    {
        "user_id": [7, 7, 7, 7, 8, 8],
        "slate": ["a", "a", "b", "b", "a", "a"],
        "item_id": [1, 2, 1, 3, 1, 2],
        "rank": [1, 2, 1, 2, 1, 2],
    }
)


def test_each_slate_has_a_list_of_its_own() -> None:
    found = recmeta.off_policy(SERVED, OTHERS)
    # Slate 7 a: both places are alike, with weights 2 and 4; b: none is; 8 a: the first.
    assert found.estimates.num_slates == 3
    assert found.estimates.num_matched == 3
    assert found.estimates.estimates["ips"].value.mean == pytest.approx((2 * 1 + 4 * 0 + 2 * 1) / 3)
    of_users = OTHERS.filter(pl.col("slate") == "a").drop("slate")
    shared = recmeta.off_policy(SERVED, of_users)
    assert shared.estimates.num_slates == 3, "without slates a user's list stands for each"
    assert shared.estimates.num_matched == 3


def test_frames_go_out_as_they_came_in() -> None:
    polars = recmeta.off_policy(SERVED, OTHERS)
    pandas = recmeta.off_policy(SERVED.to_pandas(), OTHERS)
    arrow = recmeta.off_policy(SERVED.to_arrow(), OTHERS.to_pandas())
    assert isinstance(polars.to_frame(), pl.DataFrame)
    assert isinstance(pandas.to_frame(), pd.DataFrame)
    assert isinstance(arrow.to_frame(), pa.Table)
    assert polars.estimates == pandas.estimates == arrow.estimates
    assert list(pandas.to_frame()["estimator"]) == ["mean", "ips", "snips", "dr"]
    assert repr(polars).startswith("OffPolicyResult(ips 1.333")


def test_random_policies_and_models_of_rewards() -> None:
    random = OTHERS.with_columns(probability=pl.lit(0.5), predicted=pl.lit(0.25))
    found = recmeta.off_policy(SERVED.with_columns(predicted=pl.lit(0.25)), random)
    estimates = found.estimates.estimates
    assert estimates["ips"].value.mean == pytest.approx((1 + 0 + 1) / 3)
    # Six places at half of 0.25 each, corrected by weights 1, 2 and 1.
    corrections = 1 * 0.75 + 2 * -0.25 + 1 * 0.75
    assert estimates["dr"].value.mean == pytest.approx((6 * 0.5 * 0.25 + corrections) / 3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(recmeta.UserError, match="has a column 'slate', and"):
        recmeta.off_policy(SERVED.filter(pl.col("slate") == "a").drop("slate"), OTHERS)
    with pytest.raises(recmeta.UserError, match="more than one item at rank 1"):
        recmeta.off_policy(SERVED, OTHERS.drop("slate"))
    with pytest.raises(recmeta.UserError, match="has a probability of 2"):
        recmeta.off_policy(SERVED, OTHERS.with_columns(probability=pl.lit(2.0)))
    half = OTHERS.with_columns(probability=pl.lit(0.6))
    with pytest.raises(recmeta.UserError, match="has the same item twice at rank 1"):
        recmeta.off_policy(SERVED, pl.concat([half, half.head(1)]))
    another = half.head(1).with_columns(item_id=pl.lit(3, pl.Int64))
    with pytest.raises(recmeta.UserError, match=r"sum up to 1\.2 at rank 1 of the list of"):
        recmeta.off_policy(SERVED, pl.concat([half, another]))
    for rank in (1e300, 20_000.0, 1.5):
        with pytest.raises(recmeta.UserError, match="not a whole number from 1 to 10,000"):
            recmeta.off_policy(SERVED.with_columns(rank=pl.lit(rank)), OTHERS)
    with pytest.raises(recmeta.UserError, match="it must be a pandas or Polars DataFrame"):
        recmeta.off_policy(SERVED, [1, 2])
    with pytest.raises(recmeta.UserError, match=r"unknown key 'config\.seeed'\. Did you"):
        recmeta.off_policy(SERVED, OTHERS, config={"seeed": 1})


def test_places_that_no_list_has_change_nothing() -> None:
    """And take no memory: sums are kept for each place and user."""
    plain = recmeta.off_policy(SERVED, OTHERS).estimates
    far = pl.when(pl.col("rank") == 2).then(9_999).otherwise(pl.col("rank")).alias("rank")
    tracemalloc.start()
    try:
        found = recmeta.off_policy(SERVED.with_columns(far), OTHERS.with_columns(far)).estimates
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == plain
    assert most_bytes < 50e6


def test_a_column_of_lists_is_refused() -> None:
    rows = {"user_id": ["a"], "item_id": ["x"], "rank": [1], "propensity": [0.5]}
    others = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "rank": [1]})
    for reward in ([1.0], {"a": 1}):
        served = pl.DataFrame({**rows, "reward": [reward]})
        with pytest.raises(UserError, match="as reward in row 1: every row must have one text"):
            recmeta.off_policy(served, others)
