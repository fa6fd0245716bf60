"""Files of new users: read block by block, and given back part by part.

A user's rows may be anywhere in the files, and adapting needs them together. They are therefore
first written to disk (in `TMPDIR`), without the text from which they were parsed.
"""

import collections
import contextlib
import dataclasses
import datetime
import tempfile
from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.config import fingerprint
from recmeta.logs.checking import attributes, checked
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import Inputs
from recmeta.progress import Progress, silent
from recmeta.steps.parts.user_parts import UserParts

ROWS_AT_ONCE = 500_000
"""About how many rows of interactions and profiles one part has, as one block of a file has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenUsers:
    """The data of new users from files and, if there is one, from the online store."""

    rows: UserParts
    """Interactions; a row without an item names a user without interactions."""
    profiles: UserParts | None
    num_rows: int
    """The number of rows in the files."""
    num_good: int
    """Rows that keep every rule."""
    faults: Mapping[str, int]
    """Rows that break a rule and say only whose they are, by what is wrong with them: see
    `checked.named_users` and `checked.faults`."""
    advice: str = ""
    """The most likely cause of the rule that most rows break, and the option that fixes it."""
    known: UserParts | None = None
    """Profiles of the online store."""
    online: str | None = None
    """Content id of those."""

    @property
    def num_parts(self) -> int:
        """Parts of the users that are in memory one at a time."""
        num_laid = self.rows.num_rows + (0 if self.profiles is None else self.profiles.num_rows)
        return max(1, -(-num_laid // ROWS_AT_ONCE))

    def parts(self) -> Iterator[tuple[pa.Table, pa.Table | None]]:
        """Yield interactions and profiles of a part of the users. Profiles are those of the online
        store, and the given ones of users whom it does not know."""
        for number in range(self.num_parts):
            profiles = self._given_profiles(number)
            if self.known is not None:
                known = pl.DataFrame(self.known.part(number, self.num_parts))
                if profiles is not None:
                    others = profiles.join(known, on=schema.USER_ID, how="anti")
                    known = pl.concat([known, others], how="diagonal")
                profiles = known
            plain = None if profiles is None else schema.with_plain_types(profiles.to_arrow())
            yield self.rows.part(number, self.num_parts), plain

    def with_online(self, feature_store: str, folder: str) -> "GivenUsers":
        """Return the same with the users' current profiles in a feature store, written to a
        folder."""
        from recmeta.features.feast_online import content_id, online_profiles
        from recmeta.features.feast_repository import open_store

        store = open_store(feature_store)
        known, ids = UserParts(folder), []
        for number in range(self.num_parts):
            named = [pl.DataFrame(self.rows.part(number, self.num_parts))[schema.USER_ID]]
            profiles = self._given_profiles(number)
            if profiles is not None:
                named.append(profiles[schema.USER_ID])
            everyone = pl.concat(named).drop_nulls().unique().sort().to_arrow().cast(pa.string())
            table = online_profiles(store, everyone)  # once for all users of the part
            known.add(table)
            ids.append(content_id(table))
        return dataclasses.replace(self, known=known, online=fingerprint(*ids))

    def _given_profiles(self, number: int) -> pl.DataFrame | None:
        if self.profiles is None:
            return None
        rows = pl.DataFrame(self.profiles.part(number, self.num_parts))
        return attributes.each_once(rows, schema.USER_ID)


@contextlib.contextmanager
def read(
    new_users: LogMapping,
    files: Inputs,
    feature_store: str | None,
    clock: datetime.datetime,
    progress: Progress = silent,
) -> Iterator[GivenUsers]:
    """Read the new users' files, and what is online of them; on disk until the block ends.

    Args:
        files: the files of `new_users`.
        feature_store: folder of a Feast repository, or a configuration in it; if None, there is
            none.
        clock: times more than a day after it are in the future.

    Raises:
        UserError: if a file does not fit its mapping.
    """
    with tempfile.TemporaryDirectory(prefix="recmeta-") as folder:
        rows = UserParts(f"{folder}/rows")
        num_rows = num_good = 0
        faults: collections.Counter[str] = collections.Counter()
        broken_rules: collections.Counter[str] = collections.Counter()
        examples: dict[str, pl.DataFrame] = {}
        for good, bad in checked.read_blocks(new_users, files.log, clock, progress):
            named, broken = checked.named_users(bad)
            block = pl.concat([good, named], how="diagonal")
            rows.add(_plain(block.drop(schema.FILE, schema.LINE, schema.RAW)))
            num_rows += good.height + bad.height
            num_good += good.height
            faults.update(checked.faults(broken))
            for rule, count in checked.faults(bad).items():
                broken_rules[rule] += count
                examples.setdefault(rule, bad.filter(pl.col(schema.RULES).list.contains(rule)))
        profiles = None
        if new_users.users is not None:
            profiles = UserParts(f"{folder}/profiles")
            for block, _ in attributes.read_blocks(new_users.users, files.users, schema.USER_ID):
                profiles.add(_plain(block))
        worst = next((rule for rule, _ in broken_rules.most_common(1)), None)
        given = GivenUsers(
            advice="" if worst is None else _advice(new_users, worst, examples[worst], files),
            rows=rows,
            profiles=profiles,
            num_rows=num_rows,
            num_good=num_good,
            faults=faults,
        )
        if feature_store is not None:
            given = given.with_online(feature_store, f"{folder}/online")
        yield given


def _advice(new_users: LogMapping, rule: str, bad: pl.DataFrame, files: Inputs) -> str:
    if rule == "missing_item_id":  # it names a user without interactions
        return ""
    return checked.advice(new_users, rule, bad, files.log).strip()


def _plain(rows: pl.DataFrame) -> pa.Table:
    return schema.with_plain_types(rows.to_arrow())
