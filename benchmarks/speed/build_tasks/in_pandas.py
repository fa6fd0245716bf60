"""The same tasks in pandas: the whole log in one frame, vectorised, and no item statistics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable

from benchmarks.speed.build_tasks.built import splits_of, write_split
from recmeta import schema
from recmeta.tasks.arrays import offsets_of
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import SPLITS
from recmeta.workspace import Workspace

COLUMNS = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.VALUE]


def build(workspace: Workspace, folder: Path) -> dict[str, float]:
    """Write the temporal tasks of a log of ratings into a folder."""
    config = SplitConfig()
    table = DeltaTable(workspace.table_uri(schema.INTERACTIONS))
    log = table.to_pandas(columns=[*COLUMNS, schema.EVENT], filters=[(schema.EVENT, "=", "rating")])
    user, user_id = pd.factorize(log[schema.USER_ID], sort=True)
    item, _ = pd.factorize(log[schema.ITEM_ID], sort=True)
    rows = pd.DataFrame(
        {
            "user": user.astype(np.int32),
            "item": item.astype(np.int32),
            "time": log[schema.TIMESTAMP].to_numpy(),
            "value": log[schema.VALUE].to_numpy().astype(np.float32),
        }
    )
    del log, user, item
    rows = rows.sort_values(["user", "time", "item"], ignore_index=True)
    rows = rows.drop_duplicates(["user", "item"], ignore_index=True)
    by_user = rows.groupby("user", sort=False)
    position = by_user.cumcount().to_numpy()
    num_rows = by_user["item"].transform("size").to_numpy()
    num_query = np.minimum(config.query_size, (num_rows + 1) // 2)
    num_support = np.minimum(config.support_size, num_rows - num_query)
    split = splits_of(pa.array(user_id, pa.string()), config, seed=0)
    row_split = split[rows["user"].to_numpy()]
    kept = (num_rows >= config.min_interactions) & (
        (row_split == "train") | (position < num_support + config.query_size)
    )
    is_query = position >= num_support
    for name in SPLITS:
        mine = kept & (row_split == name)
        write_split(folder, name, _tasks(rows[mine], is_query[mine], user_id))
    return {}


def _tasks(rows: pd.DataFrame, is_query: np.ndarray, user_id: pd.Index) -> pa.Table:
    """Return the tasks of rows that are sorted by user and time."""
    user = rows["user"].to_numpy()
    users = rows["user"].unique()
    columns: dict[str, pa.Array] = {schema.USER_ID: pa.array(user_id[users], pa.string())}
    sides = (
        (schema.SUPPORT_ITEM, schema.SUPPORT_VALUE, ~is_query),
        (schema.QUERY_ITEM, schema.QUERY_VALUE, is_query),
    )
    for item_name, value_name, chosen in sides:
        lengths = np.bincount(np.searchsorted(users, user[chosen]), minlength=len(users))
        offsets = pa.array(offsets_of(lengths), pa.int32())
        for name, column in ((item_name, "item"), (value_name, "value")):
            values = pa.array(rows[column].to_numpy()[chosen])
            columns[name] = pa.ListArray.from_arrays(offsets, values)
    return pa.table(columns)
