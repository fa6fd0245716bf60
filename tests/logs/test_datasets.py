"""The built-in data sets: fetched from where they can be had, refused where they are not whole."""

import contextlib
import dataclasses
import functools
import http.server
import logging
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recmeta.errors import UserError
from recmeta.logs.checking.attributes import read_attributes
from recmeta.logs.fetching import datasets
from recmeta.logs.fetching.builtin_mappings import book_crossing
from recmeta.logs.fetching.datasets import DATASETS, fetch, mapping_for
from recmeta.logs.mapping import AttributeSource
from recmeta.logs.reading.files import find_files
from recmeta.steps.data import ingest
from recmeta.workspace import Workspace

SHARED = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data"))
needs_shared = pytest.mark.skipif(
    not (SHARED / "ml-100k").exists(), reason="no shared data (RECMETA_SHARED_DATA)"
)
NOWHERE = "http://127.0.0.1:9/archive.zip"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def change(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setitem(datasets.DATASETS, name, dataclasses.replace(DATASETS[name], **fields))


def entities(source: AttributeSource | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    assert source is not None
    return read_attributes(source, find_files(source), "id")


def original_ml_100k(folder: Path) -> Path:
    """Spell the shared ratings as GroupLens does, with a few users and items."""
    folder.mkdir(parents=True)
    frame = pl.read_parquet(SHARED / "ml-100k" / "interactions.parquet")
    frame.write_csv(folder / "u.data", separator="\t", include_header=False)
    (folder / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|V1G4L\n")
    genres = "0|0|0|1|1|1" + "|0" * 13
    (folder / "u.item").write_bytes(
        f"1|Toy Story (1995)|01-Jan-1995||http://x|{genres}\n".encode()
        + f"2|Misérables, Les (1995)|||http://y|{genres}\n267|unknown||||1{'|0' * 18}\n".encode(
            "latin-1"
        )
    )
    return folder


@needs_shared
def test_ml_100k_from_a_folder_and_from_a_zip(tmp_path: Path) -> None:
    folder = original_ml_100k(tmp_path / "local" / "ml-100k")
    archive = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in folder.iterdir():
            file.write(path, f"ml-100k/{path.name}")
    for cache, place in (("a", folder.parent), ("b", archive)):
        fetched = fetch("ml-100k", tmp_path / cache, place)
        mapping = mapping_for("ml-100k", fetched)
        manifest = ingest.run(mapping, Workspace(tmp_path / cache / "ws"))
        assert manifest.counts["accepted"] == 100_000
        assert fetch("ml-100k", tmp_path / cache) == fetched  # now cached
    users, _ = entities(mapping.users)
    assert users.drop("valid_from").rows() == [
        ("1", 24.0, "M", "technician", "8"),
        ("2", 53.0, "F", "other", None),
    ]
    items, bad = entities(mapping.items)
    assert not bad.height
    assert items.drop("valid_from").rows() == [
        ("1", "Toy Story", 1995.0, ["Animation", "Children's", "Comedy"]),
        ("2", "Misérables, Les", 1995.0, ["Animation", "Children's", "Comedy"]),
        ("267", "unknown", None, ["unknown"]),
    ]


@needs_shared
def test_a_copy_that_is_not_whole_or_has_changed_is_refused(tmp_path: Path) -> None:
    folder = original_ml_100k(tmp_path / "ml-100k")
    fetched = fetch("ml-100k", tmp_path / "cache", folder)
    with (fetched / "u.user").open("a") as file:
        file.write("3|1|M|x|1\n")
    with pytest.raises(UserError, match=r"u\.user in .* has changed"):
        fetch("ml-100k", tmp_path / "cache")
    lines = (folder / "u.data").read_text().splitlines()
    (folder / "u.data").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match="not all of ml-100k"):
        fetch("ml-100k", tmp_path / "other", folder)
    assert not (tmp_path / "other" / "ml-100k").exists()
    (folder / "u.item").unlink()
    with pytest.raises(UserError, match=r"lacks u\.item"):
        fetch("ml-100k", tmp_path / "other", folder)
    (tmp_path / "no.zip").write_text("this is not a zip file")
    with pytest.raises(UserError, match="neither a folder nor a whole zip"):
        fetch("ml-100k", tmp_path / "other", tmp_path / "no.zip")


@needs_shared
def test_the_official_archive_is_taken_only_with_the_right_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = original_ml_100k(tmp_path / "www" / "ml-100k")
    archive = tmp_path / "www" / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"ml-100k/{path.name}")
    with served(tmp_path / "www") as address:
        change(monkeypatch, "ml-100k", url=f"{address}/ml-100k.zip", wheel=None)
        with pytest.raises(UserError, match="has SHA-256"):
            fetch("ml-100k", tmp_path / "cache")
        change(monkeypatch, "ml-100k", sha256=datasets.sha256_of(archive))
        assert mapping_for("ml-100k", fetch("ml-100k", tmp_path / "cache")).path.endswith("u.data")
        change(monkeypatch, "book-crossing", url=f"{address}/ml-100k/u.user")
        with pytest.raises(UserError, match="gave no zip file"):
            fetch("book-crossing", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["ml-100k"]


def test_ml_100k_out_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change(monkeypatch, "ml-100k", url=NOWHERE)
    with caplog.at_level(logging.WARNING):
        folder = fetch("ml-100k", tmp_path / "cache")
    assert len(caplog.messages) == 1
    assert "out of the wheel recbole==1.2.1" in caplog.messages[0]
    mapping = mapping_for("ml-100k", folder)
    manifest = ingest.run(mapping, Workspace(tmp_path / "ws"))
    counts = manifest.counts
    assert (counts["accepted"], counts["users"], counts["items"]) == (100_000, 943, 1682)
    items, _ = entities(mapping.items)
    first = items.filter(pl.col("id") == "1").drop("valid_from").row(0)
    assert first == ("1", "Toy Story", 1995.0, ["Animation", "Children's", "Comedy"])


def test_when_nothing_can_be_reached_the_user_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, "ml-1m", url=NOWHERE)
    with pytest.raises(UserError, match=r"grouplens\.org/datasets/movielens/1m.*--from PATH"):
        fetch("ml-1m", tmp_path)
    with pytest.raises(UserError, match="Did you mean 'ml-1m'"):
        fetch("ml1m", tmp_path)
    with pytest.raises(UserError, match="nothing at that path"):
        fetch("ml-1m", tmp_path, tmp_path / "absent")


@needs_shared
def test_ml_1m(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    frame = pl.read_parquet(SHARED / "ml-1m" / "interactions.parquet")
    columns = ["user_id", "item_id_grouplens", "rating", pl.col("timestamp").fill_null(975768738)]
    line = pl.format("{}::{}::{}::{}\n", *columns)
    (folder / "ratings.dat").write_text("".join(frame.select(line).to_series().to_list()))
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-1\n")
    movies = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Café (1998)::Drama\n"
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    mapping = mapping_for("ml-1m", fetch("ml-1m", tmp_path / "cache", folder))
    manifest = ingest.run(mapping, Workspace(tmp_path / "ws"))
    assert manifest.counts["rows_read"] == manifest.counts["accepted"] == 1_000_209
    users, _ = entities(mapping.users)
    assert users.drop("valid_from").row(0) == ("1", 1.0, "1", "F", "10", "4")
    items, _ = entities(mapping.items)
    assert items["title"].to_list() == ["Toy Story", "Café"]


def test_book_crossing(tmp_path: Path) -> None:
    (tmp_path / "BX-Book-Ratings.csv").write_bytes(
        b'"User-ID";"ISBN";"Book-Rating"\r\n"1";"034545104X";"0"\r\n"1";"0155061224";"5"\r\n'
        b'"2";"\\"0432534220\\"";"10"\r\n'
    )
    (tmp_path / "BX-Users.csv").write_bytes(
        b'"User-ID";"Location";"Age"\n"1";"nyc, new york, usa";NULL\n"2";"m\xe9xico, , ";"244"\n'
        b'"3";"porto, v.n.gaia, portugal";"17"\n'
    )
    (tmp_path / "BX-Books.csv").write_bytes(
        b'"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S"\n'
        b'"034545104X";"The \\"R\\" &amp; I; again";"A. Uthor";"0";"P &amp; Q";"http://x"\n'
        b'"0155061224";"Plain";"B. Uthor";"2001";"P";"http://y"\n'
    )
    mapping = mapping_for("book-crossing", tmp_path)
    assert mapping == book_crossing(tmp_path)
    workspace = Workspace(tmp_path / "ws")
    assert ingest.run(mapping, workspace).counts["accepted"] == 3
    stored = pl.read_delta(f"{workspace.location}/tables/interactions").sort("user_id", "item_id")
    assert stored.select("user_id", "item_id", "event", "value").rows() == [
        ("1", "0155061224", "rating", 5.0),
        ("1", "034545104X", "view", 1.0),
        ("2", '"0432534220"', "rating", 10.0),
    ]
    users, _ = entities(mapping.users)
    assert users.drop("valid_from").rows()[0::2] == [("1", None, "usa"), ("3", 17.0, "portugal")]
    assert users["age"].to_list() == [None, None, 17.0]
    items, _ = entities(mapping.items)
    assert items.drop("valid_from").rows() == [
        ("0155061224", "Plain", "B. Uthor", 2001.0, "P"),
        ("034545104X", 'The "R" &amp; I; again', "A. Uthor", None, "P &amp; Q"),
    ]
    with pytest.raises(UserError, match="not all of book-crossing"):
        fetch("book-crossing", tmp_path / "cache", tmp_path)
