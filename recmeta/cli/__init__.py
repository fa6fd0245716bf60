"""The command line: one command per step, named as the steps are."""

import os


def main() -> None:
    """Run the command line and exit with its code: 0, 1, 2, 3 or 130."""
    from recmeta.cli.app import build

    # Threads that spin while they wait made training fifty times slower on a busy machine, and no
    # faster on an idle one. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    build()(prog_name="recmeta")
