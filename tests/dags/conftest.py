"""One Airflow home for all tests of the DAGs that need no scheduler."""

import pytest
from airflow_process import AirflowProcess


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> AirflowProcess:
    return AirflowProcess.create(tmp_path_factory.mktemp("airflow"))
