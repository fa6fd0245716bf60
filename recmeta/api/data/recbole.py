"""RecBole's atomic files: tab-separated, with each column's type behind a colon in the header.

NAME.inter   user_id:token   item_id:token   rating:float   timestamp:float
NAME.user    user_id:token   age:token   …
NAME.item    item_id:token   movie_title:token_seq   class:token_seq   …
"""

import os
import re
from pathlib import Path

from recmeta.api.data.columns import Columns
from recmeta.errors import UserError, did_you_mean
from recmeta.logs.mapping import Attribute, AttributeSource, Kind, LogMapping, Source
from recmeta.logs.reading.columns import NAMES_OF_TITLES, column_names
from recmeta.schema import ITEM_ID, TITLE, USER_ID

KINDS: dict[str, Kind] = {
    "token": "categorical",  # nosec B105  # a word, no secret
    "token_seq": "multi",  # nosec B105
    "float": "numeric",
}
"""The kinds of attributes by RecBole's types; a `float_seq` is not read."""


def recbole_mapping(place: str | os.PathLike[str], columns: Columns, scale: str) -> LogMapping:
    """Return the mapping of a data set in RecBole's atomic files.

    Args:
        place: the folder with the files of one data set, or its `.inter` file.
        columns: the names of the fields, without their types.
        scale: as `LogMapping.scale`; it has no effect without values.

    Raises:
        UserError: if the files or a field are missing.
    """
    path = Path(os.path.expanduser(place))
    if path.is_dir():
        found = sorted(path.glob("*.inter"))
        if len(found) != 1:
            raise UserError(
                f"{str(path)!r} has {len(found)} files that end in .inter: name the one to read."
            )
        path = found[0]
    if not path.exists():
        raise UserError(f"there is nothing at {str(path)!r}: check the path.")
    fields = _fields(path)
    user, item = (_field(path, fields, name) for name in (columns.user_id, columns.item_id))
    value, time, event = (
        fields.get(name, (None, ""))[0] if name is not None else None
        for name in (columns.value, columns.timestamp, columns.event)
    )
    return LogMapping(
        path=str(path),
        format="tsv",
        quote="",
        user_col=user,
        item_col=item,
        time_col=time,
        value_col=value,
        event_col=event,
        scale=scale if value else "",
        users=_entities(path.with_suffix(".user"), columns.user_id),
        items=_entities(path.with_suffix(".item"), columns.item_id),
    )


def _fields(path: Path) -> dict[str, tuple[str, str]]:
    """Return the fields of a file, as whole column names and types by field name."""
    columns = column_names(Source(path=str(path), format="tsv", quote=""))
    return {column.partition(":")[0]: (column, column.partition(":")[2]) for column in columns}


def _field(path: Path, fields: dict[str, tuple[str, str]], name: str) -> str:
    if name not in fields:
        raise UserError(
            f"{path.name!r} has no field {name!r}.{did_you_mean(name, list(fields))} "
            f"It has: {', '.join(fields)}."
        )
    return fields[name][0]


def _entities(path: Path, id_name: str) -> AttributeSource | None:
    if not path.exists():
        return None
    fields = _fields(path)
    id_col = _field(path, fields, id_name)
    columns = {}
    for name, (column, type_) in fields.items():
        attribute = re.sub(r"^(?=\d)|\W", "_", name)
        if column == id_col or type_ not in KINDS or attribute in (USER_ID, ITEM_ID):
            continue
        kind = KINDS[type_]
        if type_ == "token_seq" and name.rpartition("_")[2].lower() in NAMES_OF_TITLES:
            attribute, kind = TITLE, "text"
        columns[attribute] = Attribute(kind=kind, column=column, separator=" ")
    return AttributeSource(path=str(path), format="tsv", quote="", id_col=id_col, columns=columns)
