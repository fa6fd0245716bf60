"""Which column of a sample of rows is the user, the item, the time, the event and the value, by the
columns' names and contents."""

import re

import polars as pl

from recmeta.logs.checking import parsing, spellings

FEW_KINDS = 20
"""The most kinds of events that a column of kinds may have."""
RATINGS = (-10.0, 100.0)
"""The range in which values count as ratings if no column name says that they are."""
FEW_LEVELS = 4
"""The most values that a column of kinds may have; a column with more may hold ids."""
FEW_ROWS = 10
SCALE_LEVELS = 11
"""The most levels of a scale of ratings, as from 0 to 10."""
DATES = ("iso", "%Y%m%d", *spellings.FORMATS)
"""Spellings of times that no id has."""
LISTS = {
    sign: rf"^[^\s{sign}]*\d[^\s{sign}]*(?:{re.escape(sign)} *[^\s{sign}]*\d[^\s{sign}]*)+$"
    for sign in (",", ";", "|", " ")
}
"""Patterns of a cell with several ids, by what separates them."""
GUID = r"^\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}$"
"""A globally unique id as databases of Microsoft print it."""
_NAMES = {
    "user": (
        "userid user uid useridx visitorid visitor customerid customer memberid reviewerid "
        "username userpseudoid anonymousid accountid clientid personid sessionid session email"
    ),
    "item": (
        "itemid item iid productid product sku movieid movie bookid book isbn asin parentasin "
        "articleid newsid trackid songid artistid artist businessid animeid gameid appid contentid "
        "contentitemid offerid lineitemsku"
    ),
    "time": (
        "timestamp time ts datetime date eventtime eventtimestamp createdat createdtime when at "
        "dateadded reviewtime unixreviewtime ratedat day dt"
    ),
    "value": (
        "rating ratings stars score overall rate value bookrating preference liked isliked "
        "recommended isrecommended votedup feedback grade userscore myscore"
    ),
    "event": "event eventtype eventname action actiontype behavior behaviour behaviortype type",
}


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.rpartition(":")[0] or name)).lower()


def by_name(sample: pl.DataFrame, within: list[str]) -> dict[str, str]:
    """Return the columns by the role that they are named for: first those of the file itself, then
    those within structures, of which the last part may be the name, the fullest first."""
    roles: dict[str, str] = {}
    own = [name for name in sample.columns if name not in within]
    # What a change of a row was before (Debezium) is nothing that holds.
    inner = [name for name in sample.columns if name in within]
    inner.sort(key=lambda name: (sample[name].null_count(), name.startswith("before.")))
    for names, parts in ((own, False), (inner, True)):
        letters = {n: {_letters(n), *([_letters(n.split(".")[-1])] * parts)} for n in names}
        for role, words in _NAMES.items():
            for word in words.split() if role not in roles else ():
                found = [n for n in names if word in letters[n] and n not in roles.values()]
                if found:
                    roles[role] = found[0]
                    break
    return roles


def roles(sample: pl.DataFrame, named: dict[str, str]) -> dict[str, str]:
    """Return the columns of a sample by role: first by name, then by content."""
    roles = dict(named)
    if "time" in roles and spellings.unit_of(sample[roles["time"]]) is None:
        del roles["time"]
    if "event" in roles and _is_constant_number(text(sample[roles["event"]])):
        del roles["event"]
    left = [name for name in sample.columns if name not in roles.values()]
    texts = {name: text(sample[name]) for name in left}
    left = [name for name in left if len(texts[name]) and not _is_structure(texts[name])]
    if "time" not in roles:
        times = [n for n in left if spellings.unit_of(texts[n]) is not None]
        times = [n for n in times if texts[n].n_unique() > 1 or len(texts[n]) == 1] or times
        if times:
            roles["time"] = times[-1]
            left.remove(times[-1])
    lists = [n for n in left if holds_lists(sample[n]) or _holds_several(texts[n])]
    if "item" not in roles and lists:
        roles["item"] = lists[0]
    left = [n for n in left if n not in lists]
    needed = [role for role in ("user", "item") if role not in roles]
    kinds = [n for n in left if _is_kind(texts[n]) and not is_number(texts[n])]
    numbered = [n for n in left if _numbers_rows(texts[n])]
    ids = [n for n in left if n not in numbered]
    ids = [n for n in ids if n not in kinds and spellings.unit_of(texts[n]) not in DATES]
    # The first column of a file without names is not its ratings.
    ratings = [n for n in ids if _is_scale(texts[n]) and (named or n != left[0])]
    ids = [n for n in ids if n not in ratings]
    several = [n for n in kinds if n in left and texts[n].n_unique() > FEW_LEVELS]
    # A small log has few users and items; where items are lists, each row may be a user.
    for others in (several, ratings, numbered if lists else []):
        if len(ids) < len(needed):
            ids = [n for n in left if n in ids or n in others]
    for role, column in zip(needed, ids, strict=False):
        roles[role] = column
        left.remove(column)
    left = [n for n in left if n not in numbered]
    kinds = [name for name in kinds if name in left]
    if "event" not in roles and not named and kinds:
        roles["event"] = kinds[0]
        left.remove(kinds[0])
    if "value" not in roles and not named:
        values = [n for n in left if is_rating(texts[n])]
        if values:
            roles["value"] = values[0]
    return roles


def text(values: pl.Series) -> pl.Series:
    frame = values.to_frame("v").select(parsing.text("v", values.dtype))
    return frame.to_series().drop_nulls()


def holds_lists(values: pl.Series) -> bool:
    """Return whether cells are lists, as Parquet and JSON have them, and Python prints them."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return not values.dtype.inner.is_nested()
    texts = text(values)
    filled = texts.str.contains(r"(?s)^\[.+\]$")
    return bool(filled.any()) and bool((filled | (texts == "[]")).all())


def separator_within(texts: pl.Series) -> str:
    """Return what separates the ids within cells; nothing if each holds one."""
    for sign, pattern in LISTS.items():
        if texts.str.contains(pattern).sum() > len(texts) / 2:
            return "" if _is_of_two_parts(texts, sign) else sign
    return ""


def _is_of_two_parts(texts: pl.Series, sign: str) -> bool:
    """Whether all cells are ids of two parts, such as 12|3, since lists differ in length."""
    if sign == " " or len(texts) < FEW_ROWS:
        return False
    part = rf"[^\s{re.escape(sign)}]+"
    return bool(texts.str.contains(f"^{part}{re.escape(sign)}{part}$").all())


def _holds_several(texts: pl.Series) -> bool:
    """Whether cells hold several ids, and are not times or numbers of several parts."""
    if not separator_within(texts):
        return False
    return spellings.unit_of(texts) is None and spellings.decimal_of(texts) is None


def _is_structure(values: pl.Series) -> bool:
    """Whether cells are structures, or maps, of which an id is a part at most."""
    return bool(values.str.contains(r"^\[?\s*\{").all()) and not values.str.contains(GUID).all()


def _is_kind(values: pl.Series) -> bool:
    return len(values) > FEW_KINDS and values.n_unique() <= FEW_KINDS


def is_number(values: pl.Series) -> bool:
    return spellings.decimal_of(values) is not None


def is_rating(values: pl.Series) -> bool:
    decimal = spellings.decimal_of(values) if values.n_unique() <= FEW_KINDS else None
    if decimal is None or values.str.contains("(?i)true|false").any():
        return False
    frame = values.to_frame("v").select(parsing.number("v", values.dtype, decimal))
    numbers = frame.to_series()
    return bool(numbers.is_between(*RATINGS).fill_null(False).all())


def is_graded(values: pl.Series) -> bool:
    """Return whether values are numbers of a few levels, at least three, as ratings are."""
    return values.n_unique() > 2 and is_rating(values)


def are_attributes(sample: pl.DataFrame, roles: dict[str, str], named: dict[str, str]) -> bool:
    """Return whether a sample is a table of attributes: each row has an id that no other row has,
    where one of the user and the item is not known by name.

    Args:
        sample: the first rows.
        roles: the columns by role.
        named: the columns that are named for a role.
    """
    if sample.height < FEW_KINDS or {"user", "item"} <= named.keys() or "time" in roles:
        return False
    ids = [text(sample[roles[role]]) for role in ("user", "item")]
    if any(holds_lists(sample[roles[role]]) for role in ("user", "item")):
        return False
    return all(len(values) == values.n_unique() == sample.height for values in ids)


def _is_constant_number(values: pl.Series) -> bool:
    """Whether each row has the same number, which is no kind of event."""
    return len(values) >= FEW_ROWS and values.n_unique() == 1 and is_number(values)


def _is_scale(values: pl.Series) -> bool:
    """Whether values are ratings rather than ids of few users or items."""
    return values.n_unique() <= SCALE_LEVELS and is_rating(values)


def _numbers_rows(values: pl.Series) -> bool:
    """Whether values number the rows: no user has two."""
    numbers = values.cast(pl.Int64, strict=False)
    if len(values) < FEW_ROWS or numbers.has_nulls():
        return False
    return bool((numbers.diff().drop_nulls() == 1).all())
