"""From what was typed to a `LogMapping`: a built-in data set, a mapping file, or options."""

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from recmeta.cli.options import AttributeOptions, LogOptions
from recmeta.cli.output import tell
from recmeta.config import parse, to_dict
from recmeta.errors import UserError, did_you_mean, listed, shown
from recmeta.logs.fetching.datasets import DATASETS, fetch, mapping_for
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping, Source, load_mapping
from recmeta.logs.reading.columns import column_names, guess_attributes
from recmeta.logs.reading.files import find_files
from recmeta.progress import Progress
from recmeta.schema import ITEM_ID, TIMESTAMP, USER_ID, VALUE

if TYPE_CHECKING:
    from recmeta.metalearn.model import Model

MAPPING_ENDING = ".toml"
LISTS = frozenset({"column_names", "null_values", "skip_columns"})
"""The options that hold several values, with commas between them."""


def given_options(options: LogOptions) -> dict[str, Any]:
    """Return the options that were given, by the names of `LogMapping`'s fields."""
    given = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name != "mapping"
    }
    if "separator" in given:
        given["separator"] = given["separator"].replace("\\t", "\t")
    for name in LISTS.intersection(given):
        given[name] = [part.strip() for part in given[name].split(",")]
    return given


def log_mapping(
    source: str | None, options: LogOptions, attributes: AttributeOptions, progress: Progress
) -> LogMapping:
    """Return the mapping of a log.

    Args:
        source: the name of a built-in data set, which is fetched, a `.toml` mapping, or the log's
            path or URL; None where the mapping file names the log.

    Raises:
        UserError: where nothing is there, or the options do not fit it.
    """
    given = given_options(options)
    if source is not None and source in DATASETS:
        extra = [f"--{n.replace('_', '-')}" for n in (*given, *_given_files(attributes))]
        if options.mapping is not None or extra:
            raise UserError(
                f"{source} is a built-in data set, whose columns are known: leave out "
                f"{', '.join(extra) or '--mapping'}, or write ./{source} for a file of that name."
            )
        return mapping_for(source, fetch(source, progress=progress))
    if source is not None and source.endswith(MAPPING_ENDING):
        mapping = load_mapping(source)
    elif options.mapping is not None:
        mapping = load_mapping(options.mapping, source)
    elif source is not None:
        check_is_there(source)
        mapping = LogMapping(path=source)
    else:
        raise UserError(
            f"name a log: a file, a URL, one of {', '.join(DATASETS)}, or a mapping with --mapping."
        )
    mapping = parse(LogMapping, to_dict(mapping) | given)
    return _with_attribute_files(mapping, attributes)


def new_users_mapping(
    path: str,
    options: LogOptions,
    like: LogMapping | None = None,
) -> LogMapping:
    """Return the mapping of a file of new users' interactions.

    Args:
        path: a `.toml` mapping, or the file. One with the column of users alone names users without
            interactions.
        like: the mapping of the log, whose columns the file has where no options say otherwise.
            None: the columns are named as in the tables, and `value` and `timestamp` need not be
            there.

    Raises:
        UserError: as `log_mapping`.
    """
    given = given_options(options)
    if path.endswith(MAPPING_ENDING):
        return parse(LogMapping, to_dict(load_mapping(path)) | given)
    if options.mapping is not None:
        return parse(LogMapping, to_dict(load_mapping(options.mapping, path)) | given)
    if like is not None:
        alike: dict[str, Any] = {"path": path, "format": "auto", "users": None, "items": None}
        mapping = parse(LogMapping, to_dict(like) | alike | given)
        names_users = mapping.layout == "rows" and column_names(mapping) == [mapping.user_col]
        return _naming_users(mapping) if names_users else mapping
    check_is_there(path)
    source = parse(Source, {"path": path} | _of_source(given))
    present = column_names(source)
    user_col = given.get("user_col", USER_ID)
    if present == [user_col] and "item_col" not in given:
        kept = {n: v for n, v in given.items() if n in ("user_col", "max_bad_share")}
        return _naming_users(parse(LogMapping, to_dict(source) | kept))
    _require(present, given, path)
    for option, column in (("value_col", VALUE), ("time_col", TIMESTAMP)):
        if option not in given and column in present:
            given[option] = column
    if given.get("time_col") in present:
        given = _with_time_unit(source, given, is_named=options.time_col is not None)
    return parse(LogMapping, {"path": path} | given)


def _naming_users(mapping: LogMapping) -> LogMapping:
    """Return how to read a file of users alone, who have no interactions."""
    of_source = {name: getattr(mapping, name) for name in Source.__dataclass_fields__}
    return LogMapping(
        **of_source,
        user_col=mapping.user_col,
        item_col="",
        max_bad_share=mapping.max_bad_share,
    )


def _require(present: list[str], given: dict[str, Any], path: str) -> None:
    """Raise UserError where a file of new users has no column of users or of items."""
    for option, column in (("user_col", USER_ID), ("item_col", ITEM_ID)):
        name = given.get(option, column)
        if name not in present and len(present) > 1:  # else the separator is another one
            raise UserError(
                f"{path!r} has no column {shown(name)}.{did_you_mean(name, present)} Name it with "
                f"--{option.replace('_', '-')}. It has: {listed(present)}."
            )


def _with_time_unit(source: Source, given: dict[str, Any], *, is_named: bool) -> dict[str, Any]:
    """Return the options with how the file's times are spelled, as its first rows show it.

    A column of times that nobody named and that has none is not read.
    """
    from recmeta.api.data.frames import time_unit
    from recmeta.logs.checking import parsing, spellings
    from recmeta.logs.checking.checked import NUM_CELLS
    from recmeta.logs.reading.log_format import Wanted
    from recmeta.logs.reading.sources import read

    column = given["time_col"]
    times = next(read(source, find_files(source), Wanted(columns={column: column})))[column]
    shown_unit = time_unit(times, None)  # refuses what is no time
    unit = spellings.unit_of(times.head(NUM_CELLS)) or shown_unit
    given_times = times.to_frame().select(parsing.text(column, times.dtype)).to_series()
    if not is_named and given_times.null_count() == len(times):
        return {name: value for name, value in given.items() if name != "time_col"}
    return {"time_unit": unit} | given


def profiles_like(mapping: LogMapping, path: str, id_col: str) -> AttributeSource:
    """Return how to read profiles whose columns are named as the attributes of a log's users.

    Raises:
        UserError: where the log's users have no attributes.
    """
    if mapping.users is None:
        raise UserError(
            f"--profiles {path!r}: the users of the log have no attributes, so profiles "
            "cannot be used. Leave the option out, or ingest the log with --users."
        )
    kinds = {name: Attribute(kind=a.kind) for name, a in mapping.users.columns.items()}
    return present_profiles(AttributeSource(path=path, id_col=id_col, columns=kinds))


def present_profiles(wanted: AttributeSource) -> AttributeSource:
    """Return the source with those attributes alone that its file has a column for.

    Columns that it has beside them are named on standard error.

    Raises:
        UserError: where it has none of them.
    """
    from recmeta.serving.intake import unknown_attribute

    present = column_names(wanted)
    columns = {name: a for name, a in wanted.columns.items() if (a.column or name) in present}
    if not columns:
        raise UserError(
            f"--profiles {wanted.path!r} has none of the columns "
            f"{listed(list(wanted.columns), 'that the model reads: it reads no profiles')}."
            f"{''.join(did_you_mean(name, present) for name in wanted.columns)} "
            f"It has: {listed(present)}."
        )
    read = {wanted.id_col, *(a.column or name for name, a in columns.items())}
    unread = [name for name in present if name not in read]
    if unread:
        said = unknown_attribute(unread, list(wanted.columns))
        tell(f"--profiles {wanted.path!r}: not read: {listed(unread)}; {said}")
    return dataclasses.replace(wanted, columns=columns)


def with_profiles(
    mapping: LogMapping, model: "Model", profiles: str, profile_id_col: str
) -> LogMapping:
    """Return how to read new users with their profiles, whose attributes are those of a model."""
    from recmeta.steps.serving.adapt import profiles_for

    source = profiles_for(model, profiles, profile_id_col)
    return dataclasses.replace(mapping, users=present_profiles(source))


def _with_attribute_files(mapping: LogMapping, attributes: AttributeOptions) -> LogMapping:
    users, items = mapping.users, mapping.items
    if attributes.users is not None:
        id_col = attributes.user_id_col or mapping.user_col
        users = guess_attributes(Source(path=attributes.users), id_col)
    if attributes.items is not None:
        id_col = attributes.item_id_col or mapping.item_col
        items = guess_attributes(Source(path=attributes.items), id_col)
    return dataclasses.replace(mapping, users=users, items=items)


def kinds_found(mapping: LogMapping) -> dict[str, dict[str, str]]:
    """Return the kind of each attribute, of users and of items."""
    sources = {"users": mapping.users, "items": mapping.items}
    return {
        name: {attribute: a.kind for attribute, a in source.columns.items()}
        for name, source in sources.items()
        if source is not None
    }


def unread_columns(mapping: LogMapping) -> list[str]:
    """Return the columns of a log that the mapping gives no meaning, in the file's order."""
    if mapping.layout == "matrix":
        return []
    roles = (mapping.user_col, mapping.item_col, mapping.time_col, mapping.value_col)
    read = {*roles, mapping.event_col}
    read |= {name.split(".")[0] for name in read if name}
    return [name for name in column_names(mapping) if name and name not in read]


def hint_on_unread(mapping: LogMapping) -> str:
    """Return a sentence on what of a log is not read, and how to have it read; perhaps empty."""
    unread = unread_columns(mapping)
    missing = [
        f"--{role}-col {what}"
        for role, what, column in (
            ("value", "names a rating", mapping.value_col or mapping.item_suffix or None),
            ("time", "the time", mapping.time_col),
            ("event", "the kind of event", mapping.event_col),
        )
        if column is None
    ]
    if not unread or not missing:
        return ""
    return f"Columns not read: {listed(unread)}. {', '.join(missing)}."


def _given_files(attributes: AttributeOptions) -> list[str]:
    return [name for name, value in vars(attributes).items() if value is not None]


def _of_source(given: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in given.items() if name in Source.__dataclass_fields__}


def check_is_there(path: str) -> None:
    """Raise UserError where nothing is, with the name of the data set that was perhaps meant."""
    if path in DATASETS or "://" in path or os.path.exists(os.path.expanduser(path)):
        return
    hint = did_you_mean(path, list(DATASETS))
    if hint:
        raise UserError(f"there is no file {path!r} and no built-in data set of that name.{hint}")
    find_files(Source(path=path, format="csv"))
