"""materialise-features and features: applied, put online, and compared, as a person does it."""

import os
import shutil
from pathlib import Path

import pytest
from cli_calls import LOG_OPTIONS, Call

REPOSITORY = Path(__file__).parents[2] / "feature_store"

slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")


@pytest.fixture(scope="module")
def placed(recmeta: Call, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The options that name a workspace with an ingested log, and an empty feature store."""
    place = tmp_path_factory.mktemp("features")
    ignored = shutil.ignore_patterns("data", "__*")
    shutil.copytree(REPOSITORY, place / "store", ignore=ignored)
    options = [*LOG_OPTIONS, "--users", folder / "users.csv", "--items", folder / "items.csv"]
    done = recmeta("ingest", folder / "events.csv", *options, "-w", place / "workspace")
    assert done.code == 0, done.stderr
    return ["-w", place / "workspace", "--feature-store", place / "store", "--json"]


@slow
def test_from_nothing_to_skew_and_back(recmeta: Call, placed: list[object], folder: Path) -> None:
    refused = recmeta("features", "check", *placed)
    assert refused.code == 2
    assert "nothing was applied" in refused.json["error"]

    applied = recmeta("features", "apply", *placed)
    assert applied.code == 0, applied.stderr
    assert applied.json["feature_services"] == ["melu_v1"]
    assert len(applied.json["feature_views"]) == 5
    profiles = Path(str(placed[3]), "data", "online.db")
    assert profiles.stat().st_mode & 0o077 == 0

    refused = recmeta("features", "check", *placed)
    assert refused.code == 2
    assert "has not been materialised" in refused.json["error"]

    online = recmeta("materialise-features", *placed, "--until", "2024-06-01")
    assert online.code == 0, online.stderr
    assert online.json["step"] == "materialise-features"
    assert online.json["online_until"] == "2024-06-01T00:00:00+00:00"
    equal = recmeta("features", "check", *placed)
    assert equal.code == 0
    found = {row["feature"]: row for row in equal.json["features"]}
    assert found["user_activity:mean_value_7d"]["compared"] == 60
    assert found["item_profile:tags"]["share"] == 0
    assert equal.json["skewed"] == []

    late = folder / "late.csv"
    late.write_text("uid,sku,ts,stars\nu1,i1,1600000000,5\n")
    assert recmeta("ingest", late, *LOG_OPTIONS, *placed[:2]).code == 0
    assert recmeta("materialise-features", *placed[:2]).code == 0
    skewed = recmeta("features", "check", *placed)
    assert skewed.code == 4
    assert "user_activity:num_interactions" in skewed.json["skewed"]
    assert "user_activity:num_interactions" in skewed.stderr
    row = next(r for r in skewed.json["features"] if r["feature"] == skewed.json["skewed"][-1])
    assert row["share"] == row["different"] / row["compared"] == 1 / 60
    assert recmeta("features", "check", *placed, "--max-share", "0.05").code == 0
    shown = recmeta("features", "check", *placed[:-1])
    assert "| user_activity:num_interactions | 2024-06-01T00:00:00+00:00 | 60 | 1 | 1.67% |" in (
        shown.stdout.splitlines()
    )

    assert recmeta("materialise-features", *placed).code == 0
    assert recmeta("features", "check", *placed).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["materialise-features", "--until", "soon"], "--until is 'soon'"),
        (["features", "check", "--feature-store", "nowhere"], "no feature store at 'nowhere'"),
    ],
)
def test_mistakes_are_named(
    recmeta: Call, tmp_path: Path, arguments: list[str], message: str
) -> None:
    refused = recmeta(*arguments, "-w", tmp_path, "--json")
    assert refused.code == 2
    assert message in refused.json["error"]
