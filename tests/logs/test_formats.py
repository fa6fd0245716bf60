"""Formats of logs: found by their files, and by the path of one's own."""

from pathlib import Path

import polars as pl
import pytest

from recmeta.errors import UserError
from recmeta.logs.formats import FORMATS
from recmeta.logs.mapping import Source
from recmeta.logs.reading.columns import column_names
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.log_format import LogFormat, Wanted
from recmeta.logs.reading.sources import read


def test_every_file_is_a_format() -> None:
    assert list(FORMATS) == ["csv", "delta", "excel", "jsonl", "parquet", "tsv"]
    assert all(isinstance(found, LogFormat) for found in FORMATS.values())
    endings = [ending for found in FORMATS.values() for ending in found.endings]
    assert len(endings) == len(set(endings))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match=r"format is 'jsonlines'.*Did you mean 'jsonl'\?"):
        Source(path="log", format="jsonlines")


def test_a_format_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "house_formats.py").write_text(
        "from recmeta.logs.reading.separated import separated\n"
        "CARETS = separated('^', endings=())\n"
    )
    (tmp_path / "log.txt").write_text("user^item\nu1^i1\nu2^i2\n")
    source = Source(path=str(tmp_path / "log.txt"), format="house_formats:CARETS")
    assert column_names(source) == ["user", "item"]
    rows = pl.concat(read(source, find_files(source), Wanted(columns={"who": "user"})))
    assert rows["who"].to_list() == ["u1", "u2"]
