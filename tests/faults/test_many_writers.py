"""Commands that write to one workspace at once leave what they leave one after the other."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import contest
import pytest
from contest import Place, Worker
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
Copied = Callable[[str], Place]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of logs."""
    folder = tmp_path_factory.mktemp("contest")
    contest.write_logs(folder)
    return folder


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """Two processes that do commands."""
    both = [Worker(), Worker()]
    for worker in both:
        worker.wait_until_ready()
    yield both
    for worker in both:
        worker.stop()


@pytest.fixture(scope="module")
def on_disk(logs: Path, workers: list[Worker]) -> Copied:
    """Copies by name of a workspace on a local disk; the sample needs no model in it."""
    contest.prepare(workers[0], logs, Place(str(logs / "base")), with_models=ALL)
    return lambda name: contest.copied_on_disk(logs / "base", logs / name)


@pytest.fixture(scope="module")
def in_bucket(logs: Path, workers: list[Worker]) -> Iterator[Copied]:
    """Copies by name of a workspace on an S3 server."""
    with object_store() as address:
        store = logs / "mlflow"
        base = contest.in_bucket(address, store, "base")
        contest.prepare(workers[0], logs, base, with_models=ALL)
        yield lambda name: contest.copied_in_bucket(address, store, "base", name)


def _name(pair: tuple[str, str]) -> str:
    return "-".join(pair).replace(" ", "-")


def compete(
    logs: Path,
    workers: list[Worker],
    copied: Copied,
    pair: tuple[str, str],
    faults: Faults,
    where: str,
) -> None:
    """Let two commands write at the same time, and compare with one after the other."""
    commands = contest.commands(logs)
    several = [commands[name] for name in pair]
    orders = []
    for order, names in enumerate({pair, pair[::-1], BETWEEN.get(pair, pair)}):
        place = copied(f"ordered-{order}-{_name(pair)}")
        assert not contest.in_turn(workers[0], [commands[name] for name in names], place)
        orders.append(contest.state(place))
    for seed in range(faults.number(1, TIMES)):
        place = copied(f"at-once-{seed}-{_name(pair)}")
        faults.inject(f"two commands write to a workspace {where} at once")
        for failed in contest.at_once(workers, several, place, seed):
            faults.check(False, f"{pair}, seed {seed}: {failed}")
        different = contest.differences(contest.state(place), orders)
        faults.check(not different, f"{pair}, seed {seed}: different in {different}")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS if ALL else SAMPLE, ids=" and ".join)
def test_two_commands_at_once_are_two_commands_in_some_order(
    logs: Path,
    workers: list[Worker],
    on_disk: Copied,
    pair: tuple[str, str],
    faults: Faults,
) -> None:
    compete(logs, workers, on_disk, pair, faults, "on a local disk")


@pytest.mark.skipif(not ALL, reason="RECMETA_FAULTS=1 runs it")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_commands_at_once_in_an_object_store(
    logs: Path,
    workers: list[Worker],
    in_bucket: Copied,
    pair: tuple[str, str],
    faults: Faults,
) -> None:
    compete(logs, workers, in_bucket, pair, faults, "in an object store")
