"""What all tests share: reproducible sums, no test that fails because the machine is busy, and
MLflow's empty database."""

import contextlib
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from built_once import mlflow_database

from recmeta.registry import tracking
from recmeta.registry.artifacts import database_path
from recmeta.workspace import Workspace
from recmeta.workspace.privacy import make_private

# Before Feast, which else would have it share its values among all that run in this process.
with contextlib.suppress(ImportError):  # where there is the core alone, there is no endpoint
    import prometheus_client  # noqa: F401

# A million objects of libraries and of tests stay until the end: looking through them for cycles as
# often as Python does by default takes a fifth of the tests' processor time.
gc.set_threshold(50_000, 20, 20)

# A slow example is no fault; a run that is to be relied upon draws the same examples every time.
with contextlib.suppress(ImportError):  # the tests that need a GPU need no examples
    from hypothesis import settings

    settings.register_profile("recmeta", deadline=None, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("recmeta")


def pytest_configure() -> None:
    """Let PyTorch use one thread, so that test processes side by side do not fight for cores.

    They must pass with any number: `make test-numerics` runs those that compare floats with others.
    """
    import torch  # once the collector looks around less

    torch.set_num_threads(int(os.environ.get("RECMETA_TEST_THREADS", "1")))


def pytest_collection_finish() -> None:
    """Take what is imported by now out of the collector's sight."""
    gc.freeze()


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
