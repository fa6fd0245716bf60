"""What `import recmeta` gives: light, whole, documented, and runnable as its docstring says."""

import ast
import doctest
import importlib
import inspect
import os
import pydoc
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import recmeta

MODULES = (
    "data.dataset",
    "adapted",
    "recommender",
    "fit",
    "evaluation",
    "load",
    "run",
    "off_policy",
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
PIPELINE = ("airflow", "deltalake", "feast", "mlflow", "pandas", "rich", "typer", "matplotlib")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"recmeta.api.{name}")
    failed, tried = doctest.testmod(module, optionflags=FLAGS)
    assert tried > 0
    assert failed == 0


def test_every_name_is_there_documented_and_typed() -> None:
    assert set(recmeta.__all__) <= set(dir(recmeta))
    for name in recmeta.__all__:
        found = getattr(recmeta, name)
        if name != "__version__":
            assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            signature = inspect.signature(found)
            assert signature.return_annotation is not signature.empty, name
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = recmeta.fitt


def test_type_checkers_see_every_name() -> None:
    tree = ast.parse(Path(recmeta.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.asname for node in ast.walk(block) for alias in getattr(node, "names", ())}
    assert seen == {*recmeta.__all__} - {"__version__"}


def test_the_help_is_enough_to_write_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = pydoc.plain(pydoc.render_doc(recmeta))
    assert {name for name in recmeta.__all__ if name not in text} == {"__version__"}
    assert recmeta.__doc__ is not None
    example, _ = recmeta.__doc__.split("The frame of ratings has", 1)
    lines = [line for line in example.splitlines() if line.startswith("    ")]
    scope: dict[str, object] = {}
    exec(textwrap.dedent("\n".join(lines)), scope)
    assert scope["lists"].num_rows == 10  # type: ignore[attr-defined]
    assert (tmp_path / "my-model" / "model.json").exists()
    assert "cold users" in repr(scope["result"])


def test_importing_takes_no_time() -> None:
    code = (
        "import sys, time\n"
        "start = time.process_time()\n"
        "import recmeta\n"
        "print(time.process_time() - start)\n"
        "heavy = {'torch', 'polars', 'pandas', 'pyarrow', 'numpy', 'mlflow', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1


CORE = """
import sys, warnings

class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split():
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
import pydoc
import recmeta
from recmeta.testing.synthetic import SyntheticConfig, generate
pydoc.render_doc(recmeta)
log = generate(SyntheticConfig(num_users=80, num_items=30, rows_per_user=(5, 12)), seed=0)
data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
model = recmeta.fit(data, learner="bayesian-linear", epochs=1)
rows = data.rows("u00")
lists = model.recommend(rows, top_k=3)
model.predict(rows, lists)
model.explain(rows, lists["item_id"][0])
model.adapt(rows).counts
model.save(sys.argv[2])
result = recmeta.evaluate(recmeta.load(sys.argv[2]), data, baselines=["item-mean"])
result.to_frame(), result.curve
for needs in (
    result.plot,
    lambda: recmeta.run(log.interactions),
    lambda: recmeta.open_workspace("."),
    lambda: recmeta.load("models:/recmeta@champion"),
):
    try:
        needs()
    except recmeta.UserError as error:
        assert "pip install" in str(error), error
    else:
        raise AssertionError("it ran without what it needs")
hidden = [name for name in sys.argv[1].split() if name in sys.modules]
assert not hidden, hidden
assert "torch._dynamo" not in sys.modules, "PyTorch's compiler takes a second and 70 MB"
print("done")
"""


def test_the_core_is_enough(tmp_path: Path) -> None:
    """Without the pipeline's libraries all runs but what needs them, which says so."""
    done = subprocess.run(
        [sys.executable, "-c", CORE, " ".join(PIPELINE), str(tmp_path / "model")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
    assert "meta-train: done" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
