"""Commands that write to one workspace at once leave what they leave one after the other."""

import functools
import itertools
import os
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
TIMES = int(os.environ.get("RECMETA_CONTEST_TIMES", "1"))
"""How often each pair competes with `make faults`."""
Copied = Callable[[str], Place]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of logs."""
    folder = tmp_path_factory.mktemp("contest")
    contest.write_logs(folder)
    return folder


@pytest.fixture(scope="module")
def on_disk(logs: Path) -> Copied:
    """Copies by name of a workspace on a local disk; the sample needs no model in it."""
    _prepare(logs, Place(str(logs / "base")))
    return lambda name: contest.copied_on_disk(logs / "base", logs / name)


@pytest.fixture(scope="module")
def in_bucket(logs: Path) -> Iterator[Copied]:
    """Copies by name of a workspace on an S3 server."""
    with object_store() as address:
        store = logs / "mlflow"
        _prepare(logs, contest.in_bucket(address, store, "base"))
        yield lambda name: contest.copied_in_bucket(address, store, "base", name)


def _prepare(logs: Path, place: Place) -> None:
    process = contest.CONTEXT.Process(
        target=contest.prepare, args=(logs, place), kwargs={"with_models": ALL}
    )
    process.start()
    process.join()
    assert process.exitcode == 0


@functools.cache
def in_order(logs: Path, copied: Copied, *names: str) -> dict[str, Any]:
    """Return what two commands leave one after the other, each order done once."""
    place = copied("ordered")
    several = [contest.commands(logs)[name] for name in names]
    assert not contest.at_once(several, place, None, logs)
    return contest.state(place)


def compete(logs: Path, copied: Copied, pair: tuple[str, str], faults: Faults, where: str) -> None:
    """Let two commands write at the same time, and compare what they leave."""
    orders = [in_order(logs, copied, *pair), in_order(logs, copied, *reversed(pair))]
    for seed in range(faults.number(1, TIMES)):
        place = copied("at-once")
        faults.inject(f"two commands write to a workspace {where} at once")
        several = [contest.commands(logs)[name] for name in pair]
        for failed in contest.at_once(several, place, seed, logs):
            faults.check(False, failed)
        different = contest.differences(contest.state(place), orders)
        faults.check(not different, f"{pair}, seed {seed}: different in {different}")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS if ALL else SAMPLE, ids=" and ".join)
def test_two_commands_at_once_are_two_commands_in_some_order(
    logs: Path, on_disk: Copied, pair: tuple[str, str], faults: Faults
) -> None:
    compete(logs, on_disk, pair, faults, "on a local disk")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS if ALL else SAMPLE[:1], ids=" and ".join)
def test_two_commands_at_once_in_an_object_store(
    logs: Path, in_bucket: Copied, pair: tuple[str, str], faults: Faults
) -> None:
    compete(logs, in_bucket, pair, faults, "in an object store")
