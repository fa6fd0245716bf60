"""The doctor finds what is wrong, says how to fix it, and leaves nothing behind."""

import shutil
from pathlib import Path

import pytest
from cli_calls import Call, Called

from recmeta import doctor
from recmeta.doctor import Check, examine


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_installation_is_sound(finished: tuple[Path, Called], recmeta: Call) -> None:
    workspace, _ = finished
    called = recmeta("doctor", "-w", workspace, "--json")
    assert called.code == 0, called.stdout
    found = {check["name"]: check for check in called.json["checks"]}
    assert called.json["ok"] is True
    assert {"python", "polars", "mlflow", "feast", "apache-airflow"} <= set(found)
    assert "interactions 1" in found["tables"]["found"]
    assert "version 1 is champion" in found["mlflow"]["found"]
    assert "--verify reads them all" in found["outputs"]["found"]
    verified = recmeta("doctor", "--verify", "-w", workspace, "--json")
    assert verified.code == 0, verified.stdout
    assert "are what was written" in verified.json["checks"][-1]["found"]


def test_verify_names_what_was_touched(
    finished: tuple[Path, Called], tmp_path: Path, recmeta: Call
) -> None:
    workspace = shutil.copytree(finished[0], tmp_path / "ws")
    (encoder, *_) = sorted(workspace.glob("models/*/encoder.arrow"))
    encoder.write_bytes(encoder.read_bytes()[:-1] + b"!")
    (part, *_) = workspace.glob("tables/items/*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    called = recmeta("doctor", "--verify", "-w", workspace, "--json")
    assert called.code == 2
    (outputs,) = (check for check in called.json["checks"] if check["name"] == "outputs")
    assert f"{encoder} is not what was written" in outputs["found"]
    assert f"its file {part.name} is not what was written" in outputs["found"]
    assert "`recmeta run`" in outputs["remedy"]


def test_a_workspace_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = by_name(examine(str(tmp_path / "ws")))
    assert found["workspace"].status == "ok"
    assert found["tables"].found.startswith("none yet")
    assert list(tmp_path.iterdir()) == []


def test_what_is_broken_comes_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recmeta: Call
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "tables" / "interactions" / "_delta_log").mkdir(parents=True)
    (tmp_path / "tables" / "interactions" / "_delta_log" / f"{0:020}.json").write_text("broken")
    called = recmeta("doctor", "-w", tmp_path, "--json")
    assert called.code == 2
    failed = {c["name"]: c for c in called.json["checks"] if c["status"] == "fail"}
    assert set(failed) == {"tables", "mlflow"}
    assert "MLFLOW_TRACKING_URI" in failed["mlflow"]["remedy"]
    assert "To be fixed: tables, mlflow." in " ".join(called.stderr.split())
    file = tmp_path / "file"
    file.write_text("")
    assert by_name(examine(str(file / "ws")))["workspace"].status == "fail"


def test_missing_and_old_libraries_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor._version

    def version(name: str) -> str | None:
        return {"feast": None, "polars": "1.0.0"}.get(name, installed(name))

    monkeypatch.setattr(doctor, "_version", version)
    found = by_name(list(doctor._dependencies()))
    assert found["feast"].status == "warn"
    assert found["polars"].status == "fail"
    assert "1.0.0, which is not" in found["polars"].found
    assert found["numpy"].status == "ok"
