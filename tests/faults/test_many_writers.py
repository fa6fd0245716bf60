"""Commands that write to one workspace at once leave what they leave one after the other."""

import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contest
import pytest
from counting import ALL, Faults

NAMES = (
    *("ingest", "ingest another", "build-tasks", "run", "score"),
    *("forget", "rollback", "maintenance"),
)
PAIRS = list(itertools.combinations_with_replacement(NAMES, 2))
SAMPLE = [("ingest", "ingest another"), ("ingest", "forget")]
"""The pairs that once lost rows, or had them twice."""
TIMES = int(os.environ.get("RECMETA_CONTEST_TIMES", "2"))
"""How often each pair competes with `make faults`."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of logs, and a workspace; the commands of the sample need no model in it."""
    folder = tmp_path_factory.mktemp("contest")
    contest.write_logs(folder)
    process = contest.CONTEXT.Process(
        target=contest.prepare, args=(folder, str(folder / "base")), kwargs={"with_models": ALL}
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    return folder, folder / "base"


@pytest.fixture(scope="module")
def in_order(prepared: tuple[Path, Path]) -> Callable[..., dict[str, Any]]:
    """What two commands leave one after the other, each order done once."""
    folder, base = prepared

    @functools.cache
    def done(*names: str) -> dict[str, Any]:
        place = contest.copy_of_local(base, folder / "ordered")
        several = [contest.commands(folder)[name] for name in names]
        assert not contest.at_once(several, place, None, folder)
        return contest.state(place)

    return done


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS if ALL else SAMPLE, ids=" and ".join)
def test_two_commands_at_once_are_two_commands_in_some_order(
    pair: tuple[str, str],
    prepared: tuple[Path, Path],
    in_order: Callable[..., dict[str, Any]],
    faults: Faults,
) -> None:
    folder, base = prepared
    orders = [in_order(*pair), in_order(*reversed(pair))]
    for seed in range(faults.number(1, TIMES)):
        place = contest.copy_of_local(base, folder / "at-once")
        faults.inject("two commands write to a workspace on a local disk at once")
        several = [contest.commands(folder)[name] for name in pair]
        for failed in contest.at_once(several, place, seed, folder):
            faults.check(False, failed)
        different = contest.differences(contest.state(place), orders)
        faults.check(not different, f"{pair}, seed {seed}: different in {different}")
