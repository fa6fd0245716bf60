"""The format of a workspace: written, checked, and brought up to date."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping
from recmeta.registry import database, tracking
from recmeta.steps.data import ingest
from recmeta.steps.upkeep import migrate
from recmeta.workspace import Workspace, format_version


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with one log, and an MLflow store of its own."""
    file = tmp_path / "log.csv"
    pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "t": [1, 2]}).write_csv(file)
    found = Workspace(tmp_path / "ws")
    ingest.run(LogMapping(path=str(file), time_col="t", time_unit="s"), found)
    return found


def test_a_new_workspace_has_todays_format(workspace: Workspace) -> None:
    assert format_version.format_of(workspace) == format_version.NOW == 2
    done = migrate.run(workspace)
    assert (done.format_before, done.format, done.changes) == (2, 2, ())


def test_one_that_does_not_say_is_read_as_it_is_and_brought_up_to_date(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace.delete(format_version.FILE)
    assert format_version.format_of(workspace) == 1
    with workspace.writing():
        pass  # as before there were formats
    done = migrate.run(workspace)
    assert (done.format_before, done.format) == (1, 2)
    assert done.changes == ("The workspace has format 2.",)
    assert json.loads(Path(workspace.local_path("format.json")).read_text()) == {"format": 2}


def test_nothing_is_made_where_there_is_no_workspace(tmp_path: Path) -> None:
    assert migrate.run(Workspace(tmp_path / "none")).changes == ()
    assert not (tmp_path / "none" / "format.json").exists()


def test_a_workspace_of_a_later_version_is_refused_in_one_sentence(workspace: Workspace) -> None:
    workspace.write_bytes("format.json", b'{"format": 3, "since": "2027-01-01"}\n')
    for use in (migrate.run, lambda ws: ws.writing().__enter__(), lambda ws: ws.check_format()):
        with pytest.raises(UserError, match="has format 3, and this version of recmeta knows"):
            use(workspace)
    command = [sys.executable, "-m", "recmeta.cli", "migrate", "-w", workspace.location]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "install the version that wrote it" in done.stderr


def test_a_format_that_cannot_be_read_is_said_to_be(workspace: Workspace) -> None:
    workspace.write_bytes("format.json", b"{}")
    with pytest.raises(UserError, match="does not say which format"):
        workspace.check_format()


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader")
def test_mlflows_tables_of_an_earlier_version_are_upgraded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = Path(workspace.local_path(tracking.DATABASE))
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "heads-1")
    before = utils._get_schema_version(engine)
    engine.dispose()
    (latest,) = ScriptDirectory.from_config(config).get_heads()
    assert before != latest

    (change,) = migrate.run(workspace).changes
    assert change == f"mlflow.db has MLflow's schema {latest}; it had {before}."
    assert database.upgrade(path) == (latest, latest)
    assert tracking.experiment_id(tracking.connect(workspace)) == "1"
