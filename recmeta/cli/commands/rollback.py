"""rollback: the previous champion again."""

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list


def rollback(common: CommonOptions) -> Outcome:
    """Make the previous champion the champion again; a second rollback undoes the first."""
    from recmeta.registry.models import versions
    from recmeta.workspace import Workspace

    old, new = versions.rollback(Workspace(common.workspace))
    data = {"champion": new, "previous": old}
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(rollback, examples="recmeta rollback", after="run")
