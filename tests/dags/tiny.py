"""A workspace small enough to run whole DAGs on: a synthetic log, its last days as partitions."""

import dataclasses
import datetime
import json
from pathlib import Path

from recmeta.config import to_dict
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.split_by_day import split_by_day
from recmeta.steps.data import ingest
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace

CONFIG = """
[train.model]
algorithm = "bayesian-linear"

[train.training]
epochs = 3

[evaluate]
baselines = ["global-mean", "item-mean"]

[evaluate.gate]
min_users = 5
num_resamples = 200
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiny:
    """The files of one tiny deployment."""

    workspace: Path
    mapping: Path
    """Of the daily partitions."""
    config: Path
    days: list[datetime.date]
    """The days that have a partition; what is older is ingested already."""

    @property
    def env(self) -> dict[str, str]:
        """The settings that the DAGs read."""
        return {
            "RECMETA_WORKSPACE": str(self.workspace),
            "RECMETA_MAPPING": str(self.mapping),
            "RECMETA_CONFIG": str(self.config),
            "RECMETA_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }


def whole_log(folder: Path) -> LogMapping:
    """Write a synthetic log as CSV files and return its mapping."""
    write_csv(
        generate(SyntheticConfig(num_users=150, num_items=60, rows_per_user=(8, 20)), 0), folder
    )
    categorical, numeric = Attribute(kind="categorical"), Attribute(kind="numeric")
    return LogMapping(
        path=str(folder / "interactions.csv"),
        time_col="timestamp",
        value_col="value",
        users=AttributeSource(
            path=str(folder / "users.csv"),
            id_col="user_id",
            columns={"group": categorical, "age": numeric},
        ),
        items=AttributeSource(
            path=str(folder / "items.csv"),
            id_col="item_id",
            columns={"genre": categorical, "tags": Attribute(kind="multi"), "length": numeric},
        ),
    )


def make(root: Path) -> Tiny:
    """Write a tiny deployment."""
    split = split_by_day(whole_log(root / "raw"), str(root / "days"), num_days=5)
    assert split.history is not None
    ingest.run(split.history, Workspace(root / "workspace"))
    (root / "mapping.json").write_text(json.dumps(to_dict(split.daily)))
    (root / "config.toml").write_text(CONFIG)
    return Tiny(
        workspace=root / "workspace",
        mapping=root / "mapping.json",
        config=root / "config.toml",
        days=split.days,
    )
