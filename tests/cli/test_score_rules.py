"""`recmeta score` with business rules, from options, a file and both."""

from pathlib import Path

import polars as pl
import pytest
from cli_calls import Call, Called

from recmeta import schema


@pytest.fixture
def new_users(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text("user_id,item_id,value\na,i1,5\na,i2,1\na,i5,4\nb,,\n")
    return path


def lists(called: Called) -> pl.DataFrame:
    assert called.code == 0, called.stderr
    table = pl.read_delta(called.json["recommendations"])
    return table.filter(pl.col(schema.RUN) == called.json["run"]).sort("user_id", "rank")


def test_rules_from_options_and_a_file(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    workspace, _ = finished
    deny, config = tmp_path / "deny.txt", tmp_path / "rules.toml"
    deny.write_text("i3\ni4\n\n")
    config.write_text(
        "[score]\ntop_k = 8\n[score.rules]\n"
        'max_per_category = {area = 4}\nunavailable = {tags = ["a"]}\n'
    )
    arguments = ["score", new_users, "-w", workspace, "--json", "--config", config]
    first = recmeta(*arguments, "--deny", deny)
    found = lists(first)
    assert found.group_by("user_id").len()["len"].to_list() == [8, 8]
    numbers = found["item_id"].str.strip_prefix("i").cast(pl.Int64)
    assert (numbers % 2 == 0).all(), "the odd ones have the tag a"
    assert not set(numbers) & {3, 4}
    areas = found.with_columns(area=numbers % 4).group_by("user_id", "area").len()
    assert areas["len"].max() <= 4
    wider = lists(recmeta(*arguments, "--max-per-category", "area=5", "--top-k", 5))
    assert wider.height == 10
    deny.write_text("i3\ni6\n")  # another list under the same name is another run
    again = recmeta(*arguments, "--deny", deny)
    assert again.json["run"] != first.json["run"]
    assert "i6" not in lists(again)["item_id"].to_list()


def test_users_of_whom_too_little_is_known_get_popular_items(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    workspace, _ = finished
    arguments = ["score", new_users, "-w", workspace, "--json", "--top-k", 4]
    called = recmeta(*arguments, "--min-interactions", 1)
    found = lists(called)
    by = dict(found.group_by("user_id").agg(pl.col("listed_by").unique()).rows())
    assert by == {"a": ["model"], "b": ["popularity"]}
    assert called.json["popular"] == 4
    unsure = recmeta(*arguments, "--max-uncertainty", 0.0001)
    assert set(lists(unsure)["listed_by"]) == {"popularity"}


def test_only_items_that_were_first_met_lately(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    workspace, _ = finished
    called = recmeta("score", new_users, "-w", workspace, "--json", "--max-age-days", 1)
    assert called.code == 0
    assert called.json["rows_written"] == 0, "all were first met in 2023"
    assert called.json["users"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--deny", "nowhere.txt"), "does not exist"),
        (("--max-per-category", "area"), "such as genres=2"),
        (("--max-per-category", "aria=2"), "Did you mean 'area'"),
        (("--diversity", 1.5), "diversity is 1.5"),
    ],
)
def test_mistakes(
    finished: tuple[Path, Called],
    recmeta: Call,
    new_users: Path,
    options: tuple[object, ...],
    message: str,
) -> None:
    called = recmeta("score", new_users, "-w", finished[0], "--json", *options)
    assert called.code == 2
    assert message in called.json["error"]
