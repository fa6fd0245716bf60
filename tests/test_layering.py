"""Who may import whom, in layers and in rooms, and that the core needs few libraries.

What files import by name at run time (plug-ins, found by their names) is not seen here.
"""

import ast
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recmeta"

LAYERS: dict[str, int] = {
    "recmeta": 0,
    "recmeta.schema": 0,
    "recmeta.children": 0,
    "recmeta.client": 0,
    "recmeta.errors": 0,
    "recmeta.markup": 0,
    "recmeta.strict_json": 0,
    "recmeta.handwritten": 0,
    "recmeta.config": 0,
    "recmeta.workspace": 0,
    "recmeta.records": 0,
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
    "recmeta.engine": 2,
    "recmeta.exporting": 2,
    "recmeta.logs": 2,
    "recmeta.features": 2,
    "recmeta.registry": 2,
    "recmeta.reporting": 2,
    "recmeta.steps": 3,
    "recmeta.recipes": 3,
    "recmeta.federated": 3,
    "recmeta.capacity": 3,
    "recmeta.pipeline": 3,
    "recmeta.project": 3,
    "recmeta.doctor": 3,
    "recmeta.api": 4,
    "recmeta.endpoint": 4,
    "recmeta.analysis": 4,
    "recmeta.cli": 4,
    "recmeta.orchestration": 4,
}
"""A module's part is the longest of these names that begins its own."""

ROOMS = (
    # layer 0
    "recmeta.children",
    "recmeta.client",
    "recmeta.errors",
    "recmeta.markup",
    "recmeta.strict_json",
    "recmeta.handwritten",
    "recmeta.extras",
    "recmeta.schema",
    "recmeta.progress",
    "recmeta.plugins",
    "recmeta.config",
    "recmeta.workspace",
    "recmeta.records",
    "recmeta.manifest",
    # layer 1
    "recmeta.tasks",
    "recmeta.metalearn",  # the package itself, which imports nothing
    "recmeta.metalearn.numerics",
    "recmeta.metalearn.tensors",
    "recmeta.metalearn.learner",
    "recmeta.metalearn.factors",
    "recmeta.metalearn.heads",
    "recmeta.metalearn.networks",
    "recmeta.metalearn.starts",
    "recmeta.metalearn.learner_config",
    "recmeta.metalearn.registry",
    "recmeta.metalearn.member_config",
    "recmeta.metalearn.inner_loop",
    "recmeta.metalearn.prior_fitted",
    "recmeta.metalearn.model_config",
    "recmeta.metalearn.model",
    "recmeta.metalearn.scorer",
    "recmeta.metalearn.predicted_rows",
    "recmeta.metalearn.outer_loop",
    "recmeta.metalearn.algorithms",
    "recmeta.metalearn.members",
    "recmeta.evaluation",
    "recmeta.serving",
    "recmeta.training",
    "recmeta.testing",
    # layer 2, whose parts never import one another
    "recmeta.tasks.splits",
    "recmeta.engine",
    "recmeta.exporting",
    "recmeta.logs",
    "recmeta.features",
    "recmeta.registry",
    "recmeta.reporting",
    # layer 3
    "recmeta.steps.parts",
    "recmeta.steps",
    "recmeta.recipes",
    "recmeta.capacity",
    "recmeta.federated",
    "recmeta.pipeline",
    "recmeta.project",
    "recmeta.doctor",
    "recmeta.project",
    # layer 4
    "recmeta.orchestration",
    "recmeta.api",
    "recmeta.analysis",
    "recmeta.endpoint",
    "recmeta.cli",
)
"""The order of rooms within each layer, the lowest first: a file imports from its own room and from
lower ones. A module's room is the longest of these names that begins its own."""

STRANGERS = {
    ("recmeta.serving", "recmeta.evaluation"),
    ("recmeta.testing", "recmeta.serving"),
    ("recmeta.testing", "recmeta.training"),
}
"""Rooms of layer 1 that know nothing of a lower one."""

CROWDED: dict[str, str] = {
    "recmeta.cli.commands": "one command, one file",
}
"""Folders of more than a dozen files, and why."""
MOST_FILES = 12

LIBRARIES = {
    0: {"pyarrow"},
    1: {"pyarrow", "numpy", "torch", "safetensors"},
}
"""Third-party packages of the core, by layer."""

FURTHER = {
    "recmeta.evaluation.baselines.factors.ials": {"implicit", "scipy"},
    "recmeta.evaluation.baselines.trees.boosted_trees": {"lightgbm"},
    "recmeta.testing.baseline_conformance": {"pytest"},
    "recmeta.workspace.lease": {"obstore"},
    "recmeta.testing.conformance": {"pytest"},
}
"""What a file may ask for beside, when it is used: baselines of the extra `accuracy`, and tests."""

HIDDEN = (
    "airflow",
    "alembic",
    "dataframely",
    "deltalake",
    "duckdb",
    "fastapi",
    "feast",
    "implicit",
    "lightgbm",
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


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return frozenset(found)


def test_every_part_exists() -> None:
    assert {part_of(module) for module in MODULES} == set(LAYERS)


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return by module all that it imports of the package, anywhere in its file."""
    return {
        module: imports(path) & MODULES.keys() - {module, "recmeta"}
        for module, path in MODULES.items()
    }


def room_of(module: str) -> str:
    """Return the name in ROOMS that a module belongs to."""
    names = module.split(".")
    ends = range(len(names), 1, -1)
    found = next((".".join(names[:n]) for n in ends if ".".join(names[:n]) in ROOMS), None)
    assert found is not None, f"{module} has no place in ROOMS: give its room one."
    return found


def test_imports_point_downwards() -> None:
    wrong = [
        fault
        for module in MODULES
        if module != "recmeta"
        for imported in sorted(graph()[module])
        if (fault := fault_of(module, imported))
    ]
    assert wrong == []


def fault_of(module: str, imported: str) -> str | None:
    """Return what is wrong with a module's import of another, if anything is."""
    own, own_room = part_of(module), room_of(module)
    other, other_room = part_of(imported), room_of(imported)
    if other_room == own_room or LAYERS[other] < LAYERS[own]:
        return None
    where = f"{module} ({LAYERS[own]}) imports {imported} ({LAYERS[other]})"
    if LAYERS[other] > LAYERS[own]:
        return f"{where}: a higher layer"
    if LAYERS[own] == 2:
        return f"{where}: adapters never import one another"
    if ROOMS.index(other_room) > ROOMS.index(own_room):
        return f"{where}: {other_room} is a higher room"
    return f"{where}: strangers" if (own, other) in STRANGERS else None


@pytest.mark.parametrize(
    ("module", "imported", "said"),
    [
        ("recmeta.tasks.episodes", "recmeta.steps.learning", "a higher layer"),
        ("recmeta.logs.mapping", "recmeta.registry.tracking", "never import one another"),
        ("recmeta.metalearn.tensors.batch", "recmeta.metalearn.model", "a higher room"),
        ("recmeta.serving.ranking", "recmeta.evaluation.evaluate", "strangers"),
        ("recmeta.steps.learning", "recmeta.tasks.episodes", None),
    ],
)
def test_faults_are_found(module: str, imported: str, said: str | None) -> None:
    found = fault_of(module, imported)
    assert found is None if said is None else said in str(found)


def test_no_files_import_one_another_in_a_circle() -> None:
    assert {circle for circle in circles(graph()) if len(circle) > 1} == set()


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Return the strongly connected components of a graph (Tarjan, 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found = set[frozenset[str]]()

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        waiting.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in waiting:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            place = waiting.index(node)
            found.add(frozenset(waiting[place:]))
            del waiting[place:]

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str](), "e": {"d"}}
    found = circles(graph)
    assert found == {frozenset("abc"), frozenset("d"), frozenset("e")}


def test_a_folder_of_more_than_a_dozen_files_has_rooms_of_its_own() -> None:
    count = Counter(
        module.rpartition(".")[0] for module, path in MODULES.items() if path.stem != "__init__"
    )
    crowded = {folder for folder, number in count.items() if number > MOST_FILES}
    assert crowded == set(CROWDED)


def test_the_core_needs_few_libraries() -> None:
    allowed = {
        module: LIBRARIES[LAYERS[part_of(module)]] | FURTHER.get(module, set())
        for module in MODULES
        if LAYERS[part_of(module)] in LIBRARIES
    }
    found = {module: libraries(MODULES[module]) - some for module, some in allowed.items()}
    assert {module: more for module, more in found.items() if more} == {}


def libraries(path: Path) -> set[str]:
    """Return the third-party packages that a file imports."""
    return {name.split(".")[0] for name in imports(path)} - {"recmeta", *sys.stdlib_module_names}


def test_packages_import_nothing_of_weight() -> None:
    """A package's own file says what it is, and imports no library itself."""
    packages = {module: path for module, path in MODULES.items() if path.stem == "__init__"}
    silent = [
        m for m, p in packages.items() if not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert silent == []
    assert {m: found for m, p in packages.items() if (found := libraries(p))} == {}


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
from recmeta.evaluation.fit_baselines import fit_baselines
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
    tests = [name for name, libraries in FURTHER.items() if "pytest" in libraries]
    core = [m for m in MODULES if LAYERS[part_of(m)] <= 1 and m not in tests]
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
