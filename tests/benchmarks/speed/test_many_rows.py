"""The log of many rows has what it should, and every step is a command that there is."""

import argparse
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks.speed.many_rows import log
from benchmarks.speed.many_rows.__main__ import STEPS, _command
from recmeta.cli.app import build


def test_the_log_is_written_in_the_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "ROWS_PER_FILE", 400)
    size = log.LogSize(num_rows=1_000, num_users=50, num_items=30, new_users=7)
    log.write(size, tmp_path)
    files = sorted((tmp_path / "log").iterdir())
    assert len(files) == 3
    rows = pl.concat(pl.read_parquet(file) for file in files)
    assert rows.height == 1_000
    assert rows["timestamp"].is_sorted()
    assert rows["user_id"].n_unique() <= 50
    assert set(rows["rating"].unique()) <= {1, 2, 3, 4, 5}
    new = pl.read_parquet(tmp_path / "new.parquet")
    assert new["user_id"].n_unique() == 7
    assert not set(new["user_id"]) & set(rows["user_id"])
    assert new["timestamp"].min() > rows["timestamp"].max()


def test_steps_are_commands_with_these_options() -> None:
    asked = argparse.Namespace(place=Path("big"), workers=2, config="a.toml")
    for step in STEPS:
        name, *arguments = _command(step, asked)
        shown = CliRunner().invoke(build(), [name, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert option in shown.stdout, (name, option)
