"""`recmeta ingest` and `recmeta data`: every spelling of a log, and every way to get it wrong."""

import json
import shlex
from pathlib import Path

import polars as pl
import pytest
from cli_calls import COLUMNS, LOG_OPTIONS, Call

FATES = ("rows_read", "accepted", "duplicates", "quarantined")


def test_twice_is_once_wherever_the_file_lies(
    recmeta: Call, folder: Path, tmp_path: Path, num_events: int
) -> None:
    def ingest(path: Path, *more: object) -> tuple[int, ...]:
        called = recmeta("ingest", path, *LOG_OPTIONS, "-w", tmp_path / "ws", "--json", *more)
        assert called.code == 0, called.stderr
        return tuple(called.json[fate] for fate in FATES)

    log = folder / "events.csv"
    assert ingest(log) == (num_events, num_events, 0, 0)
    assert ingest(log) == (num_events, 0, num_events, 0)
    copy = tmp_path / "copy.csv"
    copy.write_bytes(log.read_bytes())
    assert ingest(copy, "--max-bad-share", 0.2) == (num_events, 0, num_events, 0)
    called = recmeta("ingest", log, *LOG_OPTIONS, "-w", tmp_path / "ws", "--json")
    assert called.json["reused"] is True
    assert "ingested before" in called.stderr


def test_a_broken_log_is_counted_row_by_row(recmeta: Call, tmp_path: Path) -> None:
    log = tmp_path / "events.csv"
    log.write_bytes(
        b"uid,sku,ts,stars\na,x,1,5\na,x,1,5\n,x,1,5\na,y,soon,5\na,z,1,9\na,z,2,nan\n\xff,x,1,4\nb,x,1\n"
    )
    options = [*LOG_OPTIONS, "--workspace", tmp_path / "ws", "--json"]
    called = recmeta("ingest", log, *options, "--max-bad-share", 0.9)
    assert called.code == 0, called.stderr
    assert tuple(called.json[fate] for fate in FATES) == (8, 1, 1, 6)
    refused = recmeta("ingest", log, *options)
    assert refused.code == 0, "the same rows are there already"
    refused = recmeta("ingest", log, *LOG_OPTIONS, "-w", tmp_path / "other", "--json")
    assert refused.code == 2
    assert refused.json["exit_code"] == 2
    assert "6 of 8 rows" in refused.json["error"]
    assert "6 of 8 rows" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


def test_a_column_without_a_meaning_is_named(recmeta: Call, tmp_path: Path) -> None:
    log = tmp_path / "events.csv"
    log.write_text("user_id,item_id,stars,mood\na,x,5,good\na,y,4,bad\n")
    called = recmeta("ingest", log, "-w", tmp_path / "ws", "--json")
    assert called.json["unread_columns"] == ["stars", "mood"]
    told = " ".join(called.stderr.split())
    assert "Columns not read: stars, mood. --value-col names a rating" in told
    meant = recmeta("ingest", log, "--value-col", "stars", "-w", tmp_path / "ws2", "--json")
    assert meant.json["unread_columns"] == ["mood"]
    assert "--value-col" not in meant.stderr


def test_options_win_over_the_mapping_file(recmeta: Call, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who;what;when;much\nu;i;1;5\nu;j;2;7\n")
    (tmp_path / "shop.toml").write_text(
        'path = "a.csv"\nseparator = ";"\nuser_col = "who"\nitem_col = "what"\n'
        'time_col = "when"\nvalue_col = "much"\nscale = "1:5"\nmax_bad_share = 1.0\n'
    )
    by_mapping = recmeta("ingest", tmp_path / "shop.toml", "-w", tmp_path / "w1", "--json")
    assert by_mapping.json["quarantined"] == 1
    wider = ["--mapping", tmp_path / "shop.toml", "--scale", "1:9"]
    assert recmeta("ingest", *wider, "-w", tmp_path / "w2", "--json").json["accepted"] == 2
    elsewhere = tmp_path / "b.csv"
    elsewhere.write_text("who;what;when;much\nu;i;1;5\n")
    called = recmeta("ingest", elsewhere, *wider, "-w", tmp_path / "w3", "--json")
    assert called.json["rows_read"] == 1


def test_kinds_of_attributes_are_found(recmeta: Call, folder: Path, tmp_path: Path) -> None:
    files = ["--users", folder / "users.csv", "--items", folder / "items.csv"]
    called = recmeta(
        "ingest", folder / "events.csv", *LOG_OPTIONS, *files, "-w", tmp_path, "--json"
    )
    assert called.json["attributes"] == {
        "users": {"age": "numeric", "city": "categorical"},
        "items": {
            "title": "text",
            "tags": "multi",
            "price": "numeric",
            "area": "categorical",  # codes with a leading zero are no numbers
        },
    }
    assert (called.json["users"], called.json["items"]) == (60, 40)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["events.csv", "--user-col", "uidd"], "no column 'uidd'. Did you mean 'uid'?"),
        (["nothing.csv"], "there is nothing at"),
        (["ml-100"], "Did you mean 'ml-100k'?"),
        (["ml-100k", "--user-col", "uid"], "leave out --user-col"),
        (["events.csv", *COLUMNS, "--time-unit", "hours"], "--time-unit is 'hours'"),
        (["events.csv", *COLUMNS, "--scale", "5"], "write it as lowest:highest"),
        (["events.csv", *COLUMNS, "--format", "xlsx"], "format is 'xlsx'"),
        (["events.csv", *COLUMNS, "--users", "users.csv", "--user-id-col", "id"], "column 'id'"),
        ([], "name a log"),
        (["--mapping", "no.toml"], "cannot read the mapping"),
        (["events.csv", "--no-such-option"], "No such option"),
    ],
)
def test_mistakes_are_explained_and_exit_with_2(
    recmeta: Call,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(folder)
    called = recmeta("ingest", *arguments, "-w", tmp_path / "ws")
    assert called.code == 2, called.stderr
    assert said in " ".join(called.stderr.split())
    assert called.stdout == ""
    assert "Traceback" not in called.stderr


def test_data_sets_are_listed(recmeta: Call, tmp_path: Path) -> None:
    called = recmeta("data", "list", "--cache", tmp_path, "--json")
    found = {d["name"]: d["fetched"] for d in called.json["datasets"]}
    assert found == {"ml-100k": False, "ml-1m": False, "book-crossing": False}
    missing = recmeta("data", "fetch", "ml-1m", "--from", tmp_path / "no.zip", "--cache", tmp_path)
    assert missing.code == 2
    assert "there is nothing at that path" in " ".join(missing.stderr.split())


def test_a_log_of_which_nothing_is_said_is_proposed_and_not_read(
    recmeta: Call, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    rows = [f"u{n % 7};i{n};{1 + n % 5},5;0{1 + n % 9}.03.2024 10:00" for n in range(40)]
    log.write_text("who;sku;stars;when\n" + "\n".join(rows))
    log.write_text(log.read_text().replace("who", "customer_id"))
    called = recmeta("ingest", log, "-w", tmp_path / "ws", "--json")
    assert called.code == 2, called.stderr
    assert not (tmp_path / "ws").exists()
    assert called.json["proposal"] == {
        "format": "csv",
        "separator": ";",
        "user_col": "customer_id",
        "item_col": "sku",
        "time_col": "when",
        "time_unit": "%d.%m.%Y %H:%M",
        "value_col": "stars",
        "decimal": ",",
        "scale": "1:10",
    }
    assert len(called.json["rows"]) == 10
    assert called.json["rows"][0]["timestamp"] == "2024-03-01T10:00:00+00:00"
    words = shlex.split(called.json["command"])
    assert words[:2] == ["recmeta", "ingest"]
    dry = recmeta(*words[1:], "-w", tmp_path / "ws", "--json", "--dry-run")
    assert (dry.code, dry.json["accepted"]) == (0, 40), dry.stderr
    assert dry.json["findings"]["last_time"] == "2024-03-09T10:00:00+00:00"
    assert not (tmp_path / "ws").exists()
    done = recmeta(*words[1:], "-w", tmp_path / "ws", "--json")
    assert (done.code, done.json["accepted"]) == (0, 40), done.stderr
    assert done.json["findings"] == dry.json["findings"]


def test_a_file_without_a_header_is_proposed_with_names(recmeta: Call, tmp_path: Path) -> None:
    log = tmp_path / "u.data"
    rows = [f"{1 + n % 30}\t{900 + n * 7 % 40}\t{1 + n % 5}\t{881250949 + n}" for n in range(60)]
    log.write_text("\n".join(rows))
    called = recmeta("ingest", log, "--dry-run", "--json")
    assert called.code == 0, called.stderr
    assert called.json["proposal"] == {
        "format": "tsv",
        "column_names": ["user_id", "item_id", "value", "time"],
        "time_col": "time",
        "value_col": "value",
        "scale": "1:5",
    }
    shown = recmeta("ingest", log).stdout
    assert "| 1 | 900 | 1997-12-04T15:55:49+00:00 | rating | 1 |" in shown


def test_a_proposal_looks_into_what_is_nested(recmeta: Call, tmp_path: Path) -> None:
    segment, debezium, typed = (tmp_path / n for n in ("s.jsonl", "d.jsonl", "t.parquet"))
    segment.write_text(
        "\n".join(
            json.dumps(
                {
                    "userId": f"u{n % 8}",
                    "timestamp": f"2024-01-{n % 28 + 1:02d}T10:00:00Z",
                    "properties": {"product_id": f"p{n % 5}", "price": n * 1.5},
                }
            )
            for n in range(40)
        )
    )
    debezium.write_text(
        "\n".join(
            json.dumps(
                {
                    "before": {"user_id": n, "item_id": 0, "rating": 1},
                    "after": {"user_id": n % 8, "item_id": n % 5, "rating": n % 5 + 1},
                }
            )
            for n in range(40)
        )
    )
    nested = {
        "user": [{"id": n % 8} for n in range(40)],
        "items": [[{"item_id": n % 5}, {"item_id": 7}] for n in range(40)],
    }
    pl.DataFrame(nested).write_parquet(typed)
    for path, expected, num_rows in (
        (
            segment,
            {
                "user_col": "userId",
                "item_col": "properties.product_id",
                "time_col": "timestamp",
                "time_unit": "iso",
            },
            10,
        ),
        (
            debezium,
            {
                "user_col": "after.user_id",
                "item_col": "after.item_id",
                "value_col": "after.rating",
                "scale": "1:5",
            },
            10,
        ),
        (typed, {"user_col": "user.id", "item_col": "items.item_id"}, 10),
    ):
        called = recmeta("ingest", path, "--json")
        assert called.code == 2, called.stderr
        assert called.json["proposal"] == expected
        assert len(called.json["rows"]) == num_rows
        assert all(row["rules"] == [] for row in called.json["rows"])


def test_a_matrix_and_suffixes_need_no_mapping_file(recmeta: Call, tmp_path: Path) -> None:
    jester, shown = tmp_path / "jester.csv", tmp_path / "shown.csv"
    jester.write_text("\n".join("3,99,1.5,-2,4,99,0,7.5,1" for _ in range(20)) + "\n")
    called = recmeta("ingest", jester)
    assert "use --layout matrix --no-header --user-col ''" in called.stderr
    options = ["--layout", "matrix", "--no-header", "--user-col", "", "--null-values", "99"]
    options += ["--skip-columns", "column_1", "--scale=-10:10", "--dry-run", "--json"]
    called = recmeta("ingest", jester, *options)
    assert called.code == 0, called.stderr
    assert (called.json["accepted"], called.json["quarantined"]) == (120, 0)
    shown.write_text("user_id,shown\nu1,N1-1 N2-0\nu2,N2-1\n")
    options = ["--item-col", "shown", "--item-separator", " ", "--item-suffix", "-"]
    called = recmeta("ingest", shown, *options, "--dry-run", "--json")
    assert called.code == 0, called.stderr
    found = [(row["user_id"], row["item_id"], row["value"]) for row in called.json["rows"]]
    assert found == [("u1", "N1", 1.0), ("u1", "N2", 0.0), ("u2", "N2", 1.0)]


def test_a_matrix_with_a_header_is_no_log_of_two_of_its_items(
    recmeta: Call, tmp_path: Path
) -> None:
    names = ",".join(f"i{n}" for n in range(7))
    rows = [",".join(str((n + k) % 5 + 1) for k in range(7)) for n in range(12)]
    log = tmp_path / "matrix.csv"
    log.write_text(f"person,{names}\n" + "\n".join(f"p{n},{row}" for n, row in enumerate(rows)))
    called = recmeta("ingest", log)
    assert (called.code, "use --layout matrix --user-col person" in called.stderr) == (2, True)
    options = ["--layout", "matrix", "--user-col", "person", "--dry-run", "--json"]
    called = recmeta("ingest", log, *options)
    assert (called.code, called.json["accepted"]) == (0, 84), called.stderr


def test_a_small_log_with_names_in_another_language_is_proposed(
    recmeta: Call, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    rows = [f"k{n % 8};a{n % 5};{1 + n % 28:02d}.01.2024" for n in range(40)]
    log.write_text("Kunde;Artikel;Datum\n" + "\n".join(rows))
    called = recmeta("ingest", log, "--json")
    assert called.json["proposal"] == {
        "separator": ";",
        "user_col": "Kunde",
        "item_col": "Artikel",
        "time_col": "Datum",
        "time_unit": "%d.%m.%Y",
    }
