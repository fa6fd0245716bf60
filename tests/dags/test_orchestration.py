"""Settings, waiting and the local deployment, each on its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow_process import DAGS, AirflowProcess

from recmeta.orchestration import local
from recmeta.orchestration.local import LocalConfig

ASKED = """
import asyncio, pathlib
from airflow.sdk.module_loading import import_string
from recmeta.errors import UserError
from recmeta.orchestration import settings
from recmeta.orchestration.arrival import ArrivalTrigger

found = [settings.workspace().location, settings.device(), settings.setting("mapping")]
try:
    settings.mapping()
except UserError as error:
    message = str(error)

async def wait(paths):
    path, arguments = ArrivalTrigger(paths, 0.01).serialize()
    events = import_string(path)(**arguments).run()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.2)
    early = first.done()
    pathlib.Path(paths[-1]).touch()
    return [early, (await asyncio.wait_for(first, 10)).payload["paths"]]

answer([found, message, asyncio.run(wait({paths!r}))])
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a day waits for, of which the last is not there yet."""
    folder = tmp_path_factory.mktemp("awaited")
    return [str(folder), str(folder / "late.csv")]


@pytest.fixture(scope="module")
def answers(airflow: AirflowProcess, paths: list[str]) -> list[Any]:
    """Settings, the message of the one that is missing, and what the trigger did, all of one
    process of Airflow's."""
    found: list[Any] = airflow.ask(
        ASKED.format(paths=paths),
        AIRFLOW_VAR_RECMETA_WORKSPACE="/of the variable",
        RECMETA_WORKSPACE="/of the environment",
        RECMETA_DEVICE="cpu",
    )
    return found


def test_a_variable_wins_over_the_environment_and_that_over_the_default(answers: list[Any]) -> None:
    assert answers[0] == ["/of the variable", "cpu", None]


def test_without_a_mapping_the_message_says_what_to_set(answers: list[Any]) -> None:
    assert "recmeta_mapping" in answers[1]
    assert "RECMETA_MAPPING" in answers[1]


def test_the_trigger_fires_when_every_path_is_there(answers: list[Any], paths: list[str]) -> None:
    assert answers[2] == [False, paths]


def config(tmp_path: Path) -> LocalConfig:
    return LocalConfig(
        workspace=tmp_path, dags=DAGS, mapping=tmp_path / "mapping.json", airflow_port=1234
    )


def test_what_is_set_already_wins(tmp_path: Path) -> None:
    given = {"AIRFLOW__CORE__PARALLELISM": "9", "PATH": "/usr/bin"}
    env = local.environment(config(tmp_path), given)
    assert env["AIRFLOW__CORE__PARALLELISM"] == "9"
    assert env["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1234/execution/"
    assert env["PATH"].endswith(":/usr/bin")  # behind the interpreter's own folder


def test_the_login_is_what_airflow_made_up(tmp_path: Path) -> None:
    home = tmp_path / "airflow"
    home.mkdir()
    file = home / "simple_auth_manager_passwords.json.generated"
    file.write_text(json.dumps({"admin": "s3cret"}))
    assert local.login(config(tmp_path)) == ("admin", "s3cret")
    on_a_terminal = local.greeting(config(tmp_path), to_a_terminal=True)
    assert "user admin   password s3cret\n" in on_a_terminal
    in_a_file = local.greeting(config(tmp_path), to_a_terminal=False)
    assert "s3cret" not in in_a_file
    assert f"the password is in {file}\n" in in_a_file
    for text in (on_a_terminal, in_a_file):
        assert "MLflow    http://127.0.0.1:5000   no login" in text


def test_a_failed_command_shows_what_it_said(airflow: AirflowProcess) -> None:
    with pytest.raises(RuntimeError, match="no-such-command"):
        local.airflow(airflow.env, "no-such-command")
