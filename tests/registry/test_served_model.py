import dataclasses
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.exceptions import MlflowException
from mlflow_server import serving
from registry_pipeline import Pipeline

from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.registry import tracking
from recmeta.registry.models import versions
from recmeta.registry.models.features import features_read
from recmeta.registry.models.packaging import input_example
from recmeta.registry.served_model import recommend
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Workspace

FRAME = pd.DataFrame(
    {
        "user_id": ["b", "b", "b", "a", "c"],
        "item_id": ["100", "101", "104", "103", None],
        "value": [5.0, 3.0, 1.0, 4.0, np.nan],
        "occupation": ["artist", None, None, "doctor", None],
        "age": [21.0, 21.0, 21.0, None, None],
        "languages": [["fr"], None, None, ["en", "fr"], None],
    }
)


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, task_set: TaskSet, empty_database: Path
) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = Workspace(tmp_path_factory.mktemp("served"))
        shutil.copy(empty_database, workspace.path)
        version = versions.register_version(
            workspace,
            run_id=Pipeline(workspace, task_set).train("k1"),
            model_folder=workspace / "models" / "k1",
            model_key="k1",
            tags={},
            description="",
        )
        versions.promote(workspace, version, "it is the first")
    return workspace


@pytest.fixture
def served(registered: Workspace, monkeypatch: pytest.MonkeyPatch) -> mlflow.pyfunc.PyFuncModel:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri(registered))
    return mlflow.pyfunc.load_model("models:/recmeta@champion")


def expected(workspace: Workspace, top_k: int) -> list[tuple[str, int, str, float]]:
    """Return what recmeta.serving gives for FRAME, without any pandas."""
    model = Model.load(workspace / "models" / "k1")
    interactions = pa.table(
        {
            "user_id": FRAME.user_id.tolist(),
            "item_id": FRAME.item_id.tolist(),
            "value": pa.array([5, 3, 1, 4, None], pa.float32()),
        }
    )
    profiles = pa.table(
        {
            "user_id": ["a", "b"],
            "occupation": ["doctor", "artist"],
            "age": pa.array([None, 21.0], pa.float64()),
            "languages": [["en", "fr"], ["fr"]],
        }
    )
    tasks, counts = tasks_for_new_users(model, interactions, profiles)
    assert (counts.users, counts.used, counts.without_interactions) == (3, 4, 1)
    users = adapt_users(Scorer.of(model), tasks)
    ranked = rank(Scorer.of(model), users, ScoringConfig(top_k=top_k))
    return [
        (
            user,
            place + 1,
            model.catalogue.items.item_id[int(ranked.item_Bk[row, place])].as_py(),
            float(ranked.score_Bk[row, place]),
        )
        for row, user in enumerate(users.user_id)
        for place in range(top_k)
    ]


def rows(frame: pd.DataFrame) -> list[tuple[str, int, str, float]]:
    return list(zip(frame.user_id, frame["rank"], frame.item_id, frame.score, strict=True))


def test_predicts_what_serving_ranks(
    registered: Workspace, served: mlflow.pyfunc.PyFuncModel
) -> None:
    found = served.predict(FRAME, params={"top_k": 4})
    assert list(found.columns) == [
        "user_id",
        "rank",
        "item_id",
        "title",
        "relative_likelihood",
        "score",
    ]
    want = expected(registered, 4)
    assert [r[:3] for r in rows(found)] == [r[:3] for r in want]
    np.testing.assert_allclose(found.score, [r[3] for r in want], rtol=1e-6)
    assert (found.title == [f"Film {int(i) - 100}" for i in found.item_id]).all()


def test_defaults_and_seen_items(served: mlflow.pyfunc.PyFuncModel) -> None:
    found = served.predict(FRAME)
    lengths = found.groupby("user_id").size()
    assert lengths.to_dict() == {"a": 10, "b": 9, "c": 10}  # 12 items, b has seen 3
    assert not set(found[found.user_id == "b"].item_id) & {"100", "101", "104"}
    everything = served.predict(FRAME, params={"top_k": 50, "exclude_seen": False})
    assert everything.groupby("user_id").size().tolist() == [12, 12, 12]
    assert set(everything[everything["rank"] == 1].user_id) == {"a", "b", "c"}


def test_frames_as_csv_files_give_them(served: mlflow.pyfunc.PyFuncModel) -> None:
    as_text = pd.DataFrame({"user_id": ["1", "1"], "item_id": ["100", "103"], "value": [5.0, 1.0]})
    as_numbers = pd.DataFrame(
        {"user_id": [1, 1, 2], "item_id": [100, 103, None], "value": [5, 1, 3]}
    )
    assert as_numbers.item_id.dtype == float
    want = rows(served.predict(as_text))
    found = rows(served.predict(as_numbers))
    only_names = rows(served.predict(pd.DataFrame({"user_id": [2]})))
    # Two users at once or one at a time: the same lists, up to the rounding of float32.
    for got, alone in zip(found, [*want, *only_names], strict=True):
        assert got[:3] == alone[:3]
        assert got[3] == pytest.approx(alone[3], abs=1e-5)


@pytest.mark.parametrize(
    "times",
    [
        [20, 10],
        pd.to_datetime(["2024-01-02", "2024-01-01"]),
        pd.to_datetime(["2024-01-02", "2024-01-01"], utc=True),
        ["2024-01-02T00:00:00.000000001Z", "2024-01-01T00:00:00Z"],
    ],
    ids=["seconds", "naive", "aware", "text"],
)
def test_later_of_two_ratings_counts(served: mlflow.pyfunc.PyFuncModel, times: Any) -> None:
    twice = pd.DataFrame(
        {"user_id": ["u", "u"], "item_id": ["100", "100"], "value": [5.0, 1.0], "timestamp": times}
    )
    once = pd.DataFrame({"user_id": ["u"], "item_id": ["100"], "value": [5.0]})
    assert rows(served.predict(twice)) == rows(served.predict(once))


@pytest.mark.parametrize(
    ("frame", "params", "message"),
    [
        (pd.DataFrame({"user_id": ["a"], "item_id": ["100"]}), None, "no column 'value'"),
        (pd.DataFrame({"user_id": ["a", None]}), None, "row 2 of the new users has no user_id"),
        (pd.DataFrame({"user_id": []}), None, "no row"),
        (pd.DataFrame({"user_id": [1, object()]}), None, "not text, numbers or times"),
        (pd.DataFrame({"item_id": ["100"]}), None, r"missing inputs \['user_id'\]"),
        (FRAME, {"top_k": 0}, "top_k is 0"),
        (FRAME.assign(value="good"), None, "'value' .* not numeric"),
    ],
)
def test_what_cannot_be_read_is_said(
    served: mlflow.pyfunc.PyFuncModel,
    frame: pd.DataFrame,
    params: dict[str, Any] | None,
    message: str,
) -> None:
    with pytest.raises(MlflowException, match=message):
        served.predict(frame, params=params)


def test_input_example_fits_the_model(served: mlflow.pyfunc.PyFuncModel) -> None:
    example = served.input_example
    assert example.to_dict("list") == {
        "user_id": ["a-new-user"] * 3,
        "item_id": ["100", "101", "102"],  # met by the most users
        "value": [5.0, 5.0, 5.0],
    }
    assert len(served.predict(example)) == 9


def test_implicit_feedback_needs_no_values(registered: Workspace) -> None:
    rated = Model.load(registered / "models" / "k1")
    catalogue = rated.catalogue
    encoder = dataclasses.replace(rated.encoder, value_mean=0.0, value_scale=1.0)
    model = Model(
        rated.config,
        rated.params,
        encoder,
        catalogue.items,
        catalogue.statistics,
        "implicit",
        (1.0, 1.0),
        rated.device,
    )
    example = input_example(model)
    assert list(example.columns) == ["user_id", "item_id"]
    found = recommend(Scorer.of(model), example, None, {"top_k": 2})
    assert list(found.columns) == ["user_id", "rank", "item_id", "relative_likelihood", "score"]
    assert len(found) == 2


def test_signature_names_optional_columns(served: mlflow.pyfunc.PyFuncModel) -> None:
    signature = served.metadata.signature
    assert signature.inputs.required_input_names() == ["user_id"]
    assert signature.inputs.optional_input_names() == [
        "item_id",
        "value",
        "timestamp",
        "occupation",
        "age",
        "languages",
    ]
    assert {p.name: p.default for p in signature.params} == {"top_k": 10, "exclude_seen": True}


def test_metadata_names_the_features(
    registered: Workspace, served: mlflow.pyfunc.PyFuncModel
) -> None:
    model = Model.load(registered / "models" / "k1")
    assert served.metadata.metadata == to_dict(features_read(model))
    assert served.metadata.metadata["service"] == "melu_v1"


def test_nothing_is_pickled_and_requirements_are_pinned(registered: Workspace) -> None:
    files = [f for f in (Path(registered.path) / "mlartifacts").rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {
        ".json",
        ".arrow",
        ".safetensors",
        ".py",
        ".yaml",
        ".txt",
        "",
    }
    without_suffix = {f.name for f in files if f.suffix == ""}
    assert without_suffix == {"MLmodel", "registered_model_meta"}  # YAML both
    (requirements,) = (f for f in files if f.name == "requirements.txt")
    lines = requirements.read_text().split()
    assert {line.partition("==")[0] for line in lines} >= {"recmeta", "torch", "pyarrow", "pandas"}
    assert all("==" in line and "+" not in line for line in lines)


@pytest.fixture(scope="module")
def server(registered: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` in a process of its own; yields its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        uri = tracking.tracking_uri(registered)
    environment = {
        "MLFLOW_TRACKING_URI": uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["-m", "mlflow", "models", "serve", "-m", "models:/recmeta@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--workers", "1"]
    folder = tmp_path_factory.mktemp("server")
    with serving(
        [sys.executable, *command], folder, health="ping", environment=environment
    ) as address:
        yield address


def post(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["predictions"]


def test_served_over_http(registered: Workspace, server: str) -> None:
    plain = json.loads(FRAME.to_json(orient="split", index=False))
    split = post(server, {"dataframe_split": plain, "params": {"top_k": 4}})
    found = [(r["user_id"], r["rank"], r["item_id"]) for r in split]
    want = expected(registered, 4)
    assert found == [r[:3] for r in want]
    np.testing.assert_allclose([r["score"] for r in split], [r[3] for r in want], rtol=1e-5)

    records = json.loads(FRAME.to_json(orient="records"))
    assert post(server, {"dataframe_records": records, "params": {"top_k": 4}}) == split


def test_numbers_over_http(server: str) -> None:
    one = {"user_id": 1, "item_id": 100, "value": 5, "timestamp": "2024-01-01T00:00:00Z"}
    as_numbers = post(server, {"dataframe_records": [one, {"user_id": 2}]})
    assert {r["user_id"] for r in as_numbers} == {"1", "2"}
    assert "100" not in [r["item_id"] for r in as_numbers if r["user_id"] == "1"]


def test_bad_request_over_http(server: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, {"dataframe_records": [{"user_id": "a", "item_id": "100"}]})
    assert refused.value.code == 400
    assert "no column 'value'" in refused.value.read().decode()


@pytest.mark.parametrize(
    ("change", "params", "said"),
    [
        ({"item_id": [["100"]] * 5}, {}, "an id is text or a number"),
        ({"value": [1j] * 5}, {}, "not text, numbers or times"),
        ({"timestamp": pd.to_timedelta(range(5), "D")}, {}, "does not hold times"),
        ({"timestamp": ["noon"] * 5}, {}, "holds a value that is not a time"),
        ({}, {"top_k": "x"}, "top_k is 'x'; it must be of type int"),
        ({}, {"tpo_k": 3}, "Did you mean 'top_k'"),
    ],
)
def test_what_is_no_frame_of_interactions_is_refused(
    registered: Workspace, change: dict[str, Any], params: dict[str, Any], said: str
) -> None:
    model = Model.load(registered / "models" / "k1")
    with pytest.raises(UserError, match=said):
        recommend(Scorer.of(model), FRAME.assign(**change), None, params)


def test_a_filtered_category_and_odd_ids_are_served(
    registered: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = Scorer.of(Model.load(registered / "models" / "k1"))
    few = FRAME.assign(user_id=FRAME["user_id"].astype("category"))[lambda f: f["user_id"] == "b"]
    assert recommend(scorer, few, None, {})["user_id"].unique().tolist() == ["b"]
    odd = FRAME.assign(user_id=[2**70] * 5, item_id=[100.0, 101.0, 999.0, 104.0, np.nan])
    assert recommend(scorer, odd, None, {})["user_id"].unique().tolist() == [str(2**70)]
    assert "1 of items that the model does not know (such as '999'" in caplog.text
    twice = pd.concat([FRAME, FRAME[["item_id"]]], axis=1)
    with pytest.raises(UserError, match="two columns named 'item_id'"):
        recommend(scorer, twice, None, {})
