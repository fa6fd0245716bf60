"""`benchmarks/gpu.sh` is whole on a machine that has PyTorch, numpy, PyArrow, safetensors, pytest
and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed.gathered import gathered
from benchmarks.speed.many_users import NOISE, log_of, run
from recmeta import schema

ROOT = Path(__file__).parents[3]
ABSENT = (
    *("polars", "mlflow", "feast", "airflow", "scipy", "sklearn", "pandas", "deltalake"),
    *("hypothesis", "lightgbm", "implicit", "higher", "torchopt", "fastapi", "pydantic", "duckdb"),
    *("matplotlib", "prometheus_client", "yaml", "requests"),
)
GUARD = f"""
import importlib.machinery as machinery
there = machinery.PathFinder.find_spec

@classmethod
def find_spec(cls, name, path=None, target=None):
    return None if name.split(".")[0] in {ABSENT!r} else there(name, path, target)

machinery.PathFinder.find_spec = find_spec
"""


def run_script(folder: Path, parts: str) -> tuple[int, str, list[dict[str, object]]]:
    """Run the script in its tiny size without the libraries; return what it ended with."""
    guard = folder / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    given = {"OUT": str(folder / "out"), "PYTHON": sys.executable, "PYTHONPATH": str(guard)}
    how = {"DEVICE": "cpu", "SIZE": "tiny", "PARTS": parts, "RECMETA_SHARED_DATA": str(folder)}
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh")],
        env={**os.environ, **given, **how},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads((folder / "out" / "gpu.json").read_text())
    return done.returncode, done.stdout + done.stderr, found["rows"]


def test_the_tests_that_need_a_gpu_are_collected_without_other_libraries(tmp_path: Path) -> None:
    code, said, rows = run_script(tmp_path, "tests")
    assert code == 0, said
    assert rows[0]["part"] == "tests"
    assert " 0 failed" in str(rows[0]["what"])
    assert not str(rows[0]["what"]).startswith("0 passed, 0 failed, 0 skipped")
    assert said.count("| tests |") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="slow: RECMETA_SLOW=1")
def test_every_part_runs_without_other_libraries(tmp_path: Path) -> None:
    code, said, rows = run_script(tmp_path, "tests training many-users adapt-score meta-train")
    assert code == 0, said
    measured = {str(row["part"]) for row in rows if "users_per_second" in row}
    assert measured == {"training", "many-users", "adapt-score", "meta-train"}
    assert all(float(str(row.get("users_per_second", 1))) > 0 for row in rows)


def test_maml_learns_from_each_user_once_and_every_part_has_its_row(tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    found = run("cpu", users=240, items=40, batch_size=32, parts=2, on_row=told.append)
    assert found.rows == told
    assert [row["part"] for row in told] == [1, 2]
    # One per cent is tested, two in a thousand choose.
    assert sum(int(str(row["users"])) for row in told) == 240 - 3
    noise = NOISE * np.sqrt(2 / np.pi)
    assert 0.8 * noise < float(str(told[-1]["test_mae"])) < 1.5
    lines = "".join(json.dumps(row) + "\n" for row in told)
    (tmp_path / "many-users.jsonl").write_text(lines)
    (tmp_path / "gpu.csv").write_text("NVIDIA H200, 580.159.04, 143771 MiB\n")
    table = gathered(tmp_path)
    assert (table.machine["gpu"], table.machine["driver"]) == ("NVIDIA H200", "580.159.04")
    assert [row["what"] for row in table.rows] == [
        *("nothing was measured", "part 1", "part 2"),
        *("nothing was measured", "nothing was measured"),
    ]


def test_a_log_of_many_users_has_each_pair_once_and_its_popular_items() -> None:
    log = log_of(2_000, 100)
    pairs = log.interactions.select([schema.USER_ID, schema.ITEM_ID])
    assert pairs.group_by([schema.USER_ID, schema.ITEM_ID]).aggregate([]).num_rows == len(pairs)
    item = log.interactions[schema.ITEM_ID].to_numpy().astype(int)
    count_I = np.bincount(item, minlength=100)
    assert count_I[:10].sum() > 2.5 * count_I[-10:].sum()
    assert log.first(7).interactions[schema.USER_ID].unique().to_pylist() == list("0123456")
