"""Small logs of ratings and of clicks, as task sets."""

import pytest

from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder


@pytest.fixture(scope="session")
def rated(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=60, num_items=40, rows_per_user=(6, 12)), seed=2)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("rated")))


@pytest.fixture(scope="session")
def clicked(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    config = SyntheticConfig(
        num_users=60, num_items=40, rows_per_user=(6, 12), objective="implicit"
    )
    return write_task_set(generate(config, seed=3), Folder.at(tmp_path_factory.mktemp("clicked")))
