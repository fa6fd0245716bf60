"""Frames and arguments as people really give them: used, told, or refused in a sentence."""

import datetime
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from api_frames import data, log, model

import recmeta
from recmeta import UnusedRowsWarning, UserError
from recmeta.registry.frames import tasks_of_frame

IDS = {"user_id": [7, 7, 8], "item_id": ["i01", "i02", "i03"], "value": [5.0, 1.0, 3.0]}
ROWS, PANDAS = pl.DataFrame(IDS), pd.DataFrame(IDS)


def numbered() -> Any:
    """Return a model whose items are numbers."""
    rows = pl.DataFrame(pl.from_arrow(log().interactions))
    rows = rows.with_columns(pl.col("item_id").str.slice(1).cast(pl.Int64))
    titles = pl.DataFrame({"item_id": range(40), "title": [f"Film {n}" for n in range(40)]})
    made = recmeta.Dataset.from_frame(rows, items=titles)
    return recmeta.fit(made, learner="bayesian-linear", epochs=1, progress=False)


@pytest.fixture(scope="module")
def of_numbers() -> Any:
    return numbered()


def used(rows: Any, users: Any = None) -> tuple[int, int]:
    """Return how many users and interactions of rows were adapted to, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = model().adapt(rows, users=users).counts
    return counts.users, counts.used


def test_a_filtered_category_brings_nobody_back() -> None:
    everybody = log().interactions.to_pandas()
    kind = everybody.assign(user_id=everybody["user_id"].astype("category"))
    some = kind[kind["user_id"].isin(["u000", "u001"])]
    assert len(some["user_id"].cat.categories) == 160
    assert used(some) == (2, len(some))
    assert recmeta.Dataset.from_frame(some).user_ids().to_pylist() == ["u000", "u001"]
    profiles = some.assign(group="a")[["user_id", "item_id", "value", "group"]]
    assert len(tasks_of_frame(model().model, profiles)) == 2, "as MLflow serves the model"


@pytest.mark.parametrize(
    "ids",
    [
        [2**64 + 1, 2**64 + 1, 2**70],
        pd.Series([2**63 + 5, 2**63 + 5, 2**64 - 1], dtype="uint64"),
        [uuid.UUID(int=1), uuid.UUID(int=1), uuid.UUID(int=2)],
        [1, 1, "a"],
        [np.int64(4), np.int64(4), "a"],
        pd.arrays.SparseArray([4, 4, 5]),
        pd.array([4, 4, 5], dtype="Int64"),
    ],
    ids=["more than 64 bits", "unsigned", "uuid", "mixed", "of numpy", "sparse", "nullable"],
)
def test_ids_of_any_type_are_read_exactly(ids: Any) -> None:
    frame = PANDAS.assign(user_id=ids)
    assert used(frame) == (2, 3)
    found = model().adapt(frame).interactions()["user_id"].astype(str).tolist()
    assert found == sorted(map(str, list(ids)))
    made = recmeta.Dataset.from_frame(frame)
    assert set(made.user_ids().to_pylist()) == set(map(str, list(ids)))


def test_arrow_uuids_and_named_indexes_are_columns() -> None:
    users = pa.array([uuid.UUID(int=n).bytes for n in (1, 1, 2)], pa.uuid())
    table = pa.table({**{n: pa.array(IDS[n]) for n in ("item_id", "value")}, "user_id": users})
    assert used(table) == (2, 3)
    assert str(uuid.UUID(int=1)) in model().adapt(table).interactions()["user_id"].to_pylist()
    assert used(PANDAS.set_index("user_id")) == (2, 3)
    assert used(PANDAS.set_index(["user_id", "item_id"])) == (2, 3)
    days = pd.period_range("2024-01-01", periods=3, freq="D")
    assert used(PANDAS.assign(timestamp=days)) == (2, 3)


def test_floats_are_the_whole_numbers_that_they_were(of_numbers: Any) -> None:
    text = pl.DataFrame({"user_id": ["1.0"], "item_id": ["5.0"], "value": ["4.0"]})
    assert of_numbers.adapt(text).counts.used == 1
    with_gap = pd.DataFrame({"user_id": [1, 1], "item_id": [5.0, np.nan], "value": [4.0, np.nan]})
    assert of_numbers.adapt(with_gap).counts.used == 1


def test_one_item_is_as_a_list_of_one_and_a_number_as_its_text(of_numbers: Any) -> None:
    rows = pl.DataFrame({"user_id": [1], "item_id": [5], "value": [4.0]})
    me = of_numbers.adapt(rows)
    expected = me.predict(["17"])
    for items in (
        17,
        "17",
        17.0,
        np.int64(17),
        [17.0],
        {17},
        pd.Series([17]),
        pd.DataFrame({"item_id": [17.0]}),
    ):
        assert me.predict(items).equals(expected), items
    assert of_numbers.predict(rows, 17).equals(expected)
    why = me.explain(17)
    assert why == me.explain("17", 1) == me.explain(17.0, "1") == me.explain(np.int32(17), 1.0)
    assert why.item_id == "17"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.predict("Film 3"), "no item 'Film 3': it is the title of the item '3'"),
        (lambda m: m.explain("Film 3"), "it is the title of the item '3'"),
        (lambda m: m.predict("500"), "no item '500'"),
        (lambda m: m.predict(None), "must be one id"),
        (lambda m: m.predict([[3]]), r"items\[0\] is \[3\]; it must be one id"),
        (lambda m: m.predict({"item_id": [3]}), "a list of ids, or a frame"),
        (lambda m: m.predict(pl.DataFrame({"itemId": [3]})), "Did you mean 'itemId'"),
        (lambda m: m.explain([3]), "must be one id"),
        (lambda m: m.explain(3, 99), "must be one of 1"),
        (lambda m: m.recommend(0), "top_k is 0; it must be at least 1"),
        (lambda m: m.recommend("5"), "top_k is '5'; it must be a whole number"),
        (lambda m: m.recommend(2.5), "must be a whole number"),
        (lambda m: m.first(-1), "num_shots is -1"),
    ],
)
def test_arguments_that_are_none_are_refused(
    of_numbers: Any, call: Callable[[Any], Any], said: str
) -> None:
    me = of_numbers.adapt(pl.DataFrame({"user_id": [1], "item_id": [5], "value": [4.0]}))
    with pytest.raises(UserError, match=said):
        call(me)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"item_id": ["Film 1", "Film 2", "x"]}, "'Film 1', which is the title of the item '1'"),
        ({"value": [80.0, 20.0, 60.0]}, "3 whose value is not a number from "),
        ({"item_id": [500, 501, 502]}, "those that it knows are as '0', '1'"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_reason(
    of_numbers: Any, change: dict[str, list[Any]], said: str
) -> None:
    rows = pl.DataFrame(
        {"user_id": [1, 1, 2], "item_id": [1, 2, 3], "value": [5.0, 1.0, 3.0]} | change
    )
    with pytest.warns(UnusedRowsWarning, match="3 of 3 interactions were not used") as told:
        of_numbers.recommend(rows)
    assert said in str(told[0].message)
    assert "lists are those of users without" in str(told[0].message)


def test_a_misspelt_attribute_is_told() -> None:
    message = "The column 'Group' is not read: .* attribute 'group'"
    with pytest.warns(UnusedRowsWarning, match=message):
        assert model().adapt(ROWS.with_columns(Group=pl.lit("a"))).counts.used == 3
    profiles = pl.DataFrame({"user_id": [7], "group": ["a"], "Shoe": [44]})
    assert used(ROWS, profiles) == (2, 3)


def _nested(column: str) -> pl.DataFrame:
    return ROWS.with_columns(pl.concat_list(column).alias(column))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"user_id": [1]}, "rows is a dict; .* polars.DataFrame"),
        ([{"user_id": 1}], "rows is a list; .* polars.DataFrame"),
        (None, "rows is a NoneType"),
        (ROWS.lazy(), "Collect it first"),
        (ROWS.to_arrow().to_batches()[0], "Table.from_batches"),
        (ROWS.to_arrow().to_reader(), r"read_all\(\)"),
        (ROWS.to_numpy(), "polars.DataFrame"),
        (PANDAS.assign(user_id=pd.cut([1, 2, 3], 3)), "has categories that are not text"),
        (pd.concat([PANDAS, PANDAS[["item_id"]]], axis=1), "2 columns named 'item_id'"),
        (pa.table([[1], [1]], names=["user_id", "user_id"]), "2 columns named 'user_id'"),
        (PANDAS.assign(item_id=[object()] * 3), r"rows\['item_id'\].astype\(str\)"),
        (PANDAS.assign(user_id=pd.interval_range(0, 3)), "column 'user_id' of rows is of the type"),
        (PANDAS.assign(timestamp=pd.to_timedelta([1, 2, 3], "D")), "are not times"),
        (ROWS.with_columns(timestamp=pl.lit(datetime.time(1))), "are not times"),
        (_nested("item_id"), r"'item_id' of rows holds List\(String\); an id is text or a number"),
        (ROWS.rename({"item_id": "ItemID"}), "Did you mean 'ItemID'"),
        (pd.DataFrame({f"c{n}": [1] for n in range(999)}), "c19 and 979 more"),
        (pd.DataFrame([[1, 2]], columns=["x" * 10_000, "y"]), "xxx…, y"),
    ],
)
def test_frames_that_are_none_are_refused_in_a_sentence(rows: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        model().recommend(rows)
    assert len(str(refused.value)) < 2_500


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: recmeta.fit(PANDAS), "make one with recmeta.Dataset.from_frame"),
        (lambda: recmeta.fit("log.csv"), "make one with recmeta.Dataset.from_mapping"),
        (lambda: recmeta.evaluate(model(), PANDAS), "must be a Dataset"),
        (lambda: recmeta.evaluate(PANDAS, data()), "must come from recmeta.fit"),
        (lambda: recmeta.load(None), "the place is a NoneType"),
        (lambda: recmeta.Dataset.from_mapping(5), "the mapping is a int"),
        (lambda: recmeta.Dataset.from_frame(ROWS, scale=5), "the lowest and the highest value"),
        (lambda: recmeta.Dataset.from_frame(ROWS, scale=("1", "5")), r"\(1, 5\)"),
        (lambda: recmeta.Dataset.from_frame(ROWS, feedback="clicks"), "'rating' or 'implicit'"),
        (lambda: recmeta.Dataset.from_frame(ROWS, max_bad_share="x"), "from 0 to 1"),
        (lambda: recmeta.Dataset.from_frame(ROWS, user_id=None), "user_id is None; it must be"),
        (lambda: recmeta.Dataset.from_frame(ROWS, value=["value"]), "must be the name of a column"),
        (lambda: data().rows(["u000", "u001"]), "must be one id"),
        (lambda: model().popular_items("x"), "must be a whole number"),
    ],
)
def test_calls_that_are_meant_otherwise_are_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()


def test_a_scale_may_be_of_numpys_numbers() -> None:
    made = recmeta.Dataset.from_frame(ROWS, scale=np.array([1, 5]))
    assert made.counts.accepted == 3
    assert recmeta.Dataset.from_frame(ROWS).rows(7.0).height == 2


def test_attributes_of_nobody_in_the_log_are_told() -> None:
    strangers = pl.DataFrame({"item_id": [1, 2], "shelf": ["a", "b"]})
    with pytest.warns(UserWarning, match="Only 0 of the 3 items of the log have") as told:
        recmeta.Dataset.from_frame(ROWS, items=strangers)
    assert "would match: write both the same way" in str(told[0].message)
    assert told[0].filename == __file__


def test_what_is_striking_about_a_frame_is_told_as_of_a_file(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {
            "user_id": [n % 8 for n in range(40)],
            "item_id": [n // 8 for n in range(40)],
            "value": [-1.0 if n % 7 == 0 else float(1 + n % 5) for n in range(40)],
            "timestamp": [20_240_101 + n for n in range(40)],
        }
    )
    with pytest.raises(UserError, match=r"40 of 40 times are before 1990.* --time-unit %Y%m%d"):
        recmeta.Dataset.from_frame(log, time_unit="s")
    said = "6 of 40 values are -1, while the others go from 1 to 5"
    with pytest.warns(UserWarning, match=said) as told:
        made = recmeta.Dataset.from_frame(log, time_unit="s", earliest_time="1970-01-01")
    assert (made.counts.accepted, told[0].filename) == (40, __file__)
    log.drop("timestamp").write_csv(tmp_path / "log.csv")
    with pytest.warns(UserWarning, match=said) as told:
        recmeta.Dataset.from_mapping({"path": str(tmp_path / "log.csv"), "value_col": "value"})
