"""What starting costs: nobody waits for PyTorch to be told that a file is not there.

What is imported decides it, and is the same on every machine; processor time is measured beside it,
with limits of twice what was meant, for machines that are slower.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "mlflow", "pandas", "feast", "airflow", "fastapi", "matplotlib", "captum"}
SHOW = """
import json, sys
sys.argv[1:] = json.loads(sys.argv[1])
from recmeta.cli import work  # not main, which works in a child
code = work()
heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(%r))
open("imported.json", "w").write(json.dumps([code, heavy]))
"""
MISTAKES = {
    "score nofile.csv": "nofile.csv",
    "adapt nofile.csv": "nofile.csv",
    "explain 1 2": "there is no workspace",
    "explain 1 2 --new-users nofile.csv": "nofile.csv",
    "ingest nofile.csv": "nofile.csv",
    "run --dataset nofile.csv": "nofile.csv",
    "run --dataset ml-10k": "Did you mean 'ml-100k'",
    "run --dataset ml-100k --new-users nofile.csv": "nofile.csv",
    "run --dataset ml-100k --config no.toml": "no.toml",
    "run --dataset ml-100k --learner mml": "Did you mean 'maml'",
    "run --dataset ml-100k --feature-store nowhere": "nowhere",
    "run --datset ml-100k": "--dataset",
    "materialise-features": "ingest a log first",
    "build-tasks": "ingest a log first",
    "meta-train": "recmeta build-tasks",
    "tune": "recmeta build-tasks",
    "evaluate": "recmeta meta-train",
    "register": "recmeta evaluate",
    "rollback": "no champion",
    "evidence": "there is no workspace",
    "rebuild 5f0c": "no run",
    "report": "no report yet",
    "serve": "no API keys",
    "serve --no-auth --config no.toml": "no.toml",
    "features apply": "no feature store",
    "features check": "no feature store",
}
ROUNDS = 3


def environment() -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RECMETA_", "MLFLOW_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def cpu_seconds(folder: Path, *arguments: str) -> float:
    """Return the processor time of a Python process, the least of some."""
    taken = []
    for _ in range(ROUNDS):
        before = os.times()
        run(folder, *arguments)
        after = os.times()
        taken.append(
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
    return min(taken)


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_without_a_heavy_import(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-c", SHOW % sorted(HEAVY), json.dumps(command.split()))
    code, heavy = json.loads((tmp_path / "imported.json").read_text())
    assert (code, heavy) == (2, []), done.stderr
    assert MISTAKES[command] in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["imported.json"], "nothing was made"


@pytest.mark.parametrize("command", [[], ["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    run(tmp_path, "-c", SHOW % sorted({*HEAVY, "polars", "pyarrow"}), json.dumps(command))
    assert json.loads((tmp_path / "imported.json").read_text())[1] == []


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    script = "import recmeta, sys; print(sorted({n.partition('.')[0] for n in sys.modules}))"
    names = run(tmp_path, "-c", script).stdout
    assert not any(f"'{name}'" in names for name in (*HEAVY, "numpy", "pyarrow", "polars"))


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (["-c", "import recmeta"], 0.2),
        (["-m", "recmeta.cli", "--help"], 0.8),
        (["-m", "recmeta.cli", "score", "nofile.csv"], 2.0),
    ],
    ids=lambda value: "-".join(value[1:]) if isinstance(value, list) else "",
)
def test_starting_takes_little_processor_time(
    arguments: list[str], seconds: float, tmp_path: Path
) -> None:
    assert cpu_seconds(tmp_path, *arguments) < seconds
