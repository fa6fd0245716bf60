"""off-policy: what other lists would have earned, from a log of lists that were served."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome

if TYPE_CHECKING:
    import polars as pl

    from recmeta.api.off_policy import OffPolicyResult
    from recmeta.workspace import Workspace


def off_policy(
    common: CommonOptions,
    logged: Annotated[
        Path,
        typer.Argument(
            metavar="LOGGED",
            help="A row per place of a served list: user_id, item_id, rank, propensity, reward "
            "and, where a user has several lists, slate. CSV, Parquet or JSON lines.",
            show_default=False,
        ),
    ],
    lists: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The other lists: user_id, item_id, rank and, where they are random, probability.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="In place of --lists: a run of `recmeta score` in the workspace."
        ),
    ] = None,
    served: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="The run whose lists were served. LOGGED then needs user_id, item_id and reward "
            "alone; places that it does not have earned nothing.",
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of resamples and folds of users.")] = 0,
) -> Outcome:
    """Estimate what other lists would have earned, by IPS, SNIPS and doubly robust.

    Intervals are bootstraps over users. A warning says where the log has too little of the other
    lists to tell.
    """
    from recmeta.api.off_policy import off_policy as estimate
    from recmeta.config import parse
    from recmeta.errors import UserError
    from recmeta.evaluation.off_policy.estimate import OffPolicyConfig

    if (lists is None) == (run is None):
        raise UserError("give either --lists with a file or --run with a run of the workspace.")
    config = parse(OffPolicyConfig, {"confidence": confidence, "seed": seed})
    rows = _read(logged, "LOGGED")
    if served is not None:
        rows = _with_rewards(_run_of(common.open_workspace(), served, "--served"), rows)
    others = _read(lists, "--lists") if lists is not None else None
    if others is None:
        assert run is not None, "one of the two is given"
        others = _run_of(common.open_workspace(), run, "--run")
    found = estimate(rows, others, config=config)
    return Outcome(data=_data(found), text=_text(found), note=" ".join(found.warnings))


def _read(path: Path, option: str) -> "pl.DataFrame":
    """Return the table in a file.

    Raises:
        UserError: where it cannot be read.
    """
    import polars as pl

    from recmeta.errors import UserError

    place = path.expanduser()
    readers = {
        ".csv": pl.read_csv,
        ".tsv": lambda file: pl.read_csv(file, separator="\t"),
        ".parquet": pl.read_parquet,
        ".jsonl": pl.read_ndjson,
    }
    reader = readers.get(place.suffix.lower())
    if reader is None:
        raise UserError(f"{option} is {str(path)!r}; it must end in {', '.join(readers)}.")
    try:
        if place.suffix.lower() == ".jsonl":
            _refuse_nested_lines(place, option)
        return reader(place)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise UserError(f"{option} {str(path)!r} cannot be read: {reason:.200}.") from error


def _refuse_nested_lines(path: Path, option: str) -> None:
    """Refuse lines of JSON with a list or a record as a value: Polars turns one among texts into
    text, and says of others neither the line nor the column.

    Raises:
        UserError: for the first.
        OSError: where the file cannot be read.
    """
    import json

    from recmeta.errors import UserError, shown

    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if "[" not in line and line.count("{") < 2:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                return  # which Polars says
            values = record if isinstance(record, dict) else {"a line": record}
            for name, value in values.items():
                if isinstance(value, list | dict):
                    raise UserError(
                        f"{option} {str(path)!r} has {shown(value)} as {name} in line {number}: "
                        "every line must have one text or number there."
                    )


def _run_of(workspace: "Workspace", run: str, option: str) -> "pl.DataFrame":
    """Return the lists of a run of score.

    Raises:
        UserError: where the workspace has none.
    """
    import polars as pl

    from recmeta import schema
    from recmeta.errors import UserError, did_you_mean
    from recmeta.logs import tables

    workspace.require(schema.RECOMMENDATIONS)
    every = tables.scan(workspace, schema.RECOMMENDATIONS)
    rows = every.filter(pl.col(schema.RUN) == run).collect()
    if not rows.height:
        known: list[str] = every.select(pl.col(schema.RUN).unique()).collect().to_series().to_list()
        raise UserError(
            f"{option} is {run!r}, but the workspace has no lists of that run."
            f"{did_you_mean(run, known)} `recmeta score` prints the run that it made."
        )
    return rows


def _with_rewards(lists: "pl.DataFrame", rewards: "pl.DataFrame") -> "pl.DataFrame":
    """Return a run's lists with what each place earned.

    Raises:
        UserError: where the run does not say how likely its items were, a column is missing, or a
            reward is no number.
    """
    import polars as pl

    from recmeta import schema
    from recmeta.api.data.frames import missing_column
    from recmeta.api.off_policy import REWARD, refuse_nested
    from recmeta.errors import UserError, shown
    from recmeta.logs.checking import parsing

    if schema.PROPENSITY not in lists.columns or lists[schema.PROPENSITY].null_count():
        raise UserError(
            "the lists of --served do not say how likely each item was: they are of a version "
            "before propensities were logged."
        )
    for name in (schema.USER_ID, schema.ITEM_ID, REWARD):
        if name not in rewards.columns:
            raise missing_column("LOGGED", name, rewards.columns)
    keys = [schema.USER_ID, schema.ITEM_ID]
    refuse_nested(rewards, "LOGGED", [*keys, REWARD])
    reward = pl.col(REWARD).cast(pl.Float64, strict=False)
    bad = rewards.select(~reward.is_finite().fill_null(False)).to_series().arg_true()
    if len(bad):
        raise UserError(
            f"LOGGED has {shown(rewards[REWARD][bad[0]])} as {REWARD} in row {bad[0] + 1}: every "
            "row must have a number there."
        )
    earned = (
        rewards.with_columns(parsing.identifier(name, rewards.schema[name]) for name in keys)
        .group_by(keys)
        .agg(reward.sum())
    )
    return lists.join(earned, on=keys, how="left").with_columns(pl.col(REWARD).fill_null(0))


def _data(found: "OffPolicyResult[Any]") -> dict[str, Any]:
    import dataclasses

    result = found.estimates
    plain = dataclasses.asdict(result)
    return {**plain, "num_left_out": found.num_left_out}


def _text(found: "OffPolicyResult[Any]") -> str:
    from recmeta.reporting.markdown import table

    result = found.estimates
    names = {"ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}

    def cells(interval: Any, sign: str = "") -> list[str]:
        return [
            f"{interval.mean:{sign}.4g}",
            f"{interval.ci_low:{sign}.4g} to {interval.ci_high:{sign}.4g}",
        ]

    rows = [["served", *cells(result.logged), "", ""]]
    for name, one in result.estimates.items():
        rows.append([names[name], *cells(one.value), *cells(one.difference, "+")])
    header = ["a list earned, or would earn", "", "interval", "more than served", "interval"]
    left_out = ""
    if found.num_left_out:
        left_out = f" {found.num_left_out:,} served lists are left out: there is no other for them."
    return (
        f"{table(header, rows)}\n\n{result.num_slates:,} lists of {result.num_users:,} users; "
        f"{result.num_matched:,} of {result.num_rows:,} places have an item that the other lists "
        f"may have there, worth {result.effective_rows:,.0f} evenly weighted ones. The mean weight "
        f"is {result.overlap.mean:.3f} ({result.overlap.ci_low:.3f} to "
        f"{result.overlap.ci_high:.3f}); it should be 1.{left_out}"
    )


COMMAND = Command(
    off_policy,
    examples="""
recmeta off-policy served.csv --lists others.csv

recmeta off-policy clicks.csv --served 3f2a90c1b7d4e586 --run 77aa01c2d3e4f590 -w ws
""",
    after="explain",
)
