"""A learner, a baseline and a metric from outside: the example package, installed and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.registry import LEARNERS
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Folder

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "recmeta-example"
PATH = "recmeta_example.shrunken_bias:ShrunkenBiasConfig"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed in, which this process does not see."""
    folder = tmp_path_factory.mktemp("plugins")
    source, target = folder / "source", folder / "target"
    shutil.copytree(EXAMPLE, source)  # building leaves files behind
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", target, source]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return target


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write_csv(generate(SyntheticConfig(num_users=160, num_items=40), seed=0), folder)
    return folder / "interactions.csv"


def call(*arguments: object, installed: Path | None) -> subprocess.CompletedProcess[str]:
    """Call Python as somebody does who has installed the example, or has not."""
    places = [str(ROOT), *([] if installed is None else [str(installed)])]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )


def run(learner: str, log: Path, workspace: Path, installed: Path) -> dict[str, Any]:
    """Return the report of a run of the whole pipeline."""
    columns = ("--time-col", "timestamp", "--value-col", "value")
    where = ("--config", EXAMPLE / "example.toml", "--workspace", workspace)
    done = call(
        *("-m", "recmeta.cli", "run", "--dataset", log, *columns, "--learner", learner),
        *(*where, "--epochs", "2", "--no-rival", "--device", "cpu", "--force", "--json"),
        installed=installed,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    report = workspace / summary["report"]
    found: dict[str, Any] = json.loads((report / "evaluation.json").read_text())
    found["text"] = (report / "report.md").read_text()
    found["model"] = next(iter((workspace / "models").glob("*/model.json"))).parent
    return found


def test_a_package_from_outside_runs_end_to_end(installed: Path, log: Path, tmp_path: Path) -> None:
    found = run("shrunken-bias", log, tmp_path / "ws", installed)
    assert found["candidate"] == "shrunken-bias"
    assert set(found["metrics"]) == {"shrunken-bias", "item-mean-user-bias", "user-mean"}
    assert all(0 < of["within_one"] <= 1 for of in found["metrics"].values())
    assert found["further_metrics"] == {"within_one": False}
    assert "within_one" in found["text"]
    assert "user-mean" in found["text"]

    about = json.loads((found["model"] / "model.json").read_text())
    assert about["packages"] == ["recmeta-example 0.1.0"]
    with pytest.raises(UserError, match=r"recmeta-example 0\.1\.0: install that to load it"):
        Model.load(Folder.at(found["model"]))
    load = "from recmeta.metalearn.model import Model; from recmeta.workspace import Folder; "
    load += f"print(Model.load(Folder.at({str(found['model'])!r})).config.learner)"
    again = call("-c", load, installed=installed)
    assert "ShrunkenBiasConfig" in again.stdout, again.stderr


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
@pytest.mark.slow
def test_a_class_is_found_by_its_path(installed: Path, log: Path, tmp_path: Path) -> None:
    found = run(PATH, log, tmp_path / "ws", installed)
    assert found["candidate"] == PATH
    assert found["metrics"][PATH]["mae"] > 0


def test_the_examples_own_tests_pass(installed: Path) -> None:
    tests = EXAMPLE / "tests"
    done = call("-m", "pytest", "-q", "-p", "no:cacheprovider", tests, installed=installed)
    assert done.returncode == 0, done.stdout


def test_a_package_that_is_not_installed_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no learner 'shrunken-bias'"):
        LEARNERS["shrunken-bias"]
    with pytest.raises(UserError, match="cannot be imported: No module named 'recmeta_example'"):
        LEARNERS[PATH]
