"""Data sets from frames, matrices, mappings and RecBole's files, checked as ingest checks a log."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from api_frames import data, log

import recmeta
from recmeta import UserError
from recmeta.config import to_dict
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.steps.data import ingest
from recmeta.testing.synthetic import write_csv
from recmeta.workspace import Workspace


def _mapping(folder: Path) -> LogMapping:
    return LogMapping(
        path=str(folder / "interactions.csv"),
        time_col="timestamp",
        value_col="value",
        scale="-5:12",
        items=AttributeSource(
            path=str(folder / "items.csv"),
            id_col="item_id",
            columns={
                "genre": Attribute(kind="categorical"),
                "tags": Attribute(kind="multi"),
                "length": Attribute(kind="numeric"),
            },
        ),
    )


def test_a_mapping_is_read_as_ingest_reads_it(tmp_path: Path) -> None:
    write_csv(log(), tmp_path)
    with (tmp_path / "interactions.csv").open("a") as file:
        file.write('"u001","i01",1600000000,"rating",99\n"","i01",1600000000,"rating",3\n')
        file.write("one field\n")
    mapping = _mapping(tmp_path)
    workspace = Workspace(tmp_path / "workspace")
    counts = ingest.run(mapping, workspace).counts
    found = recmeta.Dataset.from_mapping(mapping)
    assert {name: getattr(found.counts, name) for name in counts} == counts
    opened = recmeta.open_workspace(tmp_path / "workspace")
    key = ["user_id", "item_id", "timestamp"]
    table = opened.table("interactions", kind="polars").sort(key)
    assert found.interactions.sort(key).equals(table.select(found.interactions.columns))
    assert found.items.equals(opened.table("items", kind="polars").sort("item_id"))
    bad = opened.table("quarantine", kind="polars").sort("line")
    assert found.quarantine.sort("line").equals(bad.select(found.quarantine.columns))
    again = recmeta.Dataset.from_mapping(to_dict(mapping))
    assert again.fingerprint == found.fingerprint


def test_duplicates_and_contradictions_are_counted() -> None:
    made = recmeta.Dataset.from_frame(
        pl.DataFrame(
            {
                "user_id": ["a", "a", "a", "b"],
                "item_id": ["x", "x", "y", "y"],
                "value": [1.0, 1.0, 2.0, 3.0],
            }
        ).vstack(pl.DataFrame({"user_id": ["b"], "item_id": ["y"], "value": [4.0]}))
    )
    counts = made.counts
    assert (counts.rows_read, counts.accepted, counts.duplicates, counts.quarantined) == (
        5,
        3,
        1,
        1,
    )
    assert made.quarantine.to_dicts()[0]["rules"] == ["superseded"]
    assert repr(made) == "Dataset(2 users, 2 items, 3 interactions, 1 in quarantine)"


def test_too_many_bad_rows_are_refused() -> None:
    rows = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "value": [1.0, 9.0]})
    with pytest.raises(UserError, match=r"value_out_of_scale.*max_bad_share=1"):
        recmeta.Dataset.from_frame(rows, scale=(1, 5))
    made = recmeta.Dataset.from_frame(rows, scale=(1, None))
    assert made.quarantine.height == 0


def test_numbers_that_may_be_ratings_are_told() -> None:
    rows = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "stars": [4.0]})
    with pytest.warns(UserWarning, match="Not read: stars") as told:
        recmeta.Dataset.from_frame(rows)
    assert told[0].filename == __file__
    assert recmeta.Dataset.from_frame(rows, value=None).interactions["value"].to_list() == [1.0]
    with pytest.raises(UserError, match=r"no column 'star'. Did you mean 'stars'"):
        recmeta.Dataset.from_frame(rows, value="star")


def test_feedback_is_what_is_said() -> None:
    plays = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "value": [3.0, 40.0]})
    assert set(recmeta.Dataset.from_frame(plays).interactions["event"]) == {"rating"}
    clicks = recmeta.Dataset.from_frame(plays, feedback="implicit").interactions
    assert clicks["event"].to_list() == ["click", "click"]


def test_attributes_hold_from_their_times() -> None:
    items = pa.table(
        {"item_id": ["x", "x"], "valid_from": [0, 1_700_000_000], "title": ["Old", "New"]}
    )
    rows = pa.table({"user_id": ["a"], "item_id": ["x"]})
    made = recmeta.Dataset.from_frame(rows, items=items)
    assert made.items["title"].to_pylist() == ["Old", "New"]
    with pytest.raises(UserError, match="items has no column 'item_id'"):
        recmeta.Dataset.from_frame(rows, items=rows.rename_columns(["user_id", "itemid"]))


def test_a_sparse_matrix_is_a_log() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    frame = data().interactions.select("user_id", "item_id", "value")
    users, items = (frame[c].unique().sort().to_list() for c in ("user_id", "item_id"))
    matrix = sparse.coo_array(
        (
            frame["value"].to_numpy(),
            (
                [users.index(u) for u in frame["user_id"]],
                [items.index(i) for i in frame["item_id"]],
            ),
        )
    )
    made = recmeta.Dataset.from_csr(matrix.tocsr(), user_ids=users, item_ids=items)
    assert made.interactions.select(frame.columns).equals(frame.sort("user_id", "item_id"))
    assert recmeta.Dataset.from_csr(matrix.tocsc(), user_ids=users, item_ids=items).fingerprint == (
        made.fingerprint
    )
    clicks = recmeta.Dataset.from_csr(sparse.csr_array(matrix.toarray() != 0))
    assert set(clicks.interactions["event"]) == {"click"}
    with pytest.raises(UserError, match="item_ids has 1 entries"):
        recmeta.Dataset.from_csr(matrix, item_ids=["x"])
    with pytest.raises(UserError, match="it must be sparse"):
        recmeta.Dataset.from_csr(matrix.toarray())


def test_recbole_files_are_a_log(tmp_path: Path) -> None:
    (tmp_path / "toy.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t10\t4\t881250949\n1\t11\t2\t881250950\n2\t10\t9\t881250951\n"
    )
    (tmp_path / "toy.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\tyear:float\tv:float_seq\n"
        '10\tToy "Story"\tAnimation Comedy\t1995\t1 2\n'
    )
    made = recmeta.Dataset.from_recbole(tmp_path, scale=(1, 5), max_bad_share=0.5)
    assert (made.counts.rows_read, made.counts.quarantined) == (3, 1)
    assert made.items.to_dicts() == [
        {
            "item_id": "10",
            "valid_from": None,
            "title": 'Toy "Story"',
            "class": ["Animation", "Comedy"],
            "year": 1995.0,
        }
    ]
    with pytest.raises(UserError, match="no field 'uid'"):
        recmeta.Dataset.from_recbole(tmp_path / "toy.inter", user_id="uid")


def test_rows_of_a_user_who_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no user 'u00'. Did you mean"):
        data().rows("u00")
