"""Looks pinned requirements up in a database of known vulnerabilities, without a network.

    python deploy/audit.py constraints.txt --database all.zip

The database is what OSV (osv.dev) exports for the ecosystem PyPI: a zip file with one JSON record
for each vulnerability. Exit code 0: none of the pins is in it; 1: some are; 2: it cannot tell.
`make audit DATABASE=all.zip` calls this; without a database, pip-audit asks over the network.
"""

import argparse
import dataclasses
import json
import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


class CannotTell(Exception):
    """The audit has no answer; the message says why."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A pin that is vulnerable."""

    name: str
    version: Version
    record: str
    """The id of the vulnerability."""
    aliases: tuple[str, ...]
    """What others call it, such as its CVE number."""
    summary: str
    fixed: tuple[str, ...]
    """Versions that fix it."""


def read_pins(path: Path) -> dict[str, Version]:
    """Return version by normalised name of a file of `NAME==VERSION` lines, with or without hashes.

    Raises:
        CannotTell: for a file that cannot be read, pins nothing, or has a line that pins nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotTell(f"cannot read {path}: {error}") from error
    pins: dict[str, Version] = {}
    for line in text.replace("\\\n", " ").splitlines():
        said = re.sub(r"(^|\s)(#.*|--hash=\S+)", "", line).strip()
        if not said:
            continue
        try:
            wanted = Requirement(said)
            (only,) = wanted.specifier
            if only.operator != "==":
                raise ValueError(said)
            pins[canonicalize_name(wanted.name)] = Version(only.version)
        except (InvalidRequirement, InvalidVersion, ValueError) as error:
            raise CannotTell(f"{path}: {said!r} is not NAME==VERSION.") from error
    if not pins:
        raise CannotTell(f"{path} pins nothing.")
    return pins


def read_database(path: Path) -> tuple[dict[str, list[Mapping[str, Any]]], str]:
    """Return the records by normalised name of a package, and when the newest was changed.

    Raises:
        CannotTell: for a file that is no zip file with records of PyPI.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    newest = ""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".json"):
                    continue
                record = json.loads(archive.read(member))
                newest = max(newest, record.get("modified", ""))
                names = {
                    canonicalize_name(affected["package"]["name"])
                    for affected in record.get("affected", ())
                    if affected.get("package", {}).get("ecosystem") == "PyPI"
                }
                for name in names:
                    by_name[name].append(record)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise CannotTell(f"{path} is not OSV's export of PyPI: {error!r}") from error
    if not by_name:
        raise CannotTell(f"{path} has no record of PyPI: it is not OSV's export of that ecosystem.")
    return by_name, newest


def find(
    pins: Mapping[str, Version],
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    ignored: Collection[str] = (),
) -> Iterator[Finding]:
    """Yield the pins that records speak of, by name, except records that are ignored or withdrawn.

    Args:
        ignored: ids or aliases.
    """
    for name, version in sorted(pins.items()):
        for record in records.get(name, ()):
            called = {record["id"], *record.get("aliases", ())}
            if record.get("withdrawn") or called & set(ignored):
                continue
            own = [
                affected
                for affected in record["affected"]
                if affected.get("package", {}).get("ecosystem") == "PyPI"
                and canonicalize_name(affected["package"]["name"]) == name
            ]
            if any(_affects(affected, version) for affected in own):
                yield Finding(
                    name=name,
                    version=version,
                    record=record["id"],
                    aliases=tuple(record.get("aliases", ())),
                    summary=record.get("summary", ""),
                    fixed=tuple(
                        event["fixed"]
                        for affected in own
                        for events in _events(affected)
                        for event in events
                        if "fixed" in event
                    ),
                )


def _events(affected: Mapping[str, Any]) -> list[list[Mapping[str, str]]]:
    return [found["events"] for found in affected.get("ranges", ()) if found["type"] == "ECOSYSTEM"]


def _affects(affected: Mapping[str, Any], version: Version) -> bool:
    """Return whether one of the versions or ranges of a record holds a version.

    OSV's own rule: events in order of their versions; `introduced` begins, `fixed` ends before,
    `last_affected` ends after its version.
    """
    version = Version(version.public)  # 2.0+cpu is what 2.0 is
    if any(_version(named) == version for named in affected.get("versions", ())):
        return True
    for events in _events(affected):
        inside = False
        for event in sorted(events, key=_place):
            (kind, text), *_ = event.items()
            at = _version(text)
            if at is None:
                continue
            if kind == "introduced" and version >= at:
                inside = True
            elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
                inside = False
        if inside:
            return True
    return False


def _place(event: Mapping[str, str]) -> tuple[Version, bool]:
    (kind, text), *_ = event.items()
    return _version(text) or Version("0"), kind == "last_affected"


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:  # old releases have names that are no versions any more
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("requirements", type=Path, help="a file of NAME==VERSION lines")
    parser.add_argument("--database", type=Path, required=True, help="OSV's export of PyPI, a zip")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ID", help="again for more"
    )
    given = parser.parse_args(arguments)
    try:
        pins = read_pins(given.requirements)
        records, newest = read_database(given.database)
    except CannotTell as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    found = list(find(pins, records, given.ignore))
    for one in found:
        called = ", ".join((one.record, *one.aliases))
        fixed = f"; fixed in {', '.join(one.fixed)}" if one.fixed else "; not fixed yet"
        sys.stdout.write(f"{one.name} {one.version}: {called}{fixed}. {one.summary}\n")
    sys.stdout.write(
        f"{len(found)} known vulnerabilities in {len(pins)} pins, by a database whose newest "
        f"record is of {newest or 'an unknown time'}.\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
