"""The same tasks in DuckDB: one query, streamed out by split, and no item statistics."""

import os
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from benchmarks.speed.build_tasks.built import splits_of, write_split
from recmeta import schema
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import SPLITS
from recmeta.workspace import Workspace

MEMORY_LIMIT = "8GiB"
"""More than this DuckDB puts on disk."""
PLACED = """
CREATE TEMP TABLE placed AS
WITH item AS (
    SELECT item_id, (row_number() OVER (ORDER BY item_id) - 1)::INTEGER AS item
    FROM (SELECT DISTINCT item_id FROM log)
), met AS (
    SELECT user, item, min(timestamp) AS time, arg_min(value, timestamp)::FLOAT AS value
    FROM log JOIN users USING (user_id) JOIN item USING (item_id)
    GROUP BY user, item
), ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY user ORDER BY time, item) - 1 AS position,
        count(*) OVER (PARTITION BY user) AS num_rows
    FROM met
), sized AS (
    SELECT *,
        least($support_size, num_rows - least($query_size, (num_rows + 1) // 2)) AS num_support
    FROM ranked
    WHERE num_rows >= $min_interactions
)
SELECT user, split, item, value, position, position >= num_support AS is_query
FROM sized JOIN users USING (user)
WHERE split = 'train' OR position < num_support + $query_size
"""
TASKS = """
SELECT any_value(user_id) AS user_id,
    coalesce(list(item ORDER BY position) FILTER (NOT is_query), []) AS support_item,
    coalesce(list(value ORDER BY position) FILTER (NOT is_query), []) AS support_value,
    list(item ORDER BY position) FILTER (is_query) AS query_item,
    list(value ORDER BY position) FILTER (is_query) AS query_value
FROM placed JOIN users USING (user, split)
WHERE split = $split
GROUP BY user
ORDER BY user
"""


def build(workspace: Workspace, folder: Path) -> dict[str, float]:
    """Write the temporal tasks of a log of ratings into a folder."""
    config = SplitConfig()
    files = DeltaTable(workspace.table_uri(schema.INTERACTIONS)).file_uris()
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"SET temp_directory = '{spill}'")
        connection.execute(f"SET threads = {os.environ['OMP_NUM_THREADS']}")
        connection.execute("SET preserve_insertion_order = false")
        log = connection.read_parquet(files).filter("event = 'rating'")
        log.create_view("log")
        found = connection.sql("SELECT DISTINCT user_id FROM log ORDER BY user_id")
        user_id = found.to_arrow_table()[schema.USER_ID].combine_chunks()
        users = pa.table(
            {
                "user": pa.array(range(len(user_id)), pa.int32()),
                schema.USER_ID: user_id,
                schema.SPLIT: pa.array(splits_of(user_id, config, seed=0)),
            }
        )
        connection.register("users", users)
        connection.execute(
            PLACED,
            {
                "support_size": config.support_size,
                "query_size": config.query_size,
                "min_interactions": config.min_interactions,
            },
        )
        for name in SPLITS:
            tasks = connection.sql(TASKS, params={"split": name})
            write_split(folder, name, tasks.to_arrow_reader(50_000))
    return {}
