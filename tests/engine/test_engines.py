"""Every engine gives the results in order, and what was lost on the way once more.

Those of Ray need it: `pip install 'recmeta[ray]'`.
"""

import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from units import Dying, Refusing, Squares, Unmade, Unreadable

from recmeta.engine.config import EngineConfig, EngineName
from recmeta.engine.run import run
from recmeta.errors import UserError
from recmeta.extras import MissingExtraError

with_ray = pytest.param(
    "ray",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed"
    ),
)
engines = pytest.mark.parametrize("engine", ["local", with_ray], indirect=True)


@pytest.fixture(scope="session")
def _one_ray() -> Iterator[None]:
    """Start one Ray for all tests: that takes longer than they do."""
    import ray

    path = os.pathsep.join(path for path in sys.path if path)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> EngineName:
    if request.param == "ray":
        request.getfixturevalue("_one_ray")
    return request.param


@engines
def test_results_come_in_the_order_of_the_keys(engine: EngineName) -> None:
    expected = [key * key for key in range(20)]
    assert list(run(Squares, range(20))) == expected
    config = EngineConfig(engine=engine, workers=2)
    assert list(run(Squares, range(20), config)) == expected
    assert list(run(Squares, [], config)) == []


@engines
def test_few_keys_are_read_ahead(engine: EngineName) -> None:
    """However many units there are, those of a few are in memory."""
    read = []

    def keys() -> Iterator[int]:
        for key in range(100):
            read.append(key)
            yield key

    results = run(Squares, keys(), EngineConfig(engine=engine, workers=2))
    assert next(results) == 0
    assert len(read) <= 4
    results.close()


@engines
def test_a_lost_workers_units_are_done_again(engine: EngineName, tmp_path: Path) -> None:
    make = functools.partial(Dying, str(tmp_path / "died"), 5)
    config = EngineConfig(engine=engine, workers=2)
    assert list(run(make, range(12), config)) == [-key for key in range(12)]
    assert (tmp_path / "died").exists()


@engines
def test_what_is_lost_again_and_again_is_given_up(engine: EngineName, tmp_path: Path) -> None:
    make = functools.partial(Dying, str(tmp_path / "died"), 1, always=True)
    with pytest.raises(UserError, match="a worker ended 4 times"):
        list(run(make, range(3), EngineConfig(engine=engine, workers=2)))


def test_a_worker_that_is_killed_while_it_reads_what_it_holds_is_given_up() -> None:
    with pytest.raises(UserError, match="a worker ended 4 times"):
        list(run(Unreadable(), range(3), EngineConfig(workers=2)))


def test_why_a_worker_could_not_be_made_is_said_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^there is no such model\.$"):
        list(run(Unmade, range(3), EngineConfig(workers=2)))


@engines
def test_what_a_unit_refuses_is_said_as_it_is(engine: EngineName) -> None:
    results = run(Refusing, range(6), EngineConfig(engine=engine, workers=2))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match=r"^three is not to be had: ask for four\.$"):
        next(results)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"ray is not installed.*pip install 'recmeta"):
        list(run(Squares, range(3), EngineConfig(engine="ray", workers=2)))


@pytest.mark.parametrize(("name", "workers"), [("spark", 1), ("local", 0)])
def test_what_is_no_engine_is_refused(name: str, workers: int) -> None:
    with pytest.raises(UserError, match=r"engine is 'spark'|workers is 0"):
        EngineConfig(engine=name, workers=workers)
