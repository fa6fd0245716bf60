"""Measurements in processes of their own, so that each has exactly the stated number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from recmeta.errors import UserError

ROOT = Path(__file__).parents[2]
"""The checkout, which need not be installed."""


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that finds the checkout, wherever it is started from.

    Args:
        threads: the number of threads of PyTorch, OpenMP, BLAS and Polars. Idle threads sleep,
            because they would otherwise disturb the others.
    """
    number, known = str(threads), os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([known] if known else [])]),
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "POLARS_MAX_THREADS": number,
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def measure_alone(module: str, arguments: dict[str, Any], *, threads: int) -> Any:
    """Return what `measure(**arguments)` of a module returns in a new process.

    Args:
        module: the full name of a module whose `measure` takes and returns JSON-ready values.
        threads: the number of threads of PyTorch, OpenMP and BLAS.

    Raises:
        UserError: if the process fails. The message has its last lines.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.processes", module],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        env=environment(threads),
        check=False,
    )
    if done.returncode:
        reason = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise UserError(f"the measurement {module} {arguments} failed:\n{reason}")
    return json.loads(done.stdout.splitlines()[-1])


def drive(module: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the results of a load generator, which runs on one thread in a process of its own.

    Args:
        module: the full name of a module that reads settings from standard input, as JSON, and
            writes its results.

    Raises:
        UserError: if the process fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        env=environment(1),
        check=False,
    )
    if done.returncode:
        raise UserError(f"the load generator {module} failed:\n{done.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _main() -> None:
    import importlib

    module = importlib.import_module(sys.argv[1])
    if torch := sys.modules.get("torch"):  # if it is not needed, it would only take memory
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = module.measure(**json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    _main()
