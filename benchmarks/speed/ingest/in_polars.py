"""The same checks in one lazy query of Polars, streamed; no text of a row that loses is kept, and
no table's commit is made."""

from pathlib import Path

import polars as pl

KEY = ["user_id", "item_id", "timestamp"]


def build(path: Path, folder: Path) -> dict[str, int]:
    """Write the accepted rows and the refused ones as Parquet files; return the counts."""
    columns = [*KEY, "rating"]
    if path.suffix == ".csv":
        texts = dict.fromkeys(columns, pl.String)
        rows = pl.scan_csv(path, schema=texts, row_index_name="line")
    else:
        rows = pl.scan_parquet(path, row_index_name="line")
    rows = rows.select(
        "line",
        *(pl.col(name).cast(pl.String).str.strip_chars() for name in KEY[:2]),
        (pl.col("timestamp").cast(pl.Int64, strict=False) * 1_000_000).cast(
            pl.Datetime("us", "UTC")
        ),
        pl.col("rating").cast(pl.Float64, strict=False),
    )
    is_good = pl.all_horizontal(pl.col(KEY).is_not_null()) & pl.col("rating").is_between(1, 5)
    good, bad = rows.filter(is_good), rows.filter(~is_good.fill_null(False))
    bad.sink_parquet(folder / "bad.parquet")
    by_value = good.group_by(*KEY, "rating").agg(pl.len().alias("rows"), pl.col("line").max())
    last = pl.col("line").arg_max()
    winners = by_value.group_by(KEY).agg(
        pl.col("rating").get(last),
        pl.col("rows").sum(),
        pl.col("rows").get(last).alias("alike"),
    )
    winners.sort(KEY).sink_parquet(folder / "accepted.parquet")
    written = pl.scan_parquet(folder / "accepted.parquet")
    accepted, total, alike = (
        written.select(pl.len(), pl.col("rows").sum(), pl.col("alike").sum()).collect().row(0)
    )
    refused = pl.scan_parquet(folder / "bad.parquet").select(pl.len()).collect().item()
    return {
        "rows_read": total + refused,
        "accepted": accepted,
        "duplicates": alike - accepted,
        "quarantined": refused + total - alike,
    }
