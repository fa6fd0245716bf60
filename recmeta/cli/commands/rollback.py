"""rollback: the previous champion again."""

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list


def rollback(common: CommonOptions) -> Outcome:
    """Make the previous champion the champion again; a second rollback undoes the first."""
    from recmeta.registry.models import versions

    old, new = versions.rollback(common.open_workspace())
    data = {"champion": new, "previous": old}
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(rollback, examples="recmeta rollback", after="run")
