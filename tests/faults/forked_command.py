"""A command of recmeta in a process that was forked, not started: a terminal's command without the
seconds that it imports for."""

import atexit
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import recmeta

IMPORTED = [
    *("alembic.command", "deltalake.fs", "IPython.display", "matplotlib.backends.backend_agg"),
    *("matplotlib.pyplot", "mlflow.pyfunc", "mlflow.store.model_registry.sqlalchemy_store"),
    *("mlflow.store.tracking.sqlalchemy_store", "pytest", "recmeta.pipeline", "rich.console"),
    *("rich.table", "torch._dynamo", "torch.onnx"),
    *(
        found.name
        for package in ("api", "cli", "evaluation", "logs", "registry", "reporting", "steps")
        for found in pkgutil.walk_packages(
            [f"{recmeta.__path__[0]}/{package}"], f"recmeta.{package}."
        )
        if not found.name.endswith("__main__")
    ),
]
"""Modules that the process imports which the others are forked from."""
HARMLESS = {"jemalloc_bg_thd", "polars-ooc-clea"}
"""Threads that libraries start when they are imported, to give memory back and to delete what was
spilled. They hold nothing that a forked process would miss."""
WAIT = ["--wait", "600", "--json"]


def perform(
    arguments: Sequence[str],
    location: str,
    environment: Mapping[str, str],
    printed: str,
    at: float,
) -> None:
    """Do a command with `recmeta.cli.main`, as the program `recmeta` does, and end this process.

    Args:
        location: of the workspace.
        printed: a file for what the command prints.
        at: when it begins, as a `time.time()`.
    """
    import mlflow.utils.environment
    import torch

    from recmeta.cli import main
    from recmeta.reporting import plots

    server = os.getppid()
    tasks = [path for path in Path(f"/proc/{server}/task").glob("*") if path.name != str(server)]
    threads = {(path / "comm").read_text().strip() for path in tasks}
    assert threads <= HARMLESS, f"a fork loses the threads {threads - HARMLESS}"
    torch.set_num_threads(1)
    # Drawing was a quarter of the command `run`, and a third of it was MLflow's look at everything
    # that is installed, in order to warn of libraries of another version.
    plots.DOTS_PER_INCH = 20
    mlflow.utils.environment.warn_dependency_requirement_mismatches = lambda _: None
    os.environ.update(environment, RECMETA_WORKSPACE=location)
    tempfile.tempdir = None  # so that TMPDIR is looked at again
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(printed, os.O_WRONLY | os.O_APPEND), number)
        vars(sys)[name] = os.fdopen(number, "w", closefd=False)
    sys.argv = ["recmeta", *arguments, *WAIT]
    time.sleep(max(0.0, at - time.time()))
    try:
        main()
    finally:  # multiprocessing ends its processes without
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
