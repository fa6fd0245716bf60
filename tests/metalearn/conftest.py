"""A small synthetic task set for the tests of this folder."""

from pathlib import Path

import pytest

from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder


@pytest.fixture
def task_set(tmp_path: Path) -> TaskSet:
    log = generate(SyntheticConfig(num_users=80, num_items=30, rows_per_user=(4, 12)), seed=2)
    return write_task_set(log, Folder.at(tmp_path / "tasks"))
