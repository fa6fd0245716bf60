"""Lists and reports are the same whoever makes them, and whoever of them is killed on the way."""

import dataclasses
import datetime
import functools
import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from recmeta import schema
from recmeta.engine.config import HERE, EngineConfig, EngineName
from recmeta.evaluation.evaluate import EvaluationConfig
from recmeta.logs.mapping import LogMapping
from recmeta.manifest import redoing
from recmeta.recipes import default
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.learning import evaluate
from recmeta.steps.serving import adapt, score

if TYPE_CHECKING:
    from trained import Trained

pytestmark = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="set RECMETA_SLOW=1")
with_ray = pytest.param(
    "ray",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed"
    ),
)
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Killed:
    """A worker that is killed before its first unit, once."""

    def __init__(self, mark: str, make: Callable[[], Any]) -> None:
        self.mark, self.function = Path(mark), make()

    def __call__(self, key: Any) -> Any:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.function(key)


@pytest.mark.parametrize("engine", ["local", with_ray])
def test_the_tables_are_byte_for_byte_the_same(
    trained: "Trained", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    monkeypatch.setattr(adapt, "USERS_PER_SHARD", 20)
    rows = [f"n{n % 61:02d},i{n % 41:02d},{1 + n % 5}" for n in range(400)]

    def lists(name: str, config: EngineConfig) -> tuple[pl.DataFrame, list[bytes]]:
        path = tmp_path / f"{name}.csv"
        path.write_text("user_id,item_id,value\n" + "\n".join(rows) + "\n" * len(name))
        mapping = LogMapping(path=str(path), value_col="value")
        states = adapt.run(mapping, trained.workspace, device="cpu", engine=config)
        assert not states.reused
        assert states.outputs.num_shards == 4
        folder = trained.workspace / states.outputs.states
        made = score.run(
            ScoringConfig(), trained.workspace, states, device="cpu", now=NOW, engine=config
        )
        assert not made.reused
        table = pl.read_delta(trained.workspace.table_uri(schema.RECOMMENDATIONS))
        own = table.filter(pl.col(schema.RUN) == made.outputs.run).drop(schema.RUN)
        assert own.height == 61 * 10
        files = [folder.read_bytes(f"shard-{n:05d}.safetensors") for n in range(4)]
        return own.sort(schema.USER_ID, schema.RANK), files

    expected, expected_states = lists("here", HERE)
    config = EngineConfig(engine=engine, workers=2)
    found, states = lists("beside", config)
    assert found.equals(expected)
    assert states == expected_states
    run = score.engines.run

    def killing(make: Callable[[], Any], keys: Any, config: EngineConfig) -> Any:
        return run(functools.partial(Killed, str(tmp_path / "killed"), make), keys, config)

    monkeypatch.setattr(score.engines, "run", killing)
    after, states = lists("although killed", dataclasses.replace(config, workers=2))
    assert (tmp_path / "killed").exists()
    assert after.equals(expected)
    assert states == expected_states


@pytest.mark.parametrize("engine", ["local", with_ray])
def test_the_report_is_byte_for_byte_the_same(
    trained: "Trained", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    judged = dataclasses.replace(
        default().evaluate,
        evaluation=EvaluationConfig(batch_size=4, num_resamples=200, shots=(0, 2)),
    )

    def report(config: EngineConfig) -> dict[str, bytes]:
        with redoing(["evaluate"], ["evaluate"]):
            made = evaluate.run(
                judged, trained.workspace, trained.tasks, trained.model, device="cpu", engine=config
            )
        assert not made.reused
        folder = trained.workspace / made.outputs.report
        names = ("evaluation.json", "per_user.parquet", "decision.json", "report.md")
        return {name: folder.read_bytes(name) for name in names}

    expected = report(HERE)
    config = EngineConfig(engine=engine, workers=2)
    assert report(config) == expected
    run = evaluate.engines.run

    def killing(make: Callable[[], Any], keys: Any, config: EngineConfig) -> Any:
        return run(functools.partial(Killed, str(tmp_path / "killed"), make), keys, config)

    monkeypatch.setattr(evaluate.engines, "run", killing)
    assert report(config) == expected
    assert (tmp_path / "killed").exists()
