"""The options that several commands share, as groups.

A command takes a group as one parameter; `recmeta.cli.command` spreads its fields into options. An
option that is None was not given: the default stands where it belongs, in the configuration.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.logs.formats import FORMATS

if TYPE_CHECKING:
    from recmeta.engine.config import EngineConfig
    from recmeta.recipes import PipelineConfig
    from recmeta.workspace import Workspace

COLUMNS = "Columns of the log"
FORMAT = "Format of the log"
ATTRIBUTES = "Attributes of users and items"
CONFIGURATION = "Configuration"
RULES = "Business rules"
GENERAL = "General"

Device = Annotated[
    str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.", rich_help_panel=GENERAL)
]
Processes = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="How many processes of this machine share a training; the model is the same up to "
        "rounding.",
        rich_help_panel=GENERAL,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Promote the model even if the gate refuses it.")
]
Profiles = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Profiles of the new users: columns named like the user attributes of the log.",
    ),
]
ProfileIdCol = Annotated[
    str, typer.Option(metavar="COLUMN", help="The column of --profiles with the user's id.")
]
FeatureStore = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        envvar="RECMETA_FEATURE_STORE",
        help="A Feast repository, or a configuration in it. Features are put online there, and new "
        "users' profiles are read from there. [default: none]",
        rich_help_panel=GENERAL,
    ),
]

Redo = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEP",
        help="Do this step again even if it is finished; may be given several times.",
        rich_help_panel=GENERAL,
    ),
]

MaxUnknownShare = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=1,
        help="Stop if a larger share of the interactions is of items unknown to the model. "
        "[default: they count against --max-bad-share]",
        rich_help_panel=FORMAT,
    ),
]

ModelVersion = Annotated[
    str | None,
    typer.Option(metavar="N", help="Version of the model. [default: the champion]"),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every command takes."""

    workspace: Annotated[
        str,
        typer.Option(
            "--workspace",
            "-w",
            envvar="RECMETA_WORKSPACE",
            help="Where tables, models and reports are: a folder or an object-store URL.",
            rich_help_panel=GENERAL,
        ),
    ] = "workspace"
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object, as the last line of standard output.",
            rich_help_panel=GENERAL,
        ),
    ] = False
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks and warnings.", rich_help_panel=GENERAL),
    ] = False
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            envvar="RECMETA_WAIT",
            help="How long to wait for another command that writes to the workspace.",
            rich_help_panel=GENERAL,
        ),
    ] = 0.0

    def open_workspace(self) -> "Workspace":
        """Return the workspace."""
        from recmeta.cli.output import tell
        from recmeta.workspace import Workspace

        return Workspace(self.workspace, wait=self.wait, say=tell).check_format()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How a log is written; the fields have the names of `LogMapping`'s."""

    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .toml or .json file with the mapping; the options below win over it.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    user_col: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The user's id. [default: user_id]", rich_help_panel=COLUMNS
        ),
    ] = None
    item_col: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The item's id. [default: item_id]", rich_help_panel=COLUMNS
        ),
    ] = None
    time_col: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The event's time.", rich_help_panel=COLUMNS),
    ] = None
    time_unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT",
            help="s, ms, us, ns or d since 1970, iso, or a strptime format. [default: s]",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    event_col: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The event's kind.", rich_help_panel=COLUMNS),
    ] = None
    event: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="The kind of all rows. [default: rating with --value-col, otherwise click]",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    value_col: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The rating, count or amount.", rich_help_panel=COLUMNS
        ),
    ] = None
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="The values allowed, such as 1:5; either end may be open.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    item_separator: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What separates the items of a cell that holds several.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    item_suffix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What separates an item from its value in such a cell, such as - in N123-1.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT",
            help="matrix: every row is a user and every other column an item; with --user-col '' "
            "the row's number is the user. "
            "[default: rows]",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    skip_columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="The columns of a matrix that are not items.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    implicit_value: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="The value of an item that was met but not rated, such as 0 or -1.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    earliest_time: Annotated[
        str | None,
        typer.Option(
            metavar="DAY",
            help="Stop if most times are before this day. [default: 1990-01-01]",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help=f"{', '.join(FORMATS)}. [default: by the file's ending]",
            rich_help_panel=FORMAT,
        ),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What separates the fields of a line.", rich_help_panel=FORMAT
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The encoding of text files. [default: utf-8]",
            rich_help_panel=FORMAT,
        ),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line names the columns; if not, they are column_1, column_2, … "
            "[default: header]",
            rich_help_panel=FORMAT,
        ),
    ] = None
    column_names: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="The names, in order, of the columns of a file without a header line.",
            rich_help_panel=FORMAT,
        ),
    ] = None
    quote: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help='The character around fields; empty if there is none. [default: "]',
            rich_help_panel=FORMAT,
        ),
    ] = None
    sheet: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The sheet of a workbook. [default: the only one that has rows]",
            rich_help_panel=FORMAT,
        ),
    ] = None
    null_values: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Texts that mean a missing value, besides NULL, NA and the like.",
            rich_help_panel=FORMAT,
        ),
    ] = None
    decimal: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help="The decimal sign: , for 1.234,5 or . for 1,234.5. [default: 1234.5]",
            rich_help_panel=FORMAT,
        ),
    ] = None
    max_bad_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Stop without publishing anything if more of the rows are bad. [default: 0.1]",
            rich_help_panel=FORMAT,
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeOptions:
    """Files of attributes, for which a mapping would be too much to write."""

    users: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file of users with their attributes, one column each.",
            rich_help_panel=ATTRIBUTES,
        ),
    ] = None
    user_id_col: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The id in --users. [default: as --user-col]",
            rich_help_panel=ATTRIBUTES,
        ),
    ] = None
    items: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file of items with their attributes, one column each.",
            rich_help_panel=ATTRIBUTES,
        ),
    ] = None
    item_id_col: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The id in --items. [default: as --item-col]",
            rich_help_panel=ATTRIBUTES,
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What runs the units of a step; the fields have the names of `EngineConfig`'s."""

    engine: Annotated[
        str,
        typer.Option(
            help="local: processes of this machine. ray: workers of Ray, here or on the cluster "
            "that RAY_ADDRESS names. The tables are the same.",
            rich_help_panel=GENERAL,
        ),
    ] = "local"
    workers: Annotated[
        int,
        typer.Option(
            metavar="N", help="How many units of work are done at once.", rich_help_panel=GENERAL
        ),
    ] = 1

    def values(self) -> "EngineConfig":
        """Return the configuration. Raises UserError for what is refused, and where Ray is asked
        for and is not installed."""
        from recmeta.config import parse
        from recmeta.engine.config import EngineConfig
        from recmeta.extras import require

        if self.engine == "ray":
            require("ray")
        return parse(EngineConfig, dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """The rules of every list; fields except `config` have the names of `Rules`'s."""

    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="A configuration whose tables [score] and [score.rules] say how lists are made; "
            "the options win over it.",
            rich_help_panel=RULES,
        ),
    ] = None
    deny: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Items that no list may have, one id per line.",
            rich_help_panel=RULES,
        ),
    ] = None
    allow: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The only items that lists may have, one id per line.",
            rich_help_panel=RULES,
        ),
    ] = None
    max_age_days: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS",
            help="Leave out items that were first met longer ago.",
            rich_help_panel=RULES,
        ),
    ] = None
    max_per_category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE=N",
            help="At most N items with the same value of an attribute in a list.",
            rich_help_panel=RULES,
        ),
    ] = None
    diversity: Annotated[
        float | None,
        typer.Option(
            metavar="WEIGHT",
            help="How much similarity to the items above counts against an item, from 0 to 1.",
            rich_help_panel=RULES,
        ),
    ] = None
    max_uncertainty: Annotated[
        float | None,
        typer.Option(
            metavar="DEVIATION",
            help="Replace items about whose score the model is less certain by popular ones.",
            rich_help_panel=RULES,
        ),
    ] = None
    min_interactions: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Give users with fewer known interactions a list of popular items.",
            rich_help_panel=RULES,
        ),
    ] = None

    def check(self) -> None:
        """Raise UserError where the file cannot be read: before PyTorch is imported."""
        if self.config is not None:
            from recmeta.config import read_toml

            read_toml(self.config)

    def given(self) -> dict[str, Any]:
        """Return the rules that were given. Raises UserError for a cap without a number."""
        from recmeta.errors import UserError

        found = {n: v for n, v in vars(self).items() if v is not None and n != "config"}
        if "max_per_category" in found:
            caps = {}
            for text in found["max_per_category"]:
                name, _, most = text.partition("=")
                if not most.isdigit():
                    raise UserError(
                        f"--max-per-category is {text!r}; it must be an attribute and a number, "
                        "such as genres=2."
                    )
                caps[name] = int(most)
            found["max_per_category"] = caps
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigOptions:
    """Which configuration a step runs with."""

    recipe: Annotated[
        str,
        typer.Option(help="A named configuration.", rich_help_panel=CONFIGURATION),
    ] = "default"
    learner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The learner, trained by its own recipe: maml, bayesian-linear, … "
            "(docs/learners.md), or one of your own as package.module:Class. "
            "[default: the recipe's]",
            rich_help_panel=CONFIGURATION,
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Values that replace the recipe's, in its tables [tasks], [train], [evaluate] "
            "and [score].",
            rich_help_panel=CONFIGURATION,
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            help="The seed of splits, training and evaluation.", rich_help_panel=CONFIGURATION
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(help="The most passes of meta-training.", rich_help_panel=CONFIGURATION),
    ] = None

    def check(self) -> None:
        """Raise UserError where the file cannot be read or the learner is not known: before
        PyTorch is imported."""
        from recmeta.config import read_toml
        from recmeta.metalearn.registry import LEARNERS

        if self.config is not None:
            read_toml(self.config)
        if self.learner is not None:
            LEARNERS.module_of(self.learner)

    def values(self) -> "PipelineConfig":
        """Return the configuration. Raises UserError for what is unknown or refused."""
        self.check()
        from recmeta.recipes.configuration import pipeline_config

        return pipeline_config(
            self.recipe,
            learner=self.learner,
            path=self.config,
            seed=self.seed,
            epochs=self.epochs,
        )
