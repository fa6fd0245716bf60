"""Who did something and with which code, for audits."""

import getpass
import os
import subprocess
from pathlib import Path

import recmeta


def actor() -> str:
    """Return who runs this process: the run of an Airflow DAG if there is one, otherwise the user's
    name.

    Airflow gives the run to its tasks through the environment; `MLFLOW_TRACKING_USERNAME` names the
    user of a tracking server.
    """
    dag, run = (os.environ.get(f"AIRFLOW_CTX_{name}") for name in ("DAG_ID", "DAG_RUN_ID"))
    if dag and run:
        return f"Airflow DAG {dag}, run {run}"
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user:
        return user
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may give its user no name
        return "unknown"


def uncommitted_changes() -> bool | None:
    """Return whether recmeta's own files differ from the commit; None outside a checkout, or if git
    does not answer."""
    package = Path(recmeta.__file__).parent
    command = ["git", "-C", str(package), "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(  # nosec B603  # a list of constants, no shell
            command, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(done.stdout.strip()) if done.returncode == 0 else None
