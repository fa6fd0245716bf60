"""Commands that are killed at any moment: the same command goes on, and nothing of a person is left
in a folder for temporary files."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contest
import pytest
from contest import Place
from counting import ALL, Faults

NAMES = ("ingest", "run", "score", "forget") if ALL else ("ingest", "forget")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of logs, and a workspace `base`; the sample needs no model in it."""
    folder = tmp_path_factory.mktemp("killed")
    contest.write_logs(folder)
    start = contest.CONTEXT.Process(
        target=contest.prepare,
        args=(folder, Place(str(folder / "base"))),
        kwargs={"with_models": ALL},
    )
    start.start()
    start.join()
    assert start.exitcode == 0
    return folder


@pytest.fixture(scope="module")
def undisturbed(logs: Path) -> Callable[[str], tuple[dict[str, Any], float]]:
    """What a command leaves that nobody kills, and the seconds that it takes."""
    found = {}
    for name in NAMES:
        place = contest.copied_on_disk(logs / "base", logs / "whole")
        started = time.monotonic()
        assert not contest.at_once([contest.commands(logs)[name]], place, None, logs)
        found[name] = contest.state(place), time.monotonic() - started
    return found.__getitem__


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_goes_on_and_leaves_nothing_of_a_person(
    name: str,
    logs: Path,
    undisturbed: Callable[[str], tuple[dict[str, Any], float]],
    tmp_path: Path,
    faults: Faults,
) -> None:
    whole, seconds = undisturbed(name)
    number = faults.number(1, 25)
    for kill in range(number):
        copy = contest.copied_on_disk(logs / "base", logs / "killed")
        place = Place(copy.location, {"TMPDIR": str(tmp_path)})
        arguments = contest.commands(logs)[name]
        process = contest.start(arguments, place, logs / "report")
        # Random, yet one in each part of the run, so that early and late moments are both hit.
        time.sleep(seconds * (kill + random.Random(kill).random()) / number)
        process.kill()
        process.join()
        faults.inject("a command is killed at a random moment (SIGKILL)")
        for failed in contest.at_once([arguments], place, None, logs):
            faults.check(False, failed)
        different = contest.differences(contest.state(place), [whole])
        faults.check(not different, f"{name}, kill {kill}: different in {different}")
        left = [*tmp_path.iterdir(), *Path(copy.location).glob(".tmp/*")]
        faults.check(not left, f"{name}, kill {kill}: left behind: {left}")
        running = contest.running_runs(place)
        faults.check(not running, f"{name}, kill {kill}: MLflow runs are RUNNING: {running}")
    assert os.environ.get("TMPDIR") != str(tmp_path)
