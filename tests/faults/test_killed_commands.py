"""Commands that are killed at any moment: the same command goes on, and nothing of a person is left
in a folder for temporary files."""

import random
import time
from pathlib import Path

import contest
import pytest
from contest import Place, Running
from counting import ALL, Faults

NAMES = ("ingest", "run", "score", "forget") if ALL else ("ingest", "forget")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of logs, and a workspace `base`; the sample needs no model in it."""
    folder = tmp_path_factory.mktemp("killed")
    contest.write_logs(folder)
    contest.prepare(folder, Place(str(folder / "base")), with_models=ALL)
    return folder


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_goes_on_and_leaves_nothing_of_a_person(
    name: str, logs: Path, tmp_path: Path, faults: Faults
) -> None:
    arguments = contest.commands(logs)[name]
    place = contest.copied_on_disk(logs / "base", logs / f"whole-{name}")
    started = time.monotonic()
    assert not contest.in_turn([arguments], place)
    seconds = time.monotonic() - started
    whole = contest.state(place)
    number = faults.number(1, 8)
    for kill in range(number):
        copy = contest.copied_on_disk(logs / "base", logs / f"killed-{name}-{kill}")
        place = Place(copy.location, {"TMPDIR": str(tmp_path)})
        victim = Running(arguments, place)
        # Random, yet one in each part of the run, so that early and late moments are both hit.
        time.sleep(seconds * (kill + random.Random(kill).random()) / number)
        victim.kill()
        faults.inject("a command is killed at a random moment (SIGKILL)")
        for failed in contest.in_turn([arguments], place):
            faults.check(False, f"{name}, kill {kill}: {failed}")
        different = contest.differences(contest.state(place), [whole])
        faults.check(not different, f"{name}, kill {kill}: different in {different}")
        left = [*tmp_path.iterdir(), *Path(copy.location).glob(".tmp/*")]
        faults.check(not left, f"{name}, kill {kill}: left behind: {left}")
        running = contest.running_runs(place)
        faults.check(not running, f"{name}, kill {kill}: MLflow runs are RUNNING: {running}")
