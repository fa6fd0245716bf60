"""What all tests share: reproducible sums, no test that fails because the machine is busy, and
MLflow's empty database."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import torch
from built_once import mlflow_database

from recmeta.registry import tracking
from recmeta.registry.artifacts import database_path
from recmeta.workspace import Workspace
from recmeta.workspace.privacy import make_private

# Before Feast, which else would have it share its values among all that run in this process.
with contextlib.suppress(ImportError):  # where there is the core alone, there is no endpoint
    import prometheus_client  # noqa: F401

# One thread, so that test processes side by side do not fight for cores. Tests must pass with any
# number: `make test-numerics` runs those that compare floats with others.
torch.set_num_threads(int(os.environ.get("RECMETA_TEST_THREADS", "1")))

# A slow example is no fault; a run that is to be relied upon draws the same examples every time.
with contextlib.suppress(ImportError):  # the tests that need a GPU need no examples
    from hypothesis import settings

    settings.register_profile("recmeta", deadline=None, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("recmeta")


@pytest.fixture(scope="session", autouse=True)
def _one_creation_of_mlflows_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let each workspace of the tests' processes begin with a copy of one empty MLflow database."""

    def copy(uri: str, workspace: Workspace) -> None:
        path = database_path(uri)
        if path is not None and not path.exists():
            make_private(path.parent)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                copied = shutil.copy(mlflow_database(tmp_path_factory), folder)
                with contextlib.suppress(FileExistsError):  # another thread was faster
                    os.link(copied, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "create_database", copy)
        yield
