"""The daily partitions of a log.

A mapping whose paths hold `{date}` (`logs/{date}.csv`, `s3://logs/day={date}/`) is a log in daily
partitions; what follows a colon says how the date is spelled (`{date:%Y%m%d}.csv`,
`{date:%Y}/{date:%m}/{date:%d}/`). A mapping without it is one log that is exported whole every day:
its known rows are duplicates, so that every day's run reads all of it and takes what is new.
"""

import dataclasses
import datetime
import re
from collections.abc import Iterator, Mapping

import pyarrow.fs as pafs

from recmeta.errors import UserError
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.workspace import Folder

DATE = "{date}"
_PLACE = re.compile(r"\{date(?::([^{}]*))?\}")
_ISO = "%Y-%m-%d"
_DIGITS = {"Y": 4, "m": 2, "d": 2, "j": 3}
"""The parts of a date that a path may hold, and how many digits each has."""
_DAYS = ({"Y", "m", "d"}, {"Y", "j"})
"""The parts that together say which day it is."""
_UNFINISHED = re.compile(r"_temporary.*|\.hive-staging.*|.*\.(tmp|inprogress|_COPYING_)")
"""Names that a folder contains while Spark, Hive, Flink or a copy still writes to it."""


def parse_day(text: str) -> datetime.date:
    """Return the day that `2026-01-31` names; of a date with a time, its day.

    Raises:
        UserError: for anything else.
    """
    try:
        return datetime.datetime.fromisoformat(text).date()
    except ValueError as error:
        raise UserError(f"the date is {text!r}; write it as 2026-01-31.") from error


def end_of(day: datetime.date) -> datetime.datetime:
    """Return the midnight (UTC) that ends a day."""
    following = day + datetime.timedelta(days=1)
    return datetime.datetime.combine(following, datetime.time(), datetime.UTC)


def mapping_of(mapping: LogMapping, day: datetime.date) -> LogMapping:
    """Return the mapping of one day's partition; the mapping itself where it has no `{date}`."""

    def section(source: AttributeSource | None) -> AttributeSource | None:
        return source and dataclasses.replace(source, path=_on(source.path, day))

    return dataclasses.replace(
        mapping,
        path=_on(mapping.path, day),
        users=section(mapping.users),
        items=section(mapping.items),
    )


def has_arrived(path: str, done_file: str | None = None) -> bool:
    """Return whether a path or an object-store URL exists and is complete.

    A file is complete if it exists. A folder is complete if it has files and nothing in it says
    that it is still being written, or if it has `_SUCCESS`, which Spark writes last, whatever else
    is in it.

    Args:
        done_file: the file that is written last into each folder, such as `_SUCCESS`; without it a
            folder is not complete. If None, no such file is required.
    """
    if path.startswith(("http://", "https://")):
        return True  # asked for when it is read
    folder = Folder.at(path)
    kind = folder.filesystem.get_file_info(folder.path).type
    if kind != pafs.FileType.Directory:
        return bool(kind != pafs.FileType.NotFound)
    selector = pafs.FileSelector(folder.path, recursive=True)
    files, unfinished = [], False
    for entry in folder.filesystem.get_file_info(selector):
        name = entry.path[len(folder.path.rstrip("/")) + 1 :].split("/")
        unfinished |= any(map(_UNFINISHED.fullmatch, name))
        if entry.type == pafs.FileType.File:
            files.append(name)
    has_marker = any(name[-1] == (done_file or "_SUCCESS") for name in files)
    is_table = any("_delta_log" in name for name in files)
    has_rows = any(not any(part.startswith((".", "_")) for part in name) for name in files)
    whole = has_marker if done_file else has_marker or not unfinished
    return (has_rows or is_table) and whole


def available_days(mapping: LogMapping) -> list[datetime.date]:
    """Return the days of which the log has a partition, sorted; none without `{date}` in it.

    Raises:
        UserError: if a date in the path is not a day.
    """
    parts = _parts(mapping.path)
    dated = [place for place, part in enumerate(parts) if _PLACE.search(part)]
    if not dated:
        return []
    said = {d for part in parts for _, d in _pieces(part, mapping.path) if d}
    if not any(needed <= said for needed in _DAYS):
        raise UserError(
            f"the path {mapping.path!r} does not say the day: it must hold {DATE}, or the year, "
            "the month and the day, such as {date:%Y%m%d}."
        )
    start = "/".join(parts[: dated[0]]) or ("/" if mapping.path.startswith("/") else ".")
    folder = Folder.at(start)
    found = _found(folder.filesystem, folder.path, parts[dated[0] : dated[-1] + 1], {}, mapping)
    return sorted(set(found))


def _found(
    filesystem: pafs.FileSystem,
    folder: str,
    parts: list[str],
    known: Mapping[str, int],
    mapping: LogMapping,
) -> Iterator[datetime.date]:
    """Yield the days whose names are in a folder and below it.

    Args:
        parts: of the path, from this folder to the last one with a date.
        known: the parts of the date that the folders above give.
    """
    if not parts:
        day = _day(known)
        if day is not None:
            yield day
        return
    pattern = re.compile(
        "".join(
            rf"(\d{{{_DIGITS[directive]}}})" if directive else re.escape(text)
            for text, directive in _pieces(parts[0], mapping.path)
        )
    )
    directives = [directive for _, directive in _pieces(parts[0], mapping.path) if directive]
    for entry in filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True)):
        matched = pattern.fullmatch(entry.base_name)
        if matched is None:
            continue
        said = dict(known)
        pairs = zip(directives, map(int, matched.groups()), strict=True)
        if all(said.setdefault(directive, number) == number for directive, number in pairs):
            yield from _found(filesystem, entry.path, parts[1:], said, mapping)


def _day(said: Mapping[str, int]) -> datetime.date | None:
    """Return the day that the parts of a date say; None where there is no such day."""
    try:
        if "d" in said:
            return datetime.date(said["Y"], said["m"], said["d"])
        day = datetime.date(said["Y"], 1, 1) + datetime.timedelta(days=said["j"] - 1)
    except (ValueError, OverflowError):
        return None
    return day if day.year == said["Y"] and said["j"] > 0 else None


def _parts(path: str) -> list[str]:
    """Return a path's folders, a date that stands for several of them (`{date:%Y/%m/%d}`) apart."""

    def apart(place: re.Match[str]) -> str:
        return place[0].replace("/", "}/{date:")

    return _PLACE.sub(apart, path).split("/")


def _pieces(part: str, path: str) -> list[tuple[str, str]]:
    """Return a part of a path as pieces, each plain text or, then without text, a part of a date.

    Raises:
        UserError: if the format of the date is invalid.
    """
    pieces: list[tuple[str, str]] = []
    end = 0
    for place in _PLACE.finditer(part):
        pieces.append((part[end : place.start()], ""))
        spelled = _ISO if place[1] is None else place[1]
        for text in re.split(r"(%.?)", spelled):
            if not text.startswith("%"):
                pieces.append((text, ""))
            elif text[1:] in _DIGITS:
                pieces.append(("", text[1:]))
            else:
                _refuse(place[0], path)
        if "%" not in spelled:
            _refuse(place[0], path)
        end = place.end()
    return [*pieces, (part[end:], "")]


def _refuse(place: str, path: str) -> None:
    raise UserError(
        f"the path {path!r} holds {place}; write a date as {{date:%Y%m%d}}, with %Y for the year, "
        "%m for the month, %d for the day, or %j for the day of the year."
    )


def _on(path: str, day: datetime.date) -> str:
    parts = {"Y": f"{day:%Y}".zfill(4), "m": f"{day:%m}", "d": f"{day:%d}", "j": f"{day:%j}"}
    return "/".join(
        "".join(parts[directive] if directive else text for text, directive in _pieces(part, path))
        for part in _parts(path)
    )
