"""Commands are found by their files, and listed in the order of the flow."""

from recmeta.cli.app import COMMANDS, build, in_order
from recmeta.cli.command import Command
from recmeta.cli.output import Outcome
from recmeta.steps.learning import register
from recmeta.steps.upkeep import verify


def nothing() -> Outcome:
    """Do nothing."""
    return Outcome(data={}, text="")


def listed_after(name: str | None) -> Command:
    return Command(nothing, examples="recmeta nothing", after=name)


def test_every_command_says_what_it_does_and_shows_an_example() -> None:
    for name, command in COMMANDS.items():
        assert command.function.__doc__, name
        examples = command.examples.strip().split("\n\n")
        assert all(example.startswith("recmeta ") for example in examples), name


def test_the_steps_that_can_be_done_again_are_steps() -> None:
    known = {*verify.STEPS, register.STEP}
    named = {step for command in COMMANDS.values() for step in command.steps}
    assert named <= known
    assert known - named == {"new-users", "drift"}, "which the DAGs do"


def test_a_command_stands_after_the_one_that_it_names() -> None:
    commands = {
        "score": listed_after("adapt"),
        "adapt": listed_after("ingest"),
        "audit": listed_after("ingest"),
        "ingest": listed_after(None),
        "of-others": listed_after("what is not installed"),
    }
    assert in_order(commands) == ["ingest", "adapt", "score", "audit", "of-others"]


def test_the_flow_is_listed_first_and_groups_last() -> None:
    names = [command.name for command in build().registered_commands]
    assert names[:3] == ["ingest", "materialise-features", "build-tasks"]
    assert [group.name for group in build().registered_groups] == ["data", "features"]
