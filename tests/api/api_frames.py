"""One small log in each library of frames."""

import functools
from collections.abc import Callable
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

import recmeta
from recmeta.testing.synthetic import SyntheticConfig, SyntheticLog, generate

KINDS: dict[str, Callable[[pa.Table], Any]] = {
    "pandas": lambda table: table.to_pandas(),
    "polars": lambda table: pl.DataFrame(pl.from_arrow(table)),
    "arrow": lambda table: table,
}
TYPES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table}
CONFIG = SyntheticConfig(num_users=160, num_items=40, rows_per_user=(6, 14))


@functools.cache
def log(objective: str = "rating") -> SyntheticLog:
    config = (
        CONFIG
        if objective == "rating"
        else SyntheticConfig(
            num_users=160, num_items=40, rows_per_user=(6, 14), objective="implicit"
        )
    )
    return generate(config, seed=3)


@functools.cache
def data(kind: str = "polars", objective: str = "rating") -> Any:
    """Return the log as a data set."""
    made = log(objective)
    make = KINDS[kind]
    return recmeta.Dataset.from_frame(
        make(made.interactions), items=make(made.items), users=make(made.users)
    )


@functools.cache
def model(kind: str = "polars", objective: str = "rating") -> Any:
    """Return a model of the log, quickly trained."""
    learner = "bayesian-linear" if objective == "rating" else "weighted-ridge"
    return recmeta.fit(data(kind, objective), learner=learner, epochs=2, progress=False)


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return a frame's rows, whatever its library."""
    if isinstance(frame, pd.DataFrame):
        return frame.to_dict("records")
    return frame.to_dicts() if isinstance(frame, pl.DataFrame) else frame.to_pylist()
