"""migrate: a workspace of an earlier version, brought up to date."""

import dataclasses

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome


def migrate(common: CommonOptions) -> Outcome:
    """Bring a workspace that an earlier version of recmeta made up to this one's format.

    Nothing else may go on in it meanwhile. Where nothing is to be done, nothing is done, so that it
    can stand before each start. The way back is the backup that was made before.
    """
    from recmeta.steps.upkeep import migrate as step

    done = step.run(common.open_workspace())
    said = list(done.changes) or [f"There is nothing to migrate: format {done.format}."]
    return Outcome(data=dataclasses.asdict(done), text="\n".join(said))


COMMAND = Command(
    migrate,
    examples="recmeta backup /backups/before && recmeta migrate",
    after="backup",
)
