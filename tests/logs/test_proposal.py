"""How a log is proposed to be read if nothing is said of it, by layouts that people have."""

import datetime
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping, Source
from recmeta.logs.proposal import propose
from recmeta.steps.data import ingest

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
ROWS = range(60)


def csv(header: str, row: Callable[[int], str]) -> str:
    return "\n".join([header, *map(row, ROWS)]) + "\n"


TEXTS: list[tuple[str, dict[str, Any], int]] = [
    (
        csv("Klant;Boek;Waardering", lambda n: f"k{n % 8};b{n % 25};{1 + n % 5},{n % 2 * 5}"),
        {
            "separator": ";",
            "user_col": "Klant",
            "item_col": "Boek",
            "value_col": "Waardering",
            "decimal": ",",
            "scale": "1:10",
        },
        25,
    ),
    (
        csv("utente,libro,voto", lambda n: f'u{n % 38},b{n % 25},"{1 + n % 5},5"'),
        {
            "user_col": "utente",
            "item_col": "libro",
            "value_col": "voto",
            "decimal": ",",
            "scale": "1:10",
        },
        25,
    ),
    (
        csv("user,item,is_liked", lambda n: f"u{n % 25},i{n % 31},{n % 3 > 0}"),
        {"user_col": "user", "item_col": "item", "value_col": "is_liked", "scale": "0:1"},
        31,
    ),
    (
        csv("klant,mand", lambda n: f"k{n},b{n % 5}|b{n % 7}|b9"),
        {"user_col": "klant", "item_col": "mand", "item_separator": "|"},
        8,
    ),
    (
        csv("klant,mand", lambda n: f'{n},"b{n % 5}, b{n % 7}"'),
        {"user_col": "klant", "item_col": "mand", "item_separator": ","},
        7,
    ),
    (
        csv("klant,mand", lambda n: f"{n},\"['b{n % 5}', 'b{n % 7}']\""),
        {"user_col": "klant", "item_col": "mand"},
        7,
    ),
    (
        csv("klant,mand", lambda n: f"{n},[{n % 5}  {n % 7}]"),
        {"user_col": "klant", "item_col": "mand"},
        7,
    ),
    (
        csv("impression,who,shown", lambda n: f"{n},u{n % 9},N{n % 5}-1 N{n % 7}-0"),
        {"user_col": "who", "item_col": "shown", "item_separator": " ", "item_suffix": "-"},
        7,
    ),
    (
        csv("klant,mand", lambda n: f'{n},"[""it\'s b{n % 5}"", \'b{n % 7}\']"'),
        {"user_col": "klant", "item_col": "mand"},
        12,
    ),
    (
        csv("klant,mand", lambda n: f"{n},[{n % 5}  {n % 7}]" if n % 3 else f"{n},[]"),
        {"user_col": "klant", "item_col": "mand"},
        7,
    ),
    (
        csv("user,item", lambda n: f"u{n % 25},{n % 31}|2"),
        {"user_col": "user", "item_col": "item"},
        31,
    ),
    (
        csv("name,code,tags", lambda n: f"k{n % 25},s{n % 31},{n % 9};{n % 7}"),
        {"user_col": "name", "item_col": "code"},
        31,
    ),
    (
        csv("user,film,comment", lambda n: f"u{n % 25},{n % 15},no {n} is good"),
        {"user_col": "user", "item_col": "film"},
        15,
    ),
    (
        csv(
            "who,what",
            lambda n: ",".join(f"{{{m:08X}-0A1B-2C3D-4E5F-{m:012X}}}" for m in (n % 25, n % 31)),
        ),
        {"user_col": "who", "item_col": "what"},
        31,
    ),
    (
        csv("1,100,Film 0,3", lambda n: f"{1 + n % 9},{100 + n % 25},Film {n % 25},{1 + n % 5}"),
        {
            "column_names": ["user_id", "item_id", "column_3", "value"],
            "value_col": "value",
            "scale": "1:5",
        },
        25,
    ),
    (
        "Sales of January\n\n" + csv("customer,sku", lambda n: f"c{n % 30},{100 + n % 25}"),
        {"user_col": "customer", "item_col": "sku"},
        25,
    ),
]


@pytest.mark.parametrize(("text", "expected", "num_items"), TEXTS)
def test_texts(tmp_path: Path, text: str, expected: dict[str, Any], num_items: int) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    proposed = propose(Source(path=str(path)))
    assert proposed is not None
    assert (proposed.options, proposed.notes) == (expected, ())
    found = ingest.dry_run(proposed.mapping(str(path)), now=NOW)
    assert found.findings.num_items == num_items
    assert "unparsable" not in "".join(found.notes)


@pytest.mark.parametrize(
    "basket",
    [[[f"a{n % 5}", f"b{n % 3}"] for n in ROWS], [[n % 5, 10 + n % 3] for n in ROWS]],
)
def test_lists_in_parquet(tmp_path: Path, basket: list[list[object]]) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"kunde": list(ROWS), "korb": basket}).write_parquet(path)
    proposed = propose(Source(path=str(path)))
    assert proposed is not None
    assert proposed.options == {"user_col": "kunde", "item_col": "korb"}
    found = ingest.dry_run(proposed.mapping(str(path)), now=NOW)
    assert (found.counts["accepted"], found.findings.num_items) == (120, 8)


@pytest.mark.parametrize(
    ("header", "cell", "said"),
    [
        ("user,item,rating", "4 \u20ac", "column 'rating' is left out: values such as '4 \u20ac'"),
        ("user,item,date", "2024-03-01 10:00 CET", "'date' is left out: times such as '2024-03-01"),
        ("user,item,date", "45300.5", "'date' is left out: times such as '45300.5'"),
    ],
)
def test_what_is_meant_and_cannot_be_read_is_told(
    tmp_path: Path, header: str, cell: str, said: str
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv(header, lambda n: f"u{n % 25},i{n % 31},{cell}"))
    proposed = propose(Source(path=str(path)))
    assert proposed is not None
    assert proposed.options == {"user_col": "user", "item_col": "item"}
    assert said in proposed.notes[0]


def test_numbers_that_may_be_ratings_are_not_left_out_in_silence(tmp_path: Path) -> None:
    graded = tmp_path / "graded.csv"
    graded.write_text(csv("user,item,verdict,size", lambda n: f"u{n % 25},i{n % 31},{n % 5},{n}"))
    found = propose(Source(path=str(graded)))
    assert found is not None
    assert "value_col" not in found.options
    assert found.notes == (
        "The column 'verdict' is left out. If its numbers are ratings, add "
        "--value-col verdict --scale=0:5.",
    )
    counted = tmp_path / "counted.tsv"
    counted.write_text(csv("visitorid\titemid\tevent", lambda n: f"{n % 25}\t{n % 31}\t1"))
    found = propose(Source(path=str(counted)))
    assert found is not None
    assert "event_col" not in found.options, "each row says the same"


@pytest.mark.parametrize("header", ["Game_ID,Name,rating", "key,genre,score"])
def test_a_table_of_attributes_is_no_log(tmp_path: Path, header: str) -> None:
    path = tmp_path / "games.csv"
    path.write_text(csv(header, lambda n: f"{n * 7 % 61},Title {n},{n % 5}"))
    with pytest.raises(UserError, match=r"seems to be a table of attributes.*--items or --users"):
        propose(Source(path=str(path)))


def test_an_archive_of_several_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/movies.csv", "item,title\ni1,T\n")
        archive.writestr("set/ratings.csv", "user,item,rating\nu1,i1,5\n")
    with pytest.raises(
        UserError, match=r"movies\.csv \(item, title\).*Name the one that is the log"
    ):
        propose(Source(path=str(path)))


def test_structures_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv("user;basket", lambda n: f"u{n % 25};" + json.dumps({f"i{n}": 1})))
    assert propose(Source(path=str(path))) is None


def test_days_of_a_spreadsheet_are_later_than_now(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv("user_id,item_id,day", lambda n: f"u{n % 25},i{n % 31},{45300 + n}"))
    mapping = LogMapping(path=str(path), time_col="day", time_unit="d")
    with pytest.raises(UserError, match="may be days as spreadsheets count them"):
        ingest.dry_run(mapping, now=NOW)


def test_rows_that_do_not_count_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"

    def notes(**fields: Any) -> str:
        return " ".join(ingest.dry_run(LogMapping(path=str(path), **fields), now=NOW).notes)

    path.write_text("user_id,item_id,rating\n")
    assert notes() == "No row of the log could be used."
    path.write_text("user_id,item_id,rating\n" + 9 * "u1,i1,3\n" + "u1,i1,4\n,i1,5\n")
    said = notes(value_col="rating")
    assert "break a rule: missing_user_id (1 row, such as log.csv:12)" in said
    assert "9 rows have the user, item, time and kind of event of a later row" in said
    path.write_text(csv("user_id,item_id", lambda n: f"u{n % 5},9.78{n % 9}E+12"))
    assert "9 of the items have ids such as '9.780E+12': a spreadsheet has rounded them" in notes()
