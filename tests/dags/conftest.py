"""One Airflow home for all tests of the DAGs that need no scheduler."""

import shutil

import pytest
from airflow_process import AirflowProcess
from built_once import built_once


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> AirflowProcess:
    migrated = built_once("airflow", AirflowProcess.create, tmp_path_factory)
    home = tmp_path_factory.mktemp("airflow")
    shutil.copy(migrated / "airflow.db", home)  # alone: the configuration beside it names its place
    return AirflowProcess.at(home)
