"""`recmeta explain`: what it says of a reason is what happens without it."""

from pathlib import Path
from typing import Any

import pytest
from cli_calls import Call, Called

ROWS = ["a,i1,5", "a,i2,1", "a,i5,4", "a,i9,2", "b,i3,3"]


@pytest.fixture
def new_users(tmp_path: Path) -> Path:
    return write(tmp_path / "new.csv", ROWS)


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["user_id,item_id,value", *rows]) + "\n")
    return path


def test_without_the_top_reason_the_score_moves_as_said(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    workspace, _ = finished
    arguments = ["explain", "a", "i20", "-w", workspace, "--json", "--new-users"]
    before = recmeta(*arguments, new_users)
    assert before.code == 0, before.stderr
    reasons = before.json["support"]
    assert [r["item_id"] for r in sorted(reasons, key=lambda r: r["item_id"])] == [
        "i1",
        "i2",
        "i5",
        "i9",
    ]
    top = reasons[0]
    assert abs(top["effect"]) == max(abs(r["effect"]) for r in reasons) > 1e-4
    fewer = [row for row in ROWS if row.split(",")[:2] != ["a", top["item_id"]]]
    after = recmeta(*arguments, write(tmp_path / "fewer.csv", fewer))
    moved = before.json["score"] - after.json["score"]
    assert moved == pytest.approx(top["effect"], abs=2e-5)


def test_a_list_scores_as_its_explanation_says(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    import polars as pl

    workspace, _ = finished
    scored = recmeta("score", new_users, "-w", workspace, "--json", "--top-k", 3)
    lists = pl.read_delta(scored.json["recommendations"])
    row = lists.filter((pl.col("run") == scored.json["run"]) & (pl.col("user_id") == "a"))
    first = row.sort("rank").row(0, named=True)
    why = recmeta(
        "explain", "a", first["item_id"], "-w", workspace, "--json", "--new-users", new_users
    )
    assert min(max(why.json["score"], 1), 5) == pytest.approx(first["score"], abs=1e-4)
    assert why.json["model_version"] == scored.json["model_version"]


def test_shares_of_features_add_up(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    pytest.importorskip("captum")
    workspace, _ = finished
    arguments = ["explain", "a", "i20", "-w", workspace, "--json", "--new-users", new_users]
    shares, again = (recmeta(*arguments, "--features", "shapley") for _ in range(2))
    assert shares.code == 0, shares.stderr
    assert shares.json == again.json
    apart = recmeta(*arguments)
    assert shares.json["feature_method"] == "shapley"
    assert {f["name"] for f in shares.json["features"]} == {
        f["name"] for f in apart.json["features"]
    }
    total = sum(f["effect"] for f in shares.json["features"])
    everything_hidden = shares.json["score"] - total
    assert everything_hidden == pytest.approx(
        nothing_known(recmeta, workspace, new_users), abs=1e-3
    )


def nothing_known(recmeta: Call, workspace: Path, new_users: Path) -> float:
    """Return the score of an item of which nothing is known, from the model itself."""
    import numpy as np

    from recmeta.logs.mapping import LogMapping
    from recmeta.metalearn.model import Model
    from recmeta.metalearn.scorer import Scorer
    from recmeta.registry.models import versions
    from recmeta.serving.feature_effects import features, scores_knowing
    from recmeta.steps.serving.explain import user_of_file
    from recmeta.workspace import Workspace

    space = Workspace(workspace)
    model = Model.load(versions.model_folder(space, versions.in_use(space)))
    tasks = user_of_file(model, LogMapping(path=str(new_users), value_col="value"), "a")
    hidden = np.zeros((1, len(features(model))), np.bool_)
    return float(scores_knowing(model, Scorer.of(model).adapt(tasks), 3, hidden)[0])


def test_users_of_the_log_and_pictures(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    workspace, _ = finished
    picture = tmp_path / "why.png"
    called = recmeta("explain", "u3", "i7", "-w", workspace, "--plot", picture)
    assert called.code == 0, called.stderr
    assert "Thing 7 for user u3" in called.stdout
    assert "## What the user did" in called.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("user", "item", "message"),
    [("nobody", "i7", "knows no user 'nobody'"), ("u3", "i777", "has no item 'i777'")],
)
def test_mistakes(
    finished: tuple[Path, Called], recmeta: Call, user: str, item: str, message: str
) -> None:
    workspace, _ = finished
    called: Any = recmeta("explain", user, item, "-w", workspace, "--json")
    assert called.code == 2
    assert message in called.json["error"]


def test_a_user_who_is_not_in_the_file(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    workspace, _ = finished
    arguments = ["-w", workspace, "--json", "--new-users", new_users]
    assert "has no user 'c'" in recmeta("explain", "c", "i7", *arguments).json["error"]
    called = recmeta("explain", "a", "i7", *arguments, "--features", "magic")
    assert "must be ablation or shapley" in called.json["error"]


def test_a_user_is_found_whose_id_is_a_whole_float(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    path = write(tmp_path / "numbers.csv", ["10,i1,5", "10,i2,1", "11,i3,3"])
    for spelled in ("10", "10.0"):
        found = recmeta("explain", spelled, "i20", "-w", finished[0], "--json", "--new-users", path)
        assert found.code == 0, found.stderr
        assert (found.json["user_id"], len(found.json["support"])) == ("10", 2)
    missing = recmeta("explain", "12.0", "i20", "-w", finished[0], "--new-users", path)
    assert (missing.code, "has no user '12.0'" in missing.stderr) == (2, True)
