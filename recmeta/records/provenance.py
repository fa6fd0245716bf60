"""The versions of the code that made a result: of Python, of libraries and of the checkout."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("recmeta", "torch", "numpy", "pyarrow", "polars", "deltalake", "mlflow")


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed dependencies."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Return the commit of the checkout that recmeta runs from, or None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(  # nosec B603  # a list of constants, no shell
            command, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
