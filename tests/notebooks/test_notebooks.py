"""Every notebook runs from top to bottom on a workspace that is not the demo's."""

import dataclasses
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from recmeta import pipeline, recipes
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.metalearn.trainer import TrainingConfig
from recmeta.steps.meta_train import MetaTrainConfig
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small synthetic log, all the way through the pipeline."""
    folder = tmp_path_factory.mktemp("notebooks")
    write_csv(generate(SyntheticConfig(num_users=200, num_items=50), seed=0), folder)
    mapping = LogMapping(
        path=str(folder / "interactions.csv"),
        time_col="timestamp",
        value_col="value",
        items=AttributeSource(
            path=str(folder / "items.csv"), id_col="item_id", columns={"tags": Attribute(kind="multi")}
        ),
    )
    config = dataclasses.replace(
        recipes.default(), train=MetaTrainConfig(training=TrainingConfig(epochs=2))
    )
    place = Workspace(folder / "workspace")
    pipeline.run(config, mapping, place)
    return place


def test_there_are_notebooks() -> None:
    assert [n.name for n in NOTEBOOKS] == ["1_workspace.ipynb", "2_learning_a_user.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(
    path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMETA_WORKSPACE", workspace.location)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=180, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no plot was drawn"
    assert not [o for o in outputs if o.output_type == "error"]
