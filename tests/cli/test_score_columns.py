"""What `recmeta score` writes beside the list: uncertainty, reasons; and what killing it leaves."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from cli_calls import Call, Called
from deltalake import DeltaTable, write_deltalake
from polars.testing import assert_frame_equal

from recmeta import schema
from recmeta.logs.mapping import LogMapping
from recmeta.manifest import Manifest, latest
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.serving import adapt, score
from recmeta.steps.serving.score import ScoreOutputs
from recmeta.workspace import Workspace

NEW = ("uncertainty", "because_item", "listed_by")


@pytest.fixture(scope="module")
def workspace(finished: tuple[Path, Called], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished workspace, to score in."""
    copy = tmp_path_factory.mktemp("scored") / "workspace"
    shutil.copytree(finished[0], copy)
    return copy


@pytest.fixture
def new_users(tmp_path: Path) -> Path:
    rows = ["a,i1,5", "a,i2,1", "a,i5,4", "b,,", "c,i3,4"]
    path = tmp_path / "new.csv"
    path.write_text("\n".join(["user_id,item_id,value", *rows]) + "\n")
    return path


def lists(called: Called) -> pl.DataFrame:
    table = pl.read_delta(called.json["recommendations"])
    return table.filter(pl.col(schema.RUN) == called.json["run"]).sort("user_id", "rank")


def reasons_for_a(workspace: Path, new_users: Path, listed: pl.DataFrame) -> list[str | None]:
    """Return which of the user's items speaks most for each listed item, by the library."""
    from recmeta.logs.mapping import LogMapping
    from recmeta.metalearn.model import Model
    from recmeta.metalearn.scorer import Scorer
    from recmeta.registry.models import versions
    from recmeta.serving.list_reasons import list_effects
    from recmeta.steps.serving.explain import user_of_file

    space = Workspace(workspace)
    model = Model.load(versions.model_folder(space, versions.in_use(space)))
    tasks = user_of_file(model, LogMapping(path=str(new_users), value_col="value"), "a")
    scorer, ids = Scorer.of(model), model.catalogue.items.item_id.to_pylist()
    item_Bk = np.array([[ids.index(item) for item in listed["item_id"]]])
    row_k = list_effects(scorer, scorer.adapt(tasks), tasks, item_Bk).best_reason()[0]
    return [ids[tasks.support.item[row]] if row >= 0 else None for row in row_k]


def test_every_row_says_how_sure_and_why(workspace: Path, recmeta: Call, new_users: Path) -> None:
    called = recmeta("score", new_users, "-w", workspace, "--json", "--top-k", 5)
    assert called.code == 0, called.stderr
    found = lists(called)
    assert found["uncertainty"].is_between(0.05, 3).all()
    assert (found["listed_by"] == "model").all()
    by_user = found.group_by("user_id").agg("because_item").sort("user_id")
    known = dict(by_user.rows())
    assert set(known["a"]) <= {"i1", "i2", "i5", None} != {None}
    assert set(known["b"]) == {None}
    assert set(known["c"]) <= {"i3", None}
    expected = reasons_for_a(workspace, new_users, found.filter(pl.col("user_id") == "a"))
    assert found.filter(pl.col("user_id") == "a")["because_item"].to_list() == expected
    without = recmeta("score", new_users, "-w", workspace, "--json", "--top-k", 5, "--no-reasons")
    assert lists(without)["because_item"].null_count() == 15
    assert lists(without)["item_id"].to_list() == found["item_id"].to_list()


def test_a_table_of_an_earlier_version_gets_the_columns(
    workspace: Path, recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "old"
    shutil.copytree(workspace, copy)
    uri = str(copy / "tables" / "recommendations")
    old = pl.read_delta(uri).drop(NEW)
    shutil.rmtree(uri)
    fields = [f for f in schema.RECOMMENDATIONS.columns if f.name not in NEW]
    write_deltalake(uri, old.to_arrow().cast(pa.schema(fields)))
    called = recmeta("score", new_users, "-w", copy, "--json", "--top-k", 4)
    assert called.code == 0, called.stderr
    table = pl.read_delta(uri)
    assert table.filter(pl.col("listed_by").is_null()).height == old.height
    assert lists(called).height == 12
    again = recmeta("score", new_users, "-w", copy, "--json", "--top-k", 3)
    assert again.code == 0, again.stderr


def test_killed_between_shards_and_run_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shards that are done are not done again, and the table is what it would have been."""
    copy = tmp_path / "killed"
    shutil.copytree(workspace, copy)
    space = Workspace(copy)
    monkeypatch.setattr(adapt, "USERS_PER_SHARD", 3)
    events = tmp_path / "many.csv"
    rows = [f"new{n:02d},i{n % 20},{1 + n % 5}" for n in range(10)]
    events.write_text("\n".join(["user_id,item_id,value", *rows]) + "\n")
    adapted = adapt.run(LogMapping(path=str(events), value_col="value"), space, device="cpu")
    assert adapted.outputs.num_shards == 4
    made: list[int] = []
    shard = score.lists_of

    def counted(*arguments: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return shard(*arguments)

    config = ScoringConfig(top_k=4)
    before = version(space)
    with monkeypatch.context() as patched:
        patched.setattr(score, "lists_of", counted)
        with pytest.raises(KeyboardInterrupt):
            score.run(config, space, adapted, device="cpu")
        assert version(space) == before, "nothing is published before all is there"
        made.append(1)  # the next one may go on
        done = score.run(config, space, adapted, device="cpu")
    assert len(made) == 6, "two shards were done before, two after"
    assert done.counts == {"users": 10, "rows_written": 40, "popular": 0}
    found = rows_of(space, done)
    assert found.group_by("user_id").len()["len"].to_list() == [4] * 10
    assert 0 < done.outputs.lists_coverage <= 1
    assert 0 < done.outputs.lists_gini < 1
    assert 0.5 < done.outputs.lists_popularity <= 1
    assert not (space / "lists").names()
    whole = score.run(ScoringConfig(top_k=4, user_batch=2), space, adapted, device="cpu")
    assert_frame_equal(
        found.drop("run", "scored_at"), rows_of(space, whole).drop("run", "scored_at"), abs_tol=1e-5
    )


def version(space: Workspace) -> int:
    return DeltaTable(space.table_uri(schema.RECOMMENDATIONS)).version()


def rows_of(space: Workspace, scored: Manifest[ScoreOutputs]) -> pl.DataFrame:
    table = pl.read_delta(space.table_uri(schema.RECOMMENDATIONS))
    return table.filter(pl.col("run") == scored.outputs.run).sort("user_id", "rank")


def test_items_that_came_after_the_training_are_scored_by_their_content(
    workspace: Path, folder: Path, recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    """Two new items, of which nobody has met one: one like an old item, one of another kind."""
    copy = tmp_path / "grown"
    shutil.copytree(workspace, copy)
    items, events = tmp_path / "items.csv", tmp_path / "late.csv"
    items.write_text("sku,name,tags,price,area\nnew1,Twin of 7,a|b,10.5,03\nnew2,Other,b,0.0,00\n")
    header, first = (folder / "events.csv").read_text().splitlines()[:2]
    events.write_text(f"{header}\n{first}\n")
    options = ["--user-col", "uid", "--item-col", "sku", "--time-col", "ts"]
    options += ["--value-col", "stars", "--scale", "1:5", "--items", items]
    called = recmeta("ingest", events, *options, "-w", copy, "--json")
    assert called.code == 0, called.stderr
    arguments = ["score", new_users, "-w", copy, "--json", "--no-exclude-seen", "--top-k", 100]
    called = recmeta(*arguments)
    assert called.code == 0, called.stderr
    assert called.json["new_items"] == 2
    found = lists(called).filter(pl.col("user_id") == "a")
    assert found.height == 42
    score_of = dict(found.select("item_id", "score").rows())
    assert score_of["new1"] != pytest.approx(score_of["new2"], abs=1e-4)
    known = recmeta(*arguments[:1], new_users, "-w", workspace, "--json", *arguments[5:])
    before = lists(known).filter(pl.col("user_id") == "a").select("item_id", "score")
    for item, value in before.rows():
        assert score_of[item] == pytest.approx(value, abs=1e-5), "known items score as before"
    explained = recmeta("explain", "a", "new1", "-w", copy, "--json", "--new-users", new_users)
    assert explained.code == 0, explained.stderr
    assert explained.json["score"] == pytest.approx(score_of["new1"], abs=1e-4)
    assert latest(Workspace(copy), adapt.STEP).counts["new_items"] == 2
