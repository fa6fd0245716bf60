"""The command line: one command per step, named as the steps are."""


def main() -> None:
    """Run the command line and exit with its code: 0, 1, 2, 3 or 130."""
    from recmeta.cli.app import build

    build()(prog_name="recmeta")
