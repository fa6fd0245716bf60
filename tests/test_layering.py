"""Who may import whom, and that the core needs nothing but PyTorch, numpy, PyArrow, safetensors."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recmeta"

LAYERS: dict[str, int] = {
    "recmeta": 0,
    "recmeta.schema": 0,
    "recmeta.errors": 0,
    "recmeta.config": 0,
    "recmeta.workspace": 0,
    "recmeta.manifest": 0,
    "recmeta.progress": 0,
    "recmeta.plugins": 0,
    "recmeta.extras": 0,
    "recmeta.tasks": 1,
    "recmeta.metalearn": 1,
    "recmeta.evaluation": 1,
    "recmeta.serving": 1,
    "recmeta.training": 1,
    "recmeta.testing": 1,
    "recmeta.tasks.splits": 2,
    "recmeta.logs": 2,
    "recmeta.features": 2,
    "recmeta.registry": 2,
    "recmeta.reporting": 2,
    "recmeta.steps": 3,
    "recmeta.recipes": 3,
    "recmeta.federated": 3,
    "recmeta.pipeline": 3,
    "recmeta.project": 3,
    "recmeta.doctor": 3,
    "recmeta.endpoint": 4,
    "recmeta.analysis": 4,
    "recmeta.cli": 4,
    "recmeta.orchestration": 4,
}
"""A module's part is the longest of these names that begins its own."""

INSIDE_CORE = {
    "recmeta.tasks": set[str](),
    "recmeta.metalearn": {"recmeta.tasks"},
    "recmeta.evaluation": {"recmeta.tasks", "recmeta.metalearn"},
    "recmeta.serving": {"recmeta.tasks", "recmeta.metalearn"},
    "recmeta.training": {"recmeta.tasks", "recmeta.metalearn", "recmeta.evaluation"},
    "recmeta.testing": {"recmeta.tasks", "recmeta.metalearn"},
}
"""Which other parts of layer 1 a part of layer 1 knows."""

LIBRARIES = {
    0: {"pyarrow"},
    1: {"pyarrow", "numpy", "torch", "safetensors"},
}
"""Third-party packages of the core, by layer."""

HIDDEN = (
    "airflow",
    "alembic",
    "dataframely",
    "deltalake",
    "duckdb",
    "fastapi",
    "feast",
    "matplotlib",
    "mlflow",
    "optuna",
    "pandas",
    "polars",
    "pydantic",
    "requests",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "typer",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(module: str) -> str:
    """Return the name in LAYERS that a module belongs to."""
    names = module.split(".")
    for length in range(len(names), 1, -1):
        if ".".join(names[:length]) in LAYERS:
            return ".".join(names[:length])
    assert module == "recmeta", f"{module} has no place in LAYERS: give its part one."
    return module


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def test_every_part_exists() -> None:
    assert {part_of(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    own = part_of(module)
    for imported in imports(MODULES[module]):
        if imported.split(".")[0] != "recmeta":
            continue
        other = part_of(imported)
        if other == own or other == "recmeta":
            continue
        where = f"{module} ({LAYERS[own]}) imports {imported} ({LAYERS[other]})"
        assert LAYERS[other] <= LAYERS[own], where
        if LAYERS[own] == LAYERS[other] == 1:
            assert other in INSIDE_CORE[own], where
        if LAYERS[own] == LAYERS[other] == 2:
            pytest.fail(f"{where}: adapters never import one another")


@pytest.mark.parametrize("module", [m for m in MODULES if LAYERS[part_of(m)] in LIBRARIES])
def test_the_core_needs_few_libraries(module: str) -> None:
    allowed = LIBRARIES[LAYERS[part_of(module)]] | {"recmeta"} | set(sys.stdlib_module_names)
    if module == "recmeta.testing.conformance":
        allowed.add("pytest")
    assert {name.split(".")[0] for name in imports(MODULES[module])} <= allowed


@pytest.mark.parametrize("module", [m for m, path in MODULES.items() if path.stem == "__init__"])
def test_packages_import_nothing_of_weight(module: str) -> None:
    """A package's own file says what it is, and imports no library itself."""
    path = MODULES[module]
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), module
    light = {"recmeta", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in imports(path)} <= light


CORE_SCRIPT = '''
import importlib, pathlib, sys

class Hiding:
    """A finder that does not find some libraries, as if they were not installed."""
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split():
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
for module in sys.argv[2].split():
    importlib.import_module(module)

import dataclasses
import numpy as np
import torch
torch.set_num_threads(1)
import pyarrow as pa
from recmeta.evaluation.baselines.fit import fit_baselines
from recmeta.evaluation.evaluate import EvaluationConfig, evaluate
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

folder = Folder.at(sys.argv[3])
log = generate(SyntheticConfig(num_users=40, num_items=20, rows_per_user=(4, 8)), seed=0)
task_set = write_task_set(log, folder / "tasks")
model = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
splits = [task_set.tasks(name) for name in ("train", "dev", "test")]
history = train(
    model, splits[0], splits[1], episodes=EpisodeConfig(), config=TrainingConfig(epochs=1), seed=0
)
assert len(history) == 1
model.save(folder / "model")
predictors = fit_baselines(task_set.spec, splits[0], splits[1])
predictors["maml"] = LearnedPredictor("maml", model)
config = EvaluationConfig(num_resamples=10, shots=(0, 2))
evaluation = evaluate(predictors, splits[2], task_set.spec, config)
assert np.isfinite(evaluation.intervals["maml"]["mae"].mean)
events = pa.table({"user_id": ["new"], "item_id": ["i03"], "value": [4.0]})
tasks, counts = tasks_for_new_users(Model.load(folder / "model"), events)
assert counts.used == 1
lists = rank(Scorer.of(model), adapt_users(Scorer.of(model), tasks), ScoringConfig(top_k=3))
assert lists.item_Bk.shape == (1, 3) and 3 not in lists.item_Bk
found = [name for name in sys.argv[1].split() if name in sys.modules]
assert not found, found
print("done")
'''


def test_the_core_runs_where_nothing_else_is_installed(tmp_path: Path) -> None:
    """Import all of it, train, evaluate, adapt and rank where the other libraries are hidden."""
    core = [m for m in MODULES if LAYERS[part_of(m)] <= 1 and m != "recmeta.testing.conformance"]
    done = subprocess.run(
        [sys.executable, "-c", CORE_SCRIPT, " ".join(HIDDEN), " ".join(core), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


def test_nothing_imports_the_research_rig() -> None:
    for folder in ("recmeta", "dags", "feature_store"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert not any(name.split(".")[0] == "benchmarks" for name in imports(path)), path


def test_the_feature_repository_knows_the_schema_and_the_features_alone() -> None:
    for path in sorted((ROOT / "feature_store").glob("*.py")):
        own = [name for name in imports(path) if name.split(".")[0] == "recmeta"]
        allowed = ("recmeta.schema", "recmeta.features")
        assert all(name == "recmeta" or name.startswith(allowed) for name in own), path
