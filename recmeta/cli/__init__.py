"""The command line: one command per step, named as the steps are."""

import os
import sys


def main() -> None:
    """Run the command line and exit with its code: 0, 1, 2, 3, 4 or 130."""
    from recmeta import extras

    try:
        with extras.explained():
            from recmeta.cli.app import build
    except extras.MissingExtraError as error:
        sys.exit(_told(error))
    # Threads that spin while they wait made training fifty times slower on a busy machine, and no
    # faster on an idle one. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    build()(prog_name="recmeta")


def _told(error: ImportError) -> int:
    """Say what the command line itself is missing, without it; return the exit code."""
    sys.stderr.write(f"error: {error}\n")
    return 2
