"""A log of users and items in memory, checked as `recmeta ingest` checks one.

>>> import recmeta
>>> from recmeta.testing.synthetic import SyntheticConfig, generate
>>> log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(5, 12)), seed=0)
>>> data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
>>> data
Dataset(60 users, 30 items, ... interactions, 0 in quarantine)
>>> data.counts.rows_read == data.counts.accepted == data.interactions.num_rows
True
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Generic

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from recmeta import schema
from recmeta.api.arguments import id_text
from recmeta.api.data.checked_log import COLUMNS, CheckedLog, check_files, check_frames
from recmeta.api.data.columns import Columns
from recmeta.api.data.frames import FrameT, Kind, kind_of, out
from recmeta.api.data.log_frames import (
    INTERACTIONS,
    Feedback,
    csr_frame,
    of_frames,
    scale_text,
)
from recmeta.api.data.recbole import recbole_mapping
from recmeta.config import fingerprint, parse
from recmeta.errors import UserError, did_you_mean, shown
from recmeta.logs.mapping import EARLIEST_TIME, LogMapping, load_mapping
from recmeta.progress import Progress, silent
from recmeta.steps.parts.task_building import BuildTasksConfig, write_tasks
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import MemoryFolder


class Dataset(Generic[FrameT]):
    """A log in memory: the rows that keep every rule, users and items, and the rows that do not.

    Make one with `from_frame`, `from_csr`, `from_mapping` or `from_recbole`. It returns frames of
    the library whose frames it was made from, and Polars frames if it was made from files or a
    matrix.
    """

    def __init__(self, log: CheckedLog, *, columns: Columns, kind: Kind) -> None:
        """Hold a checked log; the class methods check one."""
        self._rows = log.rows
        self._users = log.users
        self._items = log.items
        self._quarantine = log.quarantine
        self.counts = log.counts
        """The counts of accepted, duplicate and refused rows."""
        self.columns = columns
        """The names of the frame's columns, which `adapt` also accepts."""
        self.kind = kind
        """The library of the frames."""
        self._built: dict[str, TaskSet] = {}

    @classmethod
    def from_frame(
        cls,
        interactions: FrameT,
        *,
        items: Any = None,
        users: Any = None,
        user_id: str = schema.USER_ID,
        item_id: str = schema.ITEM_ID,
        timestamp: str | None = schema.TIMESTAMP,
        value: str | None = schema.VALUE,
        event: str | None = schema.EVENT,
        scale: tuple[float | None, float | None] | None = None,
        feedback: Feedback | None = None,
        time_unit: str | None = None,
        earliest_time: str = EARLIEST_TIME,
        max_bad_share: float = 0.1,
    ) -> "Dataset[FrameT]":
        """Return the data set of a frame with a row per interaction.

        Args:
            interactions: a pandas or Polars DataFrame, or a pyarrow Table. Ids may be of any type.
            items: a frame with a row per item: the column of its id, and its attributes. Lists show
                the attribute `title`. With a column `valid_from` there may be several rows per
                item, each valid from its time on.
            users: a frame with a row per user, in the same form.
            user_id: the column of the users' ids.
            item_id: the column of the items' ids.
            timestamp: the column of the times. It may be absent, and is not read if None. Without
                times a user's rows are split at random.
            value: the column of the values, which may be absent and is not read if None. Without
                values every row is a click.
            event: the column of the kinds of event, which may be absent and is not read if None.
            scale: the lowest and the highest value allowed, such as (1, 5); None for an open end.
            feedback: `rating` or `implicit`. If None, the rows are ratings where there are values
                and no kinds of event that say otherwise.
            time_unit: s, ms, us, ns (since 1970), iso, or a strptime format. If None, it is
                recognised from the times. Typed times need no unit.
            earliest_time: a log most of whose times are before this day is refused, because its
                times are probably in another unit.
            max_bad_share: the largest share of the rows, 0 to 1, that may break a rule.

        Raises:
            UserError: if a column is missing, too many rows are bad, or the times are too early.
                The message names the nearest column.

        Warns:
            UserWarning: if something is striking about the log as a whole.

        >>> import polars as pl
        >>> ratings = pl.DataFrame({"user_id": [7, 7, 8], "film": [1, 2, 1], "stars": [4, 5, 9]})
        >>> data = Dataset.from_frame(
        ...     ratings, item_id="film", value="stars", scale=(1, 5), max_bad_share=0.5
        ... )
        >>> data.counts.accepted, data.quarantine["line"].to_list()
        (2, [3])
        """
        columns = Columns(
            user_id=user_id, item_id=item_id, timestamp=timestamp, value=value, event=event
        )
        log = of_frames(
            interactions,
            users=users,
            items=items,
            columns=columns,
            scale=scale,
            feedback=feedback,
            unit=time_unit,
            earliest_time=earliest_time,
            max_bad_share=max_bad_share,
        )
        kind = kind_of(interactions, INTERACTIONS)
        return cls(check_frames(log), columns=log.columns, kind=kind)

    @classmethod
    def from_csr(
        cls,
        matrix: Any,
        *,
        user_ids: Sequence[Any] | None = None,
        item_ids: Sequence[Any] | None = None,
        items: Any = None,
        users: Any = None,
        scale: tuple[float | None, float | None] | None = None,
        feedback: Feedback | None = None,
        max_bad_share: float = 0.1,
    ) -> "Dataset[pl.DataFrame]":
        """Return the data set of a user-item matrix, which has no times.

        Args:
            matrix: (users, items), sparse in compressed rows, such as SciPy's csr_array.
            user_ids: the ids of the matrix's rows; if None, the rows are numbered.
            item_ids: the ids of the matrix's columns; if None, the columns are numbered.
            items: a frame of items, as for `from_frame`.
            users: a frame of users, as for `from_frame`.
            scale: the lowest and the highest value allowed.
            feedback: `rating` or `implicit`. If None, it is `implicit` where all values are 1, and
                `rating` otherwise.
            max_bad_share: the largest share of the rows, 0 to 1, that may break a rule.

        Raises:
            UserError: if `matrix` is not such a matrix, and as for `from_frame`.

        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> two_by_three = SimpleNamespace(  # or a scipy.sparse.csr_array
        ...     indptr=np.array([0, 2, 3]), indices=np.array([0, 2, 1]),
        ...     data=np.array([5.0, 3.0, 4.0]), shape=(2, 3),
        ... )
        >>> data = Dataset.from_csr(two_by_three, item_ids=["a", "b", "c"])
        >>> data.interactions["item_id"].to_list()
        ['a', 'c', 'b']
        """
        frame = csr_frame(matrix, user_ids, item_ids)
        if feedback is None and frame.height and (frame[schema.VALUE] == 1).all():
            feedback = "implicit"
        log = of_frames(
            frame,
            users=users,
            items=items,
            columns=Columns(),
            scale=scale,
            feedback=feedback,
            max_bad_share=max_bad_share,
        )
        return Dataset[pl.DataFrame](check_frames(log), columns=log.columns, kind="polars")

    @classmethod
    def from_mapping(
        cls,
        mapping: "LogMapping | Mapping[str, Any] | str | os.PathLike[str]",
        *,
        progress: Progress = silent,
    ) -> "Dataset[pl.DataFrame]":
        """Return the data set of a log in files that a mapping describes.

        Args:
            mapping: a `LogMapping`, nested tables with its values, or the path of a TOML or JSON
                file that holds them; see docs/how-to/own-logs.md.
            progress: a function that is called with the name of a stage, what is done and of how
                much.

        Raises:
            UserError: if the mapping does not fit the files, or too many rows are bad.

        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "log.csv").write_text("user_id,item_id,stars\\nann,1,4\\nbob,1,2\\n")
        >>> Dataset.from_mapping({"path": str(folder / "log.csv"), "value_col": "stars"})
        Dataset(2 users, 1 item, 2 interactions, 0 in quarantine)
        """
        found = as_mapping(mapping)
        columns = Columns(
            user_id=found.user_col,
            item_id=found.item_col,
            timestamp=found.time_col,
            value=found.value_col,
            event=found.event_col,
        )
        log = check_files(found, progress)
        return Dataset[pl.DataFrame](log, columns=columns, kind="polars")

    @classmethod
    def from_recbole(
        cls,
        place: str | os.PathLike[str],
        *,
        user_id: str = schema.USER_ID,
        item_id: str = schema.ITEM_ID,
        timestamp: str | None = schema.TIMESTAMP,
        value: str | None = "rating",
        scale: tuple[float | None, float | None] | None = None,
        earliest_time: str = EARLIEST_TIME,
        max_bad_share: float = 0.1,
    ) -> "Dataset[pl.DataFrame]":
        """Return the data set of RecBole's atomic files.

        Args:
            place: the folder with `NAME.inter` and, where there are attributes, `NAME.user` and
                `NAME.item`, or the path of `NAME.inter`.
            user_id: the field of the users' ids, without its type.
            item_id: the field of the items' ids, without its type.
            timestamp: the field of the times, without its type; it is not read if None.
            value: the field of the values, without its type; it is not read if None.
            scale: the lowest and the highest value allowed.
            earliest_time: as for `from_frame`.
            max_bad_share: the largest share of the rows, 0 to 1, that may break a rule.

        Raises:
            UserError: if a file or a field is missing, and as for `from_mapping`.

        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> rows = ["user_id:token\\titem_id:token", "ann\\tx", "bob\\tx"]
        >>> _ = (folder / "toy.inter").write_text("\\n".join(rows))
        >>> Dataset.from_recbole(folder).interactions["event"].to_list()
        ['click', 'click']
        """
        columns = Columns(
            user_id=user_id, item_id=item_id, timestamp=timestamp, value=value, event=None
        )
        mapping = recbole_mapping(place, columns, scale_text(scale))
        mapping = dataclasses.replace(
            mapping, earliest_time=earliest_time, max_bad_share=max_bad_share
        )
        found = cls.from_mapping(mapping)
        found.columns = columns
        return found

    def __repr__(self) -> str:
        num_users, num_items = (self._rows[n].n_unique() for n in (schema.USER_ID, schema.ITEM_ID))
        return (
            f"Dataset({counted(num_users, 'user')}, {counted(num_items, 'item')}, "
            f"{counted(self._rows.height, 'interaction')}, {self._quarantine.height:,} in "
            "quarantine)"
        )

    @property
    def interactions(self) -> FrameT:
        """The rows that keep every rule, one per user, item, time and kind of event, sorted:
        `user_id`, `item_id` (text), `timestamp` (UTC, null without times), `event`, `value`."""
        return self._out(self._rows)

    @property
    def users(self) -> FrameT:
        """The users' attributes: `user_id`, `valid_from` (null if always valid), and the
        attributes."""
        return self._out(self._users)

    @property
    def items(self) -> FrameT:
        """The items' attributes: `item_id`, `valid_from` (null if always valid), and the
        attributes."""
        return self._out(self._items)

    @property
    def quarantine(self) -> FrameT:
        """The rows that were refused: `file` (the frame or file), `line` (from 1), `rules` (all
        broken rules) and `raw` (the row as JSON or text)."""
        return self._out(self._quarantine)

    def rows(self, *user_ids: Any) -> FrameT:
        """Return the interactions of some users, ready for `recommend` or `adapt`.

        Raises:
            UserError: for a user without interactions.

        >>> import polars as pl
        >>> data = Dataset.from_frame(pl.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"]}))
        >>> data.rows(2)["item_id"].to_list()
        ['y']
        """
        wanted = [id_text(user_id, "user_id") for user_id in user_ids]
        known = self._rows[schema.USER_ID].unique()
        for user_id in wanted:
            if user_id not in known:
                hint = did_you_mean(user_id, known.to_list())
                raise UserError(f"the data set has no user {shown(user_id)}.{hint}")
        return self._out(self._rows.filter(pl.col(schema.USER_ID).is_in(wanted)))

    def user_ids(self) -> pa.Array:
        """Return the ids of all users with interactions, sorted."""
        return self._rows[schema.USER_ID].unique().sort().to_arrow().cast(pa.string())

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that identify these interactions, whatever library or file they came from.
        Attributes do not count."""
        digest = hashlib.sha256()
        table = self._arrow()
        for name in table.column_names:
            column = table[name].combine_chunks()
            if pa.types.is_string(column.type):
                digest.update(np.ascontiguousarray(pc.binary_length(column).to_numpy()).tobytes())
                digest.update("".join(column.to_pylist()).encode())
                continue
            if pa.types.is_timestamp(column.type):
                column = pc.fill_null(column.cast(pa.int64()), int(np.iinfo(np.int64).min))
            digest.update(column.to_numpy(zero_copy_only=False).tobytes())
        return digest.hexdigest()[:16]

    def task_set(self, config: BuildTasksConfig, progress: Progress = silent) -> TaskSet:
        """Return the users' tasks, as `recmeta build-tasks` builds them, in memory. The last result
        is cached.

        Raises:
            UserError: if the filters leave no task, or an option does not fit the log.
        """
        key = fingerprint(config)
        if key not in self._built:
            folder = MemoryFolder()
            log = self._arrow()
            for name in (schema.ITEM_ID, schema.EVENT):
                place = log.column_names.index(name)
                log = log.set_column(place, name, log[name].dictionary_encode())
            write_tasks(
                config,
                dataset.dataset(log),
                self._users.lazy(),
                self._items.lazy(),
                folder / "tasks",
                text_vectors=folder / "text_vectors",
                progress=progress,
            )
            self._built = {key: TaskSet(folder / "tasks")}
        return self._built[key]

    def _arrow(self) -> pa.Table:
        plain = self._rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        fields = [schema.INTERACTIONS.columns.field(name) for name in COLUMNS]
        return plain.cast(pa.schema(fields))

    def _out(self, rows: pl.DataFrame) -> FrameT:
        found: FrameT = out(rows, self.kind)
        return found


def check_data(data: Any) -> None:
    """Raise UserError if the data is no `Dataset`. The message says how to make one."""
    if isinstance(data, Dataset):
        return
    how = "Dataset.from_mapping" if isinstance(data, str | os.PathLike) else "Dataset.from_frame"
    raise UserError(
        f"the data is a {type(data).__name__}; it must be a Dataset: make one with recmeta.{how}."
    )


def as_mapping(mapping: "LogMapping | Mapping[str, Any] | str | os.PathLike[str]") -> LogMapping:
    """Return a mapping from any of its forms.

    Raises:
        UserError: if the file cannot be read, or holds something that is no mapping.
    """
    if isinstance(mapping, LogMapping):
        return mapping
    if isinstance(mapping, Mapping):
        return parse(LogMapping, mapping)
    if not isinstance(mapping, str | os.PathLike):
        raise UserError(
            f"the mapping is a {type(mapping).__name__}; it must be a LogMapping, nested tables of "
            "values, or the path of a TOML or JSON file."
        )
    return load_mapping(os.fspath(mapping))


def counted(number: int, what: str) -> str:
    """Return a number of things in words, such as `1,682 items`."""
    return f"{number:,} {what}{'s' * (number != 1)}"
