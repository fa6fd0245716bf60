"""The command line: one command per step, named as the steps are."""

import os
import sys


def main() -> None:
    """Run the command line and exit with its code: see `recmeta.cli.exits`."""
    from recmeta.cli import process

    sys.exit(process.run(work, sys.argv[1:]))


def work() -> int:
    """Do what the command line asks for, in this process; return the exit code."""
    from recmeta import extras

    try:
        with extras.explained():
            from recmeta.cli.app import build
        # Threads that spin while they wait made training fifty times slower on a busy machine, and
        # no faster on an idle one. OpenMP reads this when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        build()(prog_name="recmeta")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:  # before a command could take care of its own
        from recmeta.cli import exits

        return exits.end(*exits.of(error), json="--json" in sys.argv)
    return 0
