"""Every notebook runs from top to bottom on a workspace that is not the demo's.

In one kernel, one after the other, since most of the time goes into starting it; each in a kernel
of its own with RECMETA_SLOW=1.
"""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NAMES = (
    "1_from_logs_to_tasks",
    "2_the_adaptation_curve",
    "3_one_users_story",
    "4_models_compared",
    "5_what_would_you_ask",
    "6_your_own_data",
    "7_exploration",
)
TRAINS = "6_your_own_data"
"""Makes a workspace of its own."""
slow = pytest.mark.skipif(not os.environ.get("RECMETA_SLOW"), reason="set RECMETA_SLOW=1")


@pytest.fixture(autouse=True)
def in_the_small_workspace(analysed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMETA_WORKSPACE", str(analysed / "workspace"))


def _run(notebook: nbformat.NotebookNode) -> None:
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()


def _pictures(cells: list[nbformat.NotebookNode]) -> int:
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    return sum("image/png" in o.get("data", {}) for o in outputs)


def test_there_are_seven() -> None:
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES


def test_they_run() -> None:
    books = {p.stem: nbformat.read(p, as_version=4) for p in NOTEBOOKS if p.stem != TRAINS}
    together = nbformat.v4.new_notebook()
    together.cells = [cell for book in books.values() for cell in book.cells]
    _run(together)
    for name, book in books.items():
        assert _pictures(book.cells) >= 2, name


@slow
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_runs_alone(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    _run(notebook)
    assert _pictures(notebook.cells) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_kept_shows_pictures_and_no_place(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert _pictures(notebook.cells) >= 2
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = str({k: v for k, v in output.get("data", {}).items() if k != "image/png"})
            assert not re.search(r"/(tmp|home|root|work|Users)/", text), text[:300]
            assert output.output_type != "stream", "a warning or a print was kept"
            rows = text.count("<tr")
            assert rows <= 40, "the data sets may not be redistributed: show few rows"
