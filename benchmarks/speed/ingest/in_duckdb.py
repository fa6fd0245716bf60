"""The same checks in DuckDB; no text of a row that loses is kept, and no table's commit is made."""

import os
from pathlib import Path

import duckdb

MEMORY_LIMIT = "2GiB"
"""More than this DuckDB puts on disk."""
ROWS = """
CREATE VIEW rows AS
SELECT row_number() OVER () AS line, trim(user_id::VARCHAR) AS user_id,
    trim(item_id::VARCHAR) AS item_id, to_timestamp(TRY_CAST(timestamp AS BIGINT)) AS timestamp,
    TRY_CAST(rating AS DOUBLE) AS rating
FROM {source}
"""
IS_GOOD = """coalesce(user_id <> '' AND item_id <> '' AND timestamp IS NOT NULL
    AND rating BETWEEN 1 AND 5, false)"""
BAD = f"COPY (SELECT * FROM rows WHERE NOT ({IS_GOOD})) TO '{{path}}' (FORMAT parquet)"
ACCEPTED = f"""
COPY (
    SELECT user_id, item_id, timestamp, arg_max(rating, last) AS rating, sum(num) AS num,
        arg_max(num, last) AS alike
    FROM (
        SELECT user_id, item_id, timestamp, rating, count(*) AS num, max(line) AS last
        FROM rows WHERE {IS_GOOD} GROUP BY ALL
    )
    GROUP BY user_id, item_id, timestamp ORDER BY user_id, item_id, timestamp
) TO '{{path}}' (FORMAT parquet, COMPRESSION zstd)
"""


def build(path: Path, folder: Path) -> dict[str, int]:
    """Write the accepted rows and the refused ones as Parquet files; return the counts."""
    csv = path.suffix == ".csv"
    source = f"read_csv('{path}', all_varchar = true)" if csv else f"read_parquet('{path}')"
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"SET temp_directory = '{folder}/spill'")
        connection.execute(f"SET threads = {os.environ['OMP_NUM_THREADS']}")
        connection.execute(ROWS.format(source=source))
        connection.execute(BAD.format(path=folder / "bad.parquet"))
        connection.execute(ACCEPTED.format(path=folder / "accepted.parquet"))
        (found,) = connection.sql(
            f"SELECT count(*), sum(num), sum(alike) FROM '{folder}/accepted.parquet'"
        ).fetchall()
        (bad,) = connection.sql(f"SELECT count(*) FROM '{folder}/bad.parquet'").fetchall()
    accepted, total, alike, refused = (int(number) for number in (*found, *bad))
    return {
        "rows_read": total + refused,
        "accepted": accepted,
        "duplicates": alike - accepted,
        "quarantined": refused + total - alike,
    }
