"""Days of a log: named, listed, split and ingested in any order with the same result."""

import datetime
import json
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.logs.reading import partitions
from recmeta.logs.split_by_day import split_by_day
from recmeta.manifest import Manifest
from recmeta.steps.data import build_tasks, data_quality, ingest
from recmeta.steps.data.build_tasks import BuildTasksConfig
from recmeta.steps.data.data_quality import DataQualityConfig
from recmeta.steps.data.ingest import IngestOutputs
from recmeta.steps.parts import days as days_read
from recmeta.workspace import Workspace

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.date(2025, 3, 1)
SHARED = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data"))


def log_of(path: Path) -> LogMapping:
    return LogMapping(path=str(path), time_col="time", time_unit="iso", value_col="stars")


def interactions(workspace: Workspace) -> pl.DataFrame:
    table = pl.read_delta(workspace.table_uri(schema.INTERACTIONS))
    return table.drop(schema.SOURCE, schema.INGESTED_AT).sort(schema.INTERACTIONS.key)


def test_a_day_is_put_into_every_path() -> None:
    mapping = LogMapping(
        path="s3://logs/day={date}/",
        format="csv",
        users=AttributeSource(path="users-{date}.csv", id_col="u", columns={}),
        items=AttributeSource(path="items.csv", id_col="i", columns={}),
    )
    found = partitions.mapping_of(mapping, DAY)
    assert found.path == "s3://logs/day=2025-03-01/"
    assert found.users is not None
    assert found.users.path == "users-2025-03-01.csv"
    assert found.items == mapping.items


@pytest.mark.parametrize("text", ["2025-03-01", "2025-03-01T23:59:59+00:00"])
def test_days_are_parsed(text: str) -> None:
    assert partitions.parse_day(text) == DAY


def test_a_bad_day_is_refused() -> None:
    with pytest.raises(UserError, match="'yesterday'; write it as 2026-01-31"):
        partitions.parse_day("yesterday")


@pytest.mark.parametrize("pattern", ["day-{date}.csv", "{date}", "dt={date}/events.csv"])
def test_available_days_are_those_with_a_file(tmp_path: Path, pattern: str) -> None:
    mapping = LogMapping(path=str(tmp_path / pattern), format="csv")
    assert partitions.available_days(mapping) == []
    for day in ("2025-03-02", "2025-03-01", "2025-02-31", "soon"):
        path = tmp_path / pattern.replace("{date}", day)
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / "other.csv").write_text("")
    assert partitions.available_days(mapping) == [DAY, DAY + datetime.timedelta(days=1)]
    assert partitions.has_arrived(partitions.mapping_of(mapping, DAY).path)
    assert not partitions.has_arrived(str(tmp_path / "2025-03-09.csv"))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{date:%Y%m%d}.csv", "20250301.csv"),
        ("{date:%Y/%m/%d}/", "2025/03/01/"),
        ("year={date:%Y}/month={date:%m}/{date}.csv", "year=2025/month=03/2025-03-01.csv"),
        ("{date:%Y}/{date:%j}.csv.gz", "2025/060.csv.gz"),
        ("a+b({date:%d.%m.%Y}).csv", "a+b(01.03.2025).csv"),
    ],
)
def test_a_date_is_spelled_as_the_path_says(tmp_path: Path, pattern: str, path: str) -> None:
    mapping = LogMapping(path=f"{tmp_path}/{pattern}", format="csv")
    assert partitions.mapping_of(mapping, DAY).path == f"{tmp_path}/{path}"
    assert partitions.available_days(mapping) == []
    place = tmp_path / path.rstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    (place.parent / "other").mkdir()
    assert partitions.available_days(mapping) == [DAY]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{date:YYYYMMDD}.csv", "write a date as {date:%Y%m%d}"),
        ("{date:%H}.csv", "holds {date:%H}"),
        ("{date:%Y-%m}.csv", "does not say the day"),
    ],
)
def test_a_path_that_names_no_day_is_refused(tmp_path: Path, pattern: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        partitions.available_days(LogMapping(path=f"{tmp_path}/{pattern}", format="csv"))


def test_a_day_is_there_when_it_is_whole(tmp_path: Path) -> None:
    day = tmp_path / "day=2025-03-01"
    assert not partitions.has_arrived(str(day))
    (day / "_temporary" / "0").mkdir(parents=True)
    assert not partitions.has_arrived(str(day))
    (day / "part-0.csv").write_text("user_id,item_id\nu,i\n")
    assert not partitions.has_arrived(str(day)), "Spark still writes to it"
    (day / "_SUCCESS").write_text("")
    assert partitions.has_arrived(str(day)), "what an attempt that failed has left does not matter"
    assert partitions.has_arrived(str(day), "_SUCCESS")
    assert not partitions.has_arrived(str(day), "done.txt")
    other = tmp_path / "day=2025-03-02"
    other.mkdir()
    (other / "_SUCCESS").write_text("")
    assert not partitions.has_arrived(str(other)), "there is no row in it"
    (other / "_SUCCESS").unlink()
    (other / "part-0.csv").write_text("")
    assert partitions.has_arrived(str(other))
    assert not partitions.has_arrived(str(other), "_SUCCESS")
    (other / "part-1.csv.inprogress").write_text("")
    assert not partitions.has_arrived(str(other))
    mapping = LogMapping(path=f"{tmp_path}/day={{date}}/", format="csv")
    assert days_read.next_day(mapping, Workspace(tmp_path / "ws")) == DAY
    assert days_read.next_day(mapping, Workspace(tmp_path / "ws"), done_file="x") == DAY.replace(
        day=2
    )


def test_the_next_day_is_the_oldest_that_was_not_ingested(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    mapping = log_of(tmp_path / "{date}.csv")
    for number in (1, 2, 3):
        (tmp_path / f"2025-03-0{number}.csv").write_text(
            f"user_id,item_id,time,stars\nu,i{number},2025-03-0{number},4\n"
        )
    days = partitions.available_days(mapping)
    assert days_read.next_day(mapping, workspace) == days[0]
    ingest.run_day(mapping, days[0], workspace, now=NOW)
    ingest.run_day(mapping, days[2], workspace, now=NOW)
    assert days_read.next_day(mapping, workspace) == days[1]
    assert days_read.latest_day(workspace) == days[2]
    assert days_read.ingest_of(workspace, days[0]) != days_read.ingest_of(workspace, days[2])
    with pytest.raises(UserError, match="2025-03-02 has not been ingested"):
        days_read.ingest_of(workspace, days[1])
    ingest.run_day(mapping, days[1], workspace, now=NOW)
    assert days_read.next_day(mapping, workspace) == days[2]


def test_without_partitions_it_is_yesterday(tmp_path: Path) -> None:
    mapping = LogMapping(path=str(tmp_path / "all.csv"))
    tomorrow = DAY + datetime.timedelta(days=1)
    assert days_read.next_day(mapping, Workspace(tmp_path), today=tomorrow) == DAY


ROWS = st.lists(
    st.tuples(
        st.sampled_from("uvw"),
        st.sampled_from("ijk"),
        st.sampled_from(
            ["2025-03-01", "2025-03-01T12:00:00", "2025-03-02T23:59:59.5", "2025-03-05", "noon", ""]
        ),
        st.sampled_from(["1", "2", "many"]),
    ),
    min_size=1,
    max_size=12,
)


@given(rows=ROWS, num_days=st.sampled_from([None, 1, 2]), backwards=st.booleans())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_split_into_days_and_ingested_in_any_order_it_is_the_same_log(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str, str]],
    num_days: int | None,
    backwards: bool,
) -> None:
    folder = tmp_path_factory.mktemp("split")
    # The last row per key wins in one file, and the day of a key never differs: order is kept.
    lines = "".join(f"{','.join(row)}\n" for row in rows)
    (folder / "log.csv").write_text("user_id,item_id,time,stars\n" + lines)
    whole = Workspace(folder / "whole")
    mapping = LogMapping(
        path=str(folder / "log.csv"),
        time_col="time",
        time_unit="iso",
        value_col="stars",
        max_bad_share=1.0,
    )
    if not any(row[2].startswith("2025") for row in rows):
        return
    counts = ingest.run(mapping, whole, now=NOW).counts
    split = split_by_day(mapping, str(folder / "days"), num_days)
    days = Workspace(folder / "daily")
    manifests = [ingest.run(split.history, days, now=NOW)] if split.history else []
    for day in split.days[:: -1 if backwards else 1]:
        manifests.append(ingest.run_day(split.daily, day, days, now=NOW))
    assert_frame_equal(interactions(days), interactions(whole))
    for name in ("rows_read", "accepted", "duplicates", "quarantined"):
        assert sum(m.counts[name] for m in manifests) == counts[name], name


def test_splitting_needs_times_and_rows(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,time\n")
    with pytest.raises(UserError, match="no time_col"):
        split_by_day(LogMapping(path=str(tmp_path / "log.csv")), str(tmp_path / "days"))
    mapping = LogMapping(path=str(tmp_path / "log.csv"), time_col="time")
    with pytest.raises(UserError, match="no rows"):
        split_by_day(mapping, str(tmp_path / "days"))


@pytest.mark.skipif(not (SHARED / "ml-100k").exists(), reason="no shared data")
def test_ten_days_of_movielens_give_the_tables_of_one_ingest(tmp_path: Path) -> None:
    mapping = LogMapping(
        path=str(SHARED / "ml-100k" / "interactions.parquet"),
        time_col="timestamp",
        value_col="rating",
        scale="1:5",
    )
    split = split_by_day(mapping, str(tmp_path / "days"), num_days=10)
    assert split.history is not None
    whole, days = Workspace(tmp_path / "whole"), Workspace(tmp_path / "daily")
    ingest.run(mapping, whole)
    ingest.run(split.history, days)
    for day in split.days:
        ingest.run_day(split.daily, day, days)
    assert_frame_equal(interactions(days), interactions(whole))
    both = [build_tasks.run(BuildTasksConfig(), ws) for ws in (days, whole)]
    assert both[0].counts == both[1].counts
    for name in ("items.arrow", "statistics.arrow", "train-00000.arrow", "test-00000.arrow"):
        one, other = (
            (ws / m.outputs.tasks).read_bytes(name)
            for ws, m in zip((days, whole), both, strict=True)
        )
        assert one == other, name


def ingested(
    tmp_path: Path, days: dict[int, int], bad: int = 0
) -> tuple[Workspace, Manifest[IngestOutputs]]:
    """Ingest days of March with so many rows each; the last one has `bad` bad ones more."""
    workspace = Workspace(tmp_path / "ws")
    manifests = []
    for number, rows in days.items():
        lines = [f"u{row},i,2025-03-{number:02d},3" for row in range(rows)]
        if number == max(days):
            lines += [f"u{row},i,2025-03-{number:02d},bad" for row in range(bad)]
        path = tmp_path / f"2025-03-{number:02d}.csv"
        path.write_text("\n".join(["user_id,item_id,time,stars", *lines]) + "\n")
        mapping = LogMapping(
            path=str(tmp_path / "{date}.csv"),
            time_col="time",
            time_unit="iso",
            value_col="stars",
            max_bad_share=0.9,
        )
        day = datetime.date(2025, 3, number)
        manifests.append(ingest.run_day(mapping, day, workspace, now=NOW))
    return workspace, manifests[-1]


def test_a_usual_day_passes_and_says_what_was_measured(tmp_path: Path) -> None:
    workspace, manifest = ingested(tmp_path, {1: 10, 2: 20, 3: 30, 4: 40}, bad=1)
    measured = data_quality.check(workspace, manifest)
    assert measured == pytest.approx(
        {
            "rows_read": 41,
            "accepted": 40,
            "quarantined_share": 1 / 41,
            "volume_ratio": 41 / 20,
        }
    )


def test_an_unusual_day_is_refused_with_every_reason(tmp_path: Path) -> None:
    workspace, manifest = ingested(tmp_path, {1: 10, 2: 10, 3: 10, 4: 30}, bad=30)
    config = DataQualityConfig(max_volume_ratio=3, min_rows=100)
    with pytest.raises(UserError) as error:
        data_quality.check(workspace, manifest, config)
    message = str(error.value)
    assert "30 of its 60 rows were accepted, fewer than min_rows (100)" in message
    assert "50.0% of its 60 rows are in the quarantine" in message
    assert "the days before had 10 (their median)" in message


def test_a_day_that_is_delivered_again_is_no_new_day(tmp_path: Path) -> None:
    workspace, first = ingested(tmp_path, {1: 10})
    known = (tmp_path / "2025-03-01.csv").read_text()
    mapping = log_of(tmp_path / "{date}.csv")

    def next_day(number: int, text: str) -> Manifest[IngestOutputs]:
        (tmp_path / f"2025-03-0{number}.csv").write_text(text)
        return ingest.run_day(mapping, datetime.date(2025, 3, number), workspace, now=NOW)

    again = next_day(2, known + "\n")
    assert (again.counts["accepted"], again.counts["duplicates"]) == (0, 10)
    with pytest.raises(UserError, match="it has no new rows: all of its 10 rows are in the inter"):
        data_quality.check(workspace, again)
    with pytest.raises(UserError, match="it has no rows"):
        data_quality.check(workspace, next_day(3, "user_id,item_id,time,stars\n"))
    quiet = data_quality.check(workspace, again, DataQualityConfig(min_rows=0))
    assert (quiet["rows_read"], quiet["accepted"]) == (10, 0)
    assert data_quality.check(workspace, first)["accepted"] == 10, "doing a day again is no fault"


def test_two_days_before_are_too_few_to_compare_with(tmp_path: Path) -> None:
    workspace, manifest = ingested(tmp_path, {1: 1, 2: 1, 3: 100})
    assert "volume_ratio" not in data_quality.check(workspace, manifest)


def test_the_marker_of_a_day_names_its_ingest(tmp_path: Path) -> None:
    workspace, _ = ingested(tmp_path, {1: 2})
    marker = json.loads((tmp_path / "ws" / "partitions" / "2025-03-01.json").read_text())
    assert (workspace / "manifests" / "ingest").exists(f"{marker['key']}.json")
