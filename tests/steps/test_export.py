"""What is exported of a workspace: capsules that rank as the published lists, and a graph."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trained import Trained

from recmeta import schema
from recmeta.errors import UserError
from recmeta.exporting.capsules import scores
from recmeta.logs.mapping import LogMapping
from recmeta.registry.models import versions
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.serving import adapt, export_model, export_vectors, score
from recmeta.steps.upkeep import forget, maintenance

NEW_USERS = "user_id,item_id,value\nzoe,i01,5\nzoe,i02,1\nzoe,i03,4\nadam,,\n"


@pytest.fixture
def new_users(tmp_path: Path) -> LogMapping:
    path = tmp_path / "new.csv"
    path.write_text(NEW_USERS)
    return LogMapping(path=str(path), value_col="value")


def capsules(trained: Trained) -> pl.DataFrame:
    return pl.read_delta(trained.workspace.table_uri(schema.USER_CAPSULES))


def test_vectors_rank_as_the_published_lists(
    trained: Trained, new_users: LogMapping, tmp_path: Path
) -> None:
    ws, folder = trained.workspace, tmp_path / "vectors"
    version = versions.in_use(ws)
    alone = export_vectors.run(ws, version, str(folder))
    assert (alone.num_users, (folder / "users.parquet").exists()) == (0, False)
    adapted = adapt.run(new_users, ws, device="cpu")
    for _ in range(2):  # the second time takes the place of the first
        found = export_vectors.run(ws, version, str(folder), adapted)
    assert (found.num_users, found.num_items, found.model_version) == (2, 60, version.version)
    assert sorted(p.name for p in folder.iterdir()) == [
        "items.parquet",
        "users.parquet",
        "vectors.json",
    ]
    users, items = pq.read_table(folder / "users.parquet"), pq.read_table(folder / "items.parquet")
    about = json.loads((folder / "vectors.json").read_text())
    score_BI = scores(users, items, about)
    scored = score.run(ScoringConfig(top_k=20, never_worse=False), ws, adapted, device="cpu")
    lists = pl.read_delta(ws.table_uri(schema.RECOMMENDATIONS))
    lists = lists.filter(pl.col(schema.RUN) == scored.outputs.run).sort(schema.RANK)
    for row, user in enumerate(users[schema.USER_ID].to_pylist()):
        own = {"i01", "i02", "i03"} if user == "zoe" else set()
        order = [items[schema.ITEM_ID][int(n)].as_py() for n in np.argsort(-score_BI[row])]
        wanted = lists.filter(pl.col(schema.USER_ID) == user)[schema.ITEM_ID].to_list()
        assert [item for item in order if item not in own][:20] == wanted
    table = capsules(trained).sort(schema.USER_ID)
    assert table[schema.USER_ID].to_list() == ["adam", "zoe"]
    assert table[schema.VECTOR].to_list() == users[schema.VECTOR].to_pylist()
    assert pl.read_delta(ws.table_uri(schema.ITEM_VECTORS)).height == 60


def test_capsules_are_forgotten_and_expire(
    trained: Trained, new_users: LogMapping, tmp_path: Path
) -> None:
    ws = trained.workspace
    adapted = adapt.run(new_users, ws, device="cpu")
    export_vectors.run(ws, versions.in_use(ws), str(tmp_path / "vectors"), adapted)
    removed = forget.run(ws, ["zoe"]).removed
    assert removed[schema.USER_CAPSULES.name] == 1
    assert capsules(trained)[schema.USER_ID].to_list() == ["adam"]
    now = datetime.datetime.now(datetime.UTC)
    assert maintenance.expire(ws, now=now + datetime.timedelta(days=13))["capsules"] == 0
    assert maintenance.expire(ws, now=now + datetime.timedelta(days=15))["capsules"] == 1


def test_only_exports_are_replaced(trained: Trained, new_users: LogMapping, tmp_path: Path) -> None:
    ws, version = trained.workspace, versions.in_use(trained.workspace)
    own = tmp_path / "users.parquet"
    own.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"has a users\.parquet that no export wrote"):
        export_vectors.run(ws, version, str(tmp_path))
    for inside in (ws.path, f"{ws.path}/vectors"):
        with pytest.raises(UserError, match="lies in the workspace"):
            export_vectors.run(ws, version, inside)
    assert own.read_bytes() == b"mine"
    adapted, folder = adapt.run(new_users, ws, device="cpu"), tmp_path / "vectors"
    export_vectors.run(ws, version, str(folder), adapted)
    whole = (folder / "users.parquet").read_bytes()

    def killed(*_: object) -> Iterator[pa.Table]:
        yield schema.USER_CAPSULES.columns.empty_table()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_vectors, "_capsules", killed)
        with pytest.raises(KeyboardInterrupt):
            export_vectors.run(ws, version, str(folder), adapted)
    assert (folder / "users.parquet").read_bytes() == whole
    assert len(list(folder.iterdir())) == 3


def test_a_page_of_others_stays(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    version = versions.in_use(trained.workspace)
    for name in ("index.html", "model.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("{}")
        with pytest.raises(UserError, match=f"has a {name} that no export wrote"):
            export_model.run(trained.workspace, version, str(folder), page=True)
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_graph_says_which_model_it_is_of(trained: Trained, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    version = versions.in_use(trained.workspace)
    found = export_model.run(trained.workspace, version, str(tmp_path / "device"))
    about = json.loads((tmp_path / "device" / "model.json").read_text())
    graph = onnx.load(tmp_path / "device" / "model.onnx")
    told = {entry.key: entry.value for entry in graph.metadata_props}
    assert told["fingerprint"] == about["fingerprint"] == found.fingerprint
    assert told["model_version"] == about["model_version"] == version.version
    assert about["opset"] == graph.opset_import[0].version == 18
    assert {i.name for i in graph.graph.input} == {
        *about["inputs"],
        *(field["input"] for field in about["profile"]),
    }
    assert len(about["items"]["item_id"]) == found.num_items == 60
    assert [f["name"] for f in about["profile"]] == ["group", "age"]
