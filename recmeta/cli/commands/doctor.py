"""doctor: is the installation sound?"""

import dataclasses
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.exits import USERS
from recmeta.cli.options import (
    CommonOptions,
)
from recmeta.cli.output import Outcome


def doctor(
    common: CommonOptions,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read every file of the workspace and check its digest."),
    ] = False,
) -> Outcome:
    """Check the installation, the GPU and the stores, and say how to fix what is wrong.

    Exit code 2: something must be fixed.
    """
    from recmeta.doctor import examine

    checks = examine(common.workspace, verify=verify)
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"    {check.status:<4}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"    {'':<4}  {'':<{width}}  -> {check.remedy}")
    failed = [check.name for check in checks if check.status == "fail"]
    return Outcome(
        data={"ok": not failed, "checks": [dataclasses.asdict(check) for check in checks]},
        text="\n".join(lines),
        note=f"To be fixed: {', '.join(failed)}." if failed else "",
        exit_code=USERS if failed else 0,
    )


COMMAND = Command(
    doctor,
    examples="""
recmeta doctor

recmeta doctor --verify --json
""",
    after="report",
)
