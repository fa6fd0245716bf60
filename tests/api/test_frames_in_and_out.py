"""Three libraries of frames: the same answers from each, and what goes out is what came in."""

import datetime
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from api_frames import KINDS, TYPES, data, log, model, rows_of

import recmeta
from recmeta import UnusedRowsWarning, UserError

ME = {
    "user_id": ["a", "a", "b", "a"],
    "item_id": ["i01", "i02", "i03", "i05"],
    "value": [5.0, 1.0, 3.0, 4.0],
}


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["rating", "implicit"])
def test_each_library_gives_the_same_model_and_answers(kind: str, objective: str) -> None:
    ours, reference = model(kind, objective), model("polars", objective)
    assert ours.model.digest() == reference.model.digest()
    assert data(kind, objective).fingerprint == data("polars", objective).fingerprint
    given = dict(ME) if objective == "rating" else {n: ME[n] for n in ("user_id", "item_id")}
    rows = KINDS[kind](pa.table(given))
    same = pl.DataFrame(given)
    for answer, expected in (
        (ours.recommend(rows, top_k=4), reference.recommend(same, top_k=4)),
        (ours.predict(rows, ["i07", "i08"]), reference.predict(same, ["i07", "i08"])),
        (ours.adapt(rows).interactions(), reference.adapt(same).interactions()),
        (ours.items(), reference.items()),
        (ours.popular_items(3), reference.popular_items(3)),
    ):
        assert isinstance(answer, TYPES[kind])
        assert pl.DataFrame(KINDS["polars"](_arrow(answer))).equals(expected)
    why = ours.explain(rows, "i07", user_id="a")
    assert why == reference.explain(same, "i07", user_id="a")
    found = ours.adapt(rows).counts
    assert (found.rows, found.users, found.used, found.unused) == (4, 2, 4, 0)


def _arrow(frame: Any) -> pa.Table:
    if isinstance(frame, pd.DataFrame):
        return pa.Table.from_pandas(frame, preserve_index=False)
    return frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_goes_out_as_the_data_came_in(kind: str) -> None:
    found = recmeta.evaluate(
        model(kind), data(kind), baselines=["item-mean", "popularity"], progress=False
    )
    frame, curve = found.to_frame(), found.curve
    assert isinstance(frame, TYPES[kind])
    assert isinstance(curve, TYPES[kind])
    assert isinstance(found.per_user(), TYPES[kind])
    by_name = {(r["predictor"], r["metric"]): r["mean"] for r in rows_of(frame)}
    assert by_name["item-mean", "mae"] == found.metrics["item-mean"]["mae"]
    assert {name for name, _ in by_name} == {"bayesian-linear", "item-mean", "popularity"}
    assert len(rows_of(found.cold_users())) == len(found.judgement.evaluation.user_id)
    lists = rows_of(found.list_curve)
    assert {row["predictor"] for row in lists} == {"bayesian-linear", "popularity"}
    last = [row["mean"] for row in lists if row["predictor"] == "popularity"][-1]
    assert 0 < last <= 1
    assert found.plot().png.startswith(b"\x89PNG")


IDS: dict[str, tuple[Callable[[list[int]], Any], Any]] = {
    "int64": (lambda n: pl.Series(n), int),
    "int32": (lambda n: pl.Series(n, dtype=pl.Int32), int),
    "text": (lambda n: pl.Series([str(i) for i in n]), str),
    "categorical": (lambda n: pl.Series([str(i) for i in n], dtype=pl.Categorical), str),
}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_every_type(kind: str, name: str) -> None:
    """They are the same users and items, and whole numbers come back as such."""
    make, expected = IDS[name]
    table = log().interactions
    numbers = {c: [int(i[1:]) for i in table[c].to_pylist()] for c in ("user_id", "item_id")}
    frame = pl.DataFrame(
        {
            **{c: make(n) for c, n in numbers.items()},
            "value": table["value"].to_numpy(),
            "timestamp": KINDS["polars"](table)["timestamp"],
        }
    )
    given = frame if kind == "polars" else _as(kind, frame)
    made = recmeta.Dataset.from_frame(given)
    assert made.counts.accepted == frame.height
    trained = recmeta.fit(made, learner="bayesian-linear", epochs=1, progress=False)
    rows = frame.filter(pl.col("user_id").cast(pl.String) == "3")
    found = rows_of(trained.recommend(rows if kind == "polars" else _as(kind, rows), top_k=3))
    assert {type(r["item_id"]) for r in found} == {expected}
    assert {r["user_id"] for r in found} == {expected("3")}
    predicted = trained.predict(_as(kind, rows), [r["item_id"] for r in found])
    assert [r["item_id"] for r in rows_of(predicted)] == [r["item_id"] for r in found]
    assert trained.explain(_as(kind, rows), found[0]["item_id"]).item_id == str(found[0]["item_id"])


def _as(kind: str, frame: pl.DataFrame) -> Any:
    if kind == "polars":
        return frame
    return frame.to_pandas() if kind == "pandas" else frame.to_arrow()


def test_categories_and_missing_ids_of_pandas() -> None:
    frame = pd.DataFrame(
        {
            "user_id": [1.0, 1.0, 2.0, np.nan],  # whole numbers, but for the missing one
            "item_id": pd.Categorical([10, 11, 10, 11]),
            "value": [1, 2, 3, 4],
        }
    )
    made = recmeta.Dataset.from_frame(frame, max_bad_share=0.5)
    assert made.interactions["user_id"].tolist() == ["1", "1", "2"]
    assert made.interactions["item_id"].tolist() == ["10", "11", "10"]
    assert made.quarantine["rules"].map(list).tolist() == [["missing_user_id"]]


SECONDS = [1_700_000_000, 1_700_000_060]
TIMES: dict[str, Any] = {
    "seconds": SECONDS,
    "milliseconds": [1000 * s for s in SECONDS],
    "microseconds": [1_000_000 * s for s in SECONDS],
    "nanoseconds": [1_000_000_000 * s for s in SECONDS],
    "fractions": [float(s) for s in SECONDS],
    "text": ["2023-11-14T22:13:20Z", "2023-11-14 22:14:20"],
    "text of seconds": [str(s) for s in SECONDS],
    "typed": [datetime.datetime.fromtimestamp(s, datetime.UTC) for s in SECONDS],
    "naive": [
        datetime.datetime.fromtimestamp(s, datetime.UTC).replace(tzinfo=None) for s in SECONDS
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", TIMES)
def test_times_of_every_spelling(kind: str, spelling: str) -> None:
    table = pa.table(
        {"user_id": ["a", "a"], "item_id": ["x", "y"], "timestamp": pa.array(TIMES[spelling])}
    )
    made = recmeta.Dataset.from_frame(KINDS[kind](table))
    found = [int(r["timestamp"].timestamp()) for r in rows_of(made.interactions)]
    assert found == SECONDS
    asked = pa.table(
        {
            "user_id": ["a", "a"],
            "item_id": ["i02", "i01"],
            "value": [1.0, 2.0],
            "timestamp": pa.array(TIMES[spelling][::-1]),
        }
    )
    known = model(kind).adapt(KINDS[kind](asked)).interactions()
    assert [r["item_id"] for r in rows_of(known)] == ["i01", "i02"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_times_and_values(kind: str) -> None:
    table = log("implicit").interactions.select(["user_id", "item_id"])
    made = recmeta.Dataset.from_frame(KINDS[kind](table))
    rows = rows_of(made.interactions)
    assert {r["event"] for r in rows} == {"click"}
    assert {r["value"] for r in rows} == {1.0}
    trained = recmeta.fit(made, epochs=1, progress=False)
    assert (trained.feedback, trained.learner) == ("implicit", "maml")
    assert len(rows_of(trained.recommend(made.rows("u000"), top_k=5))) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_used_is_said_once_and_counted(kind: str) -> None:
    rows = pa.table(
        {
            "user_id": ["a", "a", "a", "a", None, "b"],
            "item_id": ["i01", "i01", "nothing", "i02", "i03", "i04"],
            "value": pa.array([1.0, 2.0, 3.0, 99.0, 3.0, 2.0]),
        }
    )
    for use in (
        lambda frame: model(kind).recommend(frame, top_k=2),
        lambda frame: model(kind).predict(frame, ["i09"]),
        lambda frame: model(kind).explain(frame, "i09", user_id="a"),
        lambda frame: model(kind).adapt(frame),
    ):
        with pytest.warns(UnusedRowsWarning) as told:
            found = use(KINDS[kind](rows))
        assert len(told) == 1
        assert told[0].filename == __file__
        assert str(told[0].message).startswith("4 of 6 interactions were not used: 1 of items")
    counts = found.counts
    assert (counts.rows, counts.used, counts.duplicates, counts.unknown_items) == (5, 2, 1, 1)
    assert (counts.bad_values, counts.bad_rows, counts.unused) == (1, 1, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"item_id": "item_di"}, "no column 'item_id'. Did you mean 'item_di'"),
        ({"user_id": "user"}, "no column 'user_id'"),
        ({"value": "valeu"}, "no column 'value'. Did you mean 'valeu'"),
        ({"timestamp": "timestmp"}, "no column 'timestamp'. Did you mean 'timestmp'"),
    ],
)
def test_a_misspelt_column_is_named(kind: str, change: dict[str, str], match: str) -> None:
    table = log().interactions.slice(0, 5)
    names = [change.get(name, name) for name in table.column_names]
    frame = KINDS[kind](table.rename_columns(names))
    with pytest.raises(UserError, match=match):
        model(kind).recommend(frame)
    with pytest.raises(UserError, match=match):
        recmeta.Dataset.from_frame(frame)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_frames_and_others(kind: str) -> None:
    empty = KINDS[kind](log().interactions.slice(0, 0))
    with pytest.raises(UserError, match="no row"):
        recmeta.Dataset.from_frame(empty)
    with pytest.raises(UserError, match="no row"):
        model(kind).recommend(empty)
    with pytest.raises(UserError, match="rows is a list; it must be a pandas or Polars"):
        model(kind).recommend([("a", "b")])
    with pytest.raises(UserError, match="Collect it first"):
        model(kind).recommend(pl.LazyFrame(ME))


@pytest.mark.parametrize("kind", KINDS)
def test_users_without_interactions_and_their_attributes(kind: str) -> None:
    only_named = KINDS[kind](pa.table({"user_id": ["a"], "group": ["group-1"], "age": [30.0]}))
    found = model(kind).adapt(only_named)
    assert (found.counts.without_interactions, found.counts.without_profile) == (1, 0)
    apart = model(kind).adapt(
        KINDS[kind](pa.table({"user_id": ["a"]})),
        users=KINDS[kind](pa.table({"user_id": ["a"], "group": ["group-1"], "age": [30.0]})),
    )
    assert rows_of(apart.recommend(3)) == rows_of(found.recommend(3))
    stranger = model(kind).recommend(KINDS[kind](pa.table({"user_id": ["a"]})), 3)
    assert rows_of(stranger) != rows_of(found.recommend(3))
    with pytest.raises(UserError, match="users has none of the attributes"):
        model(kind).recommend(only_named, users=KINDS[kind](pa.table({"user_id": ["a"], "b": [1]})))


def test_columns_keep_the_names_that_the_data_had() -> None:
    table = log().interactions.rename_columns(["who", "film", "at", "kind", "stars"])
    frame = table.drop_columns(["kind"])
    made = recmeta.Dataset.from_frame(
        frame, user_id="who", item_id="film", timestamp="at", value="stars"
    )
    trained = recmeta.fit(made, learner="bayesian-linear", epochs=1, progress=False)
    rows = frame.slice(0, 5)
    standard = rows.rename_columns(["user_id", "item_id", "timestamp", "value"])
    assert trained.recommend(rows).equals(trained.recommend(standard))


def test_lists_never_have_what_the_user_has_nor_depend_on_others() -> None:
    """The default leaves out seen items; a user's list is that of the user alone, in any order."""
    known = KINDS["polars"](log().interactions).filter(pl.col("user_id") < "u020")
    lists = model().recommend(known, top_k=30)
    both = lists.join(known, on=["user_id", "item_id"], how="semi")
    assert both.height == 0
    shuffled = known.sample(fraction=1.0, shuffle=True, seed=1)
    assert model().recommend(shuffled, top_k=30).equals(lists)
    alone = known.filter(pl.col("user_id") == "u007")
    own = lists.filter(pl.col("user_id") == "u007")
    found = model().recommend(alone, top_k=30)
    assert found["item_id"].equals(own["item_id"])
    assert np.allclose(found["score"], own["score"], atol=1e-5)
    seen = model().recommend(alone, top_k=40, exclude_seen=False)
    assert seen.height == 40
