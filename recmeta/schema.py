"""The only spelling of every column and table.

Tables live as Delta Lake tables under one workspace; docs/tables.md explains each column to
analysts.
"""

import dataclasses
from typing import Final

import pyarrow as pa

# Times, in microseconds since 1970 ---------------------------------------------------------------
ALWAYS: Final = -(2**63)
"""Before everything: from here on holds what has no beginning."""
END_OF_TIME: Final = 2**63 - 1
"""The end of time: as of here, everything is known."""

# Columns -----------------------------------------------------------------------------------------
USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
TIMESTAMP: Final = "timestamp"
EVENT: Final = "event"
VALUE: Final = "value"
SOURCE: Final = "source"
INGESTED_AT: Final = "ingested_at"

FILE: Final = "file"
LINE: Final = "line"
RULES: Final = "rules"
RAW: Final = "raw"

VALID_FROM: Final = "valid_from"
TITLE: Final = "title"
TEXT_VECTOR: Final = "text_vector"
"""The attribute that holds the vector of an item's text."""

CUT_TIME: Final = "cut_time"
SNAPSHOT: Final = "snapshot"
SPLIT: Final = "split"
STATE: Final = "state"
SUPPORT_ITEM: Final = "support_item"
SUPPORT_VALUE: Final = "support_value"
SUPPORT_COUNTED: Final = "support_counted"
QUERY_ITEM: Final = "query_item"
QUERY_VALUE: Final = "query_value"
QUERY_COUNTED: Final = "query_counted"

NUM_USERS: Final = "num_users"
SUM_VALUES: Final = "sum_values"

NUM_INTERACTIONS: Final = "num_interactions"
MEAN_VALUE: Final = "mean_value"
ACTIVITY_WINDOWS: Final = (7, 28)  # days; the columns of a window end in `_7d`, `_28d`

RANK: Final = "rank"
PROPENSITY: Final = "propensity"
RELATIVE_LIKELIHOOD: Final = "relative_likelihood"
SCORE: Final = "score"
MODEL_VERSION: Final = "model_version"
UNCERTAINTY: Final = "uncertainty"
BECAUSE_ITEM: Final = "because_item"
LISTED_BY: Final = "listed_by"
SCORED_AT: Final = "scored_at"
RUN: Final = "run"

FINGERPRINT: Final = "fingerprint"
ADAPTED_AT: Final = "adapted_at"
EXPORTED_AT: Final = "exported_at"
VECTOR: Final = "vector"
KEYS: Final = "keys"
KEY_WEIGHTS: Final = "key_weights"
LAYERS: Final = "layers"
FEATURES: Final = "features"

DATE: Final = "date"
PUBLISHED_AT: Final = "published_at"

FEATURE_SERVICE: Final = "melu_v1"
"""The feature service, in Feast, of the features that models read in training and in scoring."""

RATING_EVENT: Final = "rating"
"""The kind of event whose value says how much a user likes an item."""

INTERACTIONS_ID: Final = "interactions_id"
"""Delta's own name of the interactions table, drawn when the table was made."""

TIME = pa.timestamp("us", tz="UTC")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """One Delta table: its name, its columns and the columns that identify a row."""

    name: str
    columns: pa.Schema
    key: tuple[str, ...]

    @property
    def path(self) -> str:
        """The table's folder in a workspace."""
        return f"tables/{self.name}"


INTERACTIONS = Table(
    name="interactions",
    columns=pa.schema(
        [
            pa.field(USER_ID, pa.string(), nullable=False),
            pa.field(ITEM_ID, pa.string(), nullable=False),
            pa.field(TIMESTAMP, TIME),  # null where the source has no times
            pa.field(EVENT, pa.string(), nullable=False),
            pa.field(VALUE, pa.float64(), nullable=False),
            pa.field(SOURCE, pa.string(), nullable=False),  # id of the ingest that brought the row
            pa.field(INGESTED_AT, TIME, nullable=False),
        ]
    ),
    key=(USER_ID, ITEM_ID, TIMESTAMP, EVENT),
)

QUARANTINE = Table(
    name="quarantine",
    columns=pa.schema(
        [
            pa.field(SOURCE, pa.string(), nullable=False),
            pa.field(FILE, pa.string(), nullable=False),
            pa.field(LINE, pa.int64(), nullable=False),  # 1-based, as an editor shows it
            pa.field(RULES, pa.list_(pa.string()), nullable=False),
            pa.field(RAW, pa.string(), nullable=False),  # the row as it stood in the file
            pa.field(INGESTED_AT, TIME, nullable=False),
            # What could be read of the row, as its source is spelled; null where nothing could, and
            # in rows of versions that did not say.
            pa.field(USER_ID, pa.string()),
            pa.field(ITEM_ID, pa.string()),
            pa.field(TIMESTAMP, TIME),
            pa.field(EVENT, pa.string()),
            pa.field(VALUE, pa.float64()),
        ]
    ),
    key=(SOURCE, FILE, LINE),
)

# users and items carry, beside these columns, one column per attribute, typed by its kind:
# categorical and text: string; multi-valued: list of strings; numeric: float64.
USERS = Table(
    name="users",
    columns=pa.schema([pa.field(USER_ID, pa.string(), nullable=False), pa.field(VALID_FROM, TIME)]),
    key=(USER_ID, VALID_FROM),
)
ITEMS = Table(
    name="items",
    columns=pa.schema([pa.field(ITEM_ID, pa.string(), nullable=False), pa.field(VALID_FROM, TIME)]),
    key=(ITEM_ID, VALID_FROM),
)

# One row: the users who had met an item before `timestamp`, and the sum of what each first gave it.
ITEM_STATISTICS = Table(
    name="item_statistics",
    columns=pa.schema(
        [
            pa.field(ITEM_ID, pa.string(), nullable=False),
            pa.field(TIMESTAMP, TIME, nullable=False),
            pa.field(NUM_USERS, pa.int64(), nullable=False),
            pa.field(SUM_VALUES, pa.float64(), nullable=False),
        ]
    ),
    key=(ITEM_ID, TIMESTAMP),
)


def _activity(entity: str) -> pa.Schema:
    """Return the columns of a table of activity: of all time, then of each window."""
    numbers = [
        field
        for end in ("", *(f"_{days}d" for days in ACTIVITY_WINDOWS))
        for field in (
            pa.field(NUM_INTERACTIONS + end, pa.int64(), nullable=False),
            pa.field(MEAN_VALUE + end, pa.float64()),  # null without interactions
        )
    ]
    key = [pa.field(entity, pa.string(), nullable=False), pa.field(TIMESTAMP, TIME, nullable=False)]
    return pa.schema(key + numbers)


# One row: the interactions before `timestamp`, a midnight, of a user or with an item; a row a day
# on which the numbers changed.
USER_ACTIVITY = Table(name="user_activity", columns=_activity(USER_ID), key=(USER_ID, TIMESTAMP))
ITEM_ACTIVITY = Table(name="item_activity", columns=_activity(ITEM_ID), key=(ITEM_ID, TIMESTAMP))

RECOMMENDATIONS = Table(
    name="recommendations",
    columns=pa.schema(
        [
            pa.field(RUN, pa.string(), nullable=False),
            pa.field(USER_ID, pa.string(), nullable=False),
            pa.field(RANK, pa.int32(), nullable=False),  # 1 is the best
            pa.field(ITEM_ID, pa.string(), nullable=False),
            pa.field(SCORE, pa.float32(), nullable=False),
            pa.field(MODEL_VERSION, pa.string(), nullable=False),
            pa.field(SCORED_AT, TIME, nullable=False),
            pa.field(UNCERTAINTY, pa.float32()),  # null where the model has none
            pa.field(BECAUSE_ITEM, pa.string()),  # null where no interaction raises the score
            pa.field(LISTED_BY, pa.string()),  # null in rows of versions that did not say
            pa.field(PROPENSITY, pa.float32()),  # the same
            pa.field(RELATIVE_LIKELIHOOD, pa.float32()),  # the same
        ]
    ),
    key=(RUN, USER_ID, RANK),
)

# One row: a run of `recommendations` whose lists are those that stand for a day.
PUBLISHED = Table(
    name="published",
    columns=pa.schema(
        [
            pa.field(DATE, pa.date32(), nullable=False),
            pa.field(RUN, pa.string(), nullable=False),
            pa.field(MODEL_VERSION, pa.string(), nullable=False),
            pa.field(NUM_USERS, pa.int64(), nullable=False),
            pa.field(PUBLISHED_AT, TIME, nullable=False),
        ]
    ),
    key=(DATE, RUN),
)

# One row: a user as a model's version has adapted to them. The user's score of an item is the
# product of both vectors, the weights of the item's keys, and the layers' output for its features.
USER_CAPSULES = Table(
    name="user_capsules",
    columns=pa.schema(
        [
            pa.field(RUN, pa.string(), nullable=False),
            pa.field(USER_ID, pa.string(), nullable=False),
            pa.field(ADAPTED_AT, TIME, nullable=False),
            pa.field(MODEL_VERSION, pa.string(), nullable=False),
            pa.field(FINGERPRINT, pa.string(), nullable=False),
            pa.field(NUM_INTERACTIONS, pa.int64(), nullable=False),
            pa.field(VECTOR, pa.list_(pa.float32()), nullable=False),
            pa.field(KEYS, pa.list_(pa.int32()), nullable=False),
            pa.field(KEY_WEIGHTS, pa.list_(pa.float32()), nullable=False),
            pa.field(LAYERS, pa.list_(pa.float32())),  # null where nothing but the vector adapts
        ]
    ),
    key=(USER_ID, ADAPTED_AT),
)

# The items of the model whose vectors were exported last.
ITEM_VECTORS = Table(
    name="item_vectors",
    columns=pa.schema(
        [
            pa.field(ITEM_ID, pa.string(), nullable=False),
            pa.field(MODEL_VERSION, pa.string(), nullable=False),
            pa.field(FINGERPRINT, pa.string(), nullable=False),
            pa.field(VECTOR, pa.list_(pa.float32()), nullable=False),
            pa.field(KEYS, pa.list_(pa.int32()), nullable=False),
            pa.field(FEATURES, pa.list_(pa.float32())),  # null where no layers read them
            pa.field(EXPORTED_AT, TIME),  # null in rows of versions that did not say
        ]
    ),
    key=(ITEM_ID,),
)

TABLES = (
    INTERACTIONS,
    QUARANTINE,
    USERS,
    ITEMS,
    ITEM_STATISTICS,
    USER_ACTIVITY,
    ITEM_ACTIVITY,
    RECOMMENDATIONS,
    PUBLISHED,
    USER_CAPSULES,
    ITEM_VECTORS,
)


def with_plain_types(table: pa.Table) -> pa.Table:
    """Return a table whose strings and lists have 32-bit offsets and whose integers are 64 bits
    wide.

    Libraries differ in which of Arrow's types they hand out; the core reads these.
    """

    def plain(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            return pa.string()
        if pa.types.is_dictionary(kind):
            return plain(kind.value_type)
        if pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
            return pa.list_(plain(kind.value_type))
        if pa.types.is_list(kind):
            return pa.list_(plain(kind.value_type))
        if pa.types.is_floating(kind):
            return pa.float64()
        return pa.int64() if pa.types.is_integer(kind) else kind

    fields = [pa.field(f.name, plain(f.type)) for f in table.schema]
    return table.cast(pa.schema(fields))
