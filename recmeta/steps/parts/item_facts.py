"""What business rules ask of items: the lists in files, and when items were first met."""

import datetime
import os
from pathlib import Path

import polars as pl

from recmeta import schema
from recmeta.errors import UserError, did_you_mean
from recmeta.logs import tables
from recmeta.logs.checking import parsing
from recmeta.serving.rules import ItemFacts, Rules
from recmeta.workspace import Workspace


def item_facts(rules: Rules, workspace: Workspace, now: datetime.datetime) -> ItemFacts:
    """Return what the rules ask of items.

    Raises:
        UserError: for a file that is not there or cannot be read, or has no column `item_id`.
    """
    return ItemFacts(
        denied=() if rules.deny is None else _read(rules.deny, "deny"),
        allowed=None if rules.allow is None else _read(rules.allow, "allow"),
        too_old=() if rules.max_age_days is None else _too_old(workspace, rules.max_age_days, now),
    )


def _read(path: str, rule: str) -> list[str]:
    """Return the ids in a file, sorted."""
    place = Path(os.path.expanduser(path))
    if not place.is_file():
        raise UserError(f"{rule} names {path!r}, and there is no such file.")
    try:
        rows = _rows(place)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{rule}: {path!r} cannot be read: {reason}. It must be UTF-8 with an id a line, or a "
            "whole .csv, .tsv or .parquet file."
        ) from error
    if schema.ITEM_ID not in rows.columns:
        raise UserError(
            f"{rule}: {path!r} has no column {schema.ITEM_ID!r}."
            f"{did_you_mean(schema.ITEM_ID, rows.columns)} It has: {', '.join(rows.columns)}."
        )
    ids = parsing.text(schema.ITEM_ID, rows.schema[schema.ITEM_ID])  # as the log's are read
    found: list[str] = rows.select(ids).to_series().drop_nulls().unique().sort().to_list()
    return found


def _rows(place: Path) -> pl.DataFrame:
    if place.suffix == ".parquet":
        return pl.read_parquet(place)
    if place.suffix in (".csv", ".tsv"):
        separator = "\t" if place.suffix == ".tsv" else ","
        return pl.read_csv(place, separator=separator, infer_schema=False)
    return pl.DataFrame({schema.ITEM_ID: place.read_text(encoding="utf-8").splitlines()})


def _too_old(workspace: Workspace, days: int, now: datetime.datetime) -> list[str]:
    """Return the items that were first met more than so many days before a midnight."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = pl.col(schema.TIMESTAMP).min()
    ids: list[str] = (
        tables.scan(workspace, schema.INTERACTIONS)
        .group_by(schema.ITEM_ID)
        .agg(first)
        .filter(pl.col(schema.TIMESTAMP) < midnight - datetime.timedelta(days=days))
        .select(pl.col(schema.ITEM_ID).sort())
        .collect()
        .to_series()
        .to_list()
    )
    return ids
