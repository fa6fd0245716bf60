"""A learner, a baseline and a metric from outside: the example package, installed and run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.registry import NETWORKS
from recmeta.metalearn.registry import LEARNERS
from recmeta.plugins import TRUSTED
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder
from recmeta.workspace.sealed import DIGESTS

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


PLANTED = """
import pathlib
pathlib.Path({trace!r}).touch()
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.networks.estimators.interacting import NETWORK
class Learner(MAMLConfig): ...
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module that leaves a trace when it is imported, and two saved models that
    name it: one as its learner, one as its network."""
    folder = tmp_path_factory.mktemp("planted")
    package = folder / "planted_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "code.py").write_text(PLANTED.format(trace=str(folder / "trace")))
    task_set = write_task_set(
        generate(SyntheticConfig(num_users=40, num_items=40), seed=0), Folder.at(folder / "tasks")
    )
    model = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    for part, key, value in (
        ("learner", "algorithm", "planted_package.code:Learner"),
        ("network", "kind", "planted_package.code:NETWORK"),
    ):
        saved = Folder.at(folder / part)
        model.save(saved)
        about = saved.read_json("model.json")
        place = about["config"]["network"] if part == "network" else about["config"]
        assert place[key] in ("maml", "preference")
        place[key] = value
        saved.write_json("model.json", about)
        saved.delete(DIGESTS)  # no signature: who writes a model writes its digests
    return folder


@pytest.fixture
def trace(planted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The trace of the planted module, which can be imported and has not been yet."""
    monkeypatch.syspath_prepend(planted)
    yield planted / "trace"
    for name in [name for name in sys.modules if name.startswith("planted_package")]:
        del sys.modules[name]
    (planted / "trace").unlink(missing_ok=True)


@pytest.mark.parametrize("part", ["learner", "network"])
@pytest.mark.parametrize("trusted", ["", "planted_package.cod, planted_package.code.x,planted,.,"])
def test_loading_a_model_runs_no_code_that_it_names(
    planted: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, part: str, trusted: str
) -> None:
    monkeypatch.setenv(TRUSTED, trusted)
    message = f"the {part} 'planted_package.code:.*set {TRUSTED}=planted_package.code "
    with pytest.raises(UserError, match=message):
        Model.load(Folder.at(planted / part))
    assert not trace.exists()


@pytest.mark.parametrize("part", ["learner", "network"])
@pytest.mark.parametrize("trusted", ["other, planted_package", "planted_package.code"])
def test_loading_a_model_imports_what_is_trusted(
    planted: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, part: str, trusted: str
) -> None:
    monkeypatch.setenv(TRUSTED, trusted)
    Model.load(Folder.at(planted / part))
    assert trace.exists()


@pytest.mark.parametrize("part", ["learner", "network"])
def test_who_names_a_path_means_it(planted: Path, trace: Path, part: str) -> None:
    if part == "learner":
        ModelConfig(algorithm="planted_package.code:Learner")
    else:
        NETWORKS["planted_package.code:NETWORK"]
    assert trace.exists()
    Model.load(Folder.at(planted / part))  # the same process goes on with its own model


def test_a_package_that_is_not_installed_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no learner 'shrunken-bias'"):
        LEARNERS["shrunken-bias"]
    with pytest.raises(UserError, match="cannot be imported: No module named 'recmeta_example'"):
        LEARNERS[PATH]
