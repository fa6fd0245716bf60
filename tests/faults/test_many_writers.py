"""Commands that write to one workspace at once leave what they leave one after the other."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import contest
import pytest
from contest import Place
from counting import ALL, Faults
from object_store import object_store

NAMES = (
    *("ingest", "ingest another", "build-tasks", "run", "score"),
    *("forget", "rollback", "maintenance"),
)
PAIRS = list(itertools.combinations_with_replacement(NAMES, 2))
SAMPLE = [("ingest", "ingest another"), ("ingest", "forget")]
"""The pairs that once lost rows, or had them twice."""
BETWEEN = {("run", "score"): ("ingest", "score", "run")}
"""What else may come out: a `run` is its ingest and what follows, and `score` waits for neither."""
TIMES = int(os.environ.get("RECMETA_CONTEST_TIMES", "1"))
"""How often each pair competes with `make faults`."""
Copied = Callable[[], Place]
"""Returns a copy of the workspace that commands begin with; the copy before it is gone."""


class InOrder:
    """What commands leave one after the other, each order done once: copies on a local disk."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._done: dict[tuple[str, ...], tuple[Place, float]] = {
            (): (Place(str(logs / "base")), 0.0)
        }

    def state(self, names: tuple[str, ...]) -> tuple[dict[str, Any], float]:
        """Return the state after commands, and the seconds that the longest of them took."""
        place, seconds = self._after(names)
        return contest.state(place), seconds

    def _after(self, names: tuple[str, ...]) -> tuple[Place, float]:
        if names not in self._done:
            before, seconds = self._after(names[:-1])
            to = self._logs / "-then-".join(names).replace(" ", "-")
            place = contest.copied_on_disk(Path(before.location), to)
            started = time.monotonic()
            failed = contest.in_turn([contest.commands(self._logs)[names[-1]]], place)
            assert not failed, failed
            self._done[names] = place, max(seconds, time.monotonic() - started)
        return self._done[names]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of logs."""
    folder = tmp_path_factory.mktemp("contest")
    contest.write_logs(folder)
    return folder


@pytest.fixture(scope="module")
def on_disk(logs: Path) -> Copied:
    """Copies of a workspace on a local disk; the sample needs no model in it."""
    contest.prepare(logs, Place(str(logs / "base")), with_models=ALL)
    return lambda: contest.copied_on_disk(logs / "base", logs / "at-once")


@pytest.fixture(scope="module")
def in_bucket(logs: Path, on_disk: Copied) -> Iterator[Copied]:
    """Copies of the same workspace on an S3 server."""
    with object_store() as address:
        yield lambda: contest.copied_in_bucket(logs / "base", address, logs / "mlflow")


@pytest.fixture(scope="module")
def in_order(logs: Path, on_disk: Copied) -> InOrder:
    """What commands leave one after the other on a local disk, and the seconds of the longest."""
    return InOrder(logs)


def compete(
    logs: Path, copied: Copied, in_order: InOrder, pair: tuple[str, str], faults: Faults, where: str
) -> None:
    """Let two commands write at the same time, and compare with one after the other."""
    commands = contest.commands(logs)
    orders = [in_order.state(names) for names in {pair, pair[::-1], BETWEEN.get(pair, pair)}]
    states, seconds = [state for state, _ in orders], max(seconds for _, seconds in orders)
    for seed in range(faults.number(1, TIMES)):
        place = copied()
        faults.inject(f"two commands write to a workspace {where} at once")
        for failed in contest.at_once([commands[name] for name in pair], place, seed, seconds):
            faults.check(False, f"{pair}, seed {seed}: {failed}")
        different = contest.differences(contest.state(place), states)
        faults.check(not different, f"{pair}, seed {seed}: different in {different}")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS if ALL else SAMPLE, ids=" and ".join)
def test_two_commands_at_once_are_two_commands_in_some_order(
    logs: Path, on_disk: Copied, in_order: InOrder, pair: tuple[str, str], faults: Faults
) -> None:
    compete(logs, on_disk, in_order, pair, faults, "on a local disk")


@pytest.mark.skipif(not ALL, reason="RECMETA_FAULTS=1 runs it")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_commands_at_once_in_an_object_store(
    logs: Path, in_bucket: Copied, in_order: InOrder, pair: tuple[str, str], faults: Faults
) -> None:
    compete(logs, in_bucket, in_order, pair, faults, "in an object store")
