"""`python -m benchmarks.speed`: what it prints and saves, from wherever it is called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed.__main__ import BENCHMARKS, main
from benchmarks.speed.processes import ROOT, measure_alone

TINY = ["training", "--users", "80", "--epochs", "2", "--learner", "bayesian-linear"]
CORE_ALONE = """
import sys

for name in ("duckdb", "feast", "polars", "rich", "typer"):
    sys.modules[name] = None  # as if it were not installed
from benchmarks.speed.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


def test_rows_come_one_by_one_and_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, saved = tmp_path / "new" / "lines.jsonl", tmp_path / "saved.json"
    options = ["--threads", "1", "--json", "--lines", str(lines), "--save", str(saved)]
    assert main([*TINY, *options]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert json.loads(saved.read_text()) == found
    assert [json.loads(line) for line in lines.read_text().splitlines()] == found["rows"]
    assert lines.read_text() in printed.err
    assert found["machine"]["torch"]
    recipe, large = found["rows"]
    assert (recipe["batch_size"], large["batch_size"]) == (64, 1024)
    for row in (recipe, large):
        assert len(row["dev_losses"]) == len(row["train_losses"]) == 2
        assert row["users_per_second"] > 0
        assert row["step_ms"] > 0


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
@pytest.mark.slow
def test_the_core_alone_is_enough_anywhere(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RECMETA_SHARED_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CORE_ALONE, *TINY, "--threads", "1", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {row["source"] for row in json.loads(done.stdout)["rows"]} == {"synthetic"}


def test_a_measurement_finds_the_checkout_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "somewhere.py").write_text("def measure(number):\n    return number + 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert measure_alone("somewhere", {"number": 1}, threads=1) == 2


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["training", "--learner", "selector", "--users", "40"]) == 2
    assert "without members" in capsys.readouterr().err
    assert main(["meta-train", "--device", "tpu"]) == 2
    assert "tpu" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--rate", "0"])
    assert "0 is below 1" in capsys.readouterr().err


def test_the_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in BENCHMARKS)
