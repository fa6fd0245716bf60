"""The comparison of online features with offline features."""

import dataclasses
import datetime

import polars as pl
from feast import FeatureService, FeatureStore, FeatureView

from recmeta.errors import UserError
from recmeta.features.feast_repository import materialised_until
from recmeta.features.offline.entity_frame import EVENT_TIMESTAMP
from recmeta.features.offline.sources import Location
from recmeta.tasks.hashing import unit_hash

FEATURE = "feature"
ONLINE = "online"
OFFLINE = "offline"
ROWS_PER_READ = 10_000
"""The number of entity rows in a request to the online store."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkewReport:
    """The differences between the online store and the tables."""

    as_of: datetime.datetime
    """The time at which the offline features were read."""
    num_rows: int
    """The number of entity rows compared."""
    features: tuple[str, ...]
    """The features compared, `view__feature`."""
    differences: pl.DataFrame
    """A row for each value that differs: the keys, `feature`, `online`, `offline`, as text."""

    @property
    def num_values(self) -> int:
        """The number of values compared: rows times features."""
        return self.num_rows * len(self.features)

    @property
    def share(self) -> float:
        """The share of the values that differ, 0 to 1."""
        return self.differences.height / self.num_values if self.num_values else 0.0

    def by_feature(self) -> pl.DataFrame:
        """Return `feature` and `differences`, the number of differences, most first."""
        counts = self.differences.group_by(FEATURE).len("differences")
        return counts.sort("differences", FEATURE, descending=[True, False])


def compare_views(store: FeatureStore, num_entities: int | None = None) -> dict[str, SkewReport]:
    """Compare every online view, as of the end of its last materialisation.

    So values that are merely out of date are no skew, but rows that reached the tables since then
    with a time before that end are.

    Args:
        num_entities: the most users, and the most items, to compare: those with the smallest
            hashes, the same in every view. If None, all that have a row in the view's table.

    Returns:
        The reports by view, without those of empty tables.

    Raises:
        UserError: if nothing was applied, or a view was not materialised yet.
    """
    materialised_until(store)
    reports = {}
    for view in sorted(store.list_feature_views(), key=lambda view: str(view.name)):
        if not view.online:
            continue
        if view.most_recent_end_time is None:
            raise UserError(
                f"the feature view {view.name!r} has not been materialised: run `recmeta "
                "materialise-features` with --feature-store first."
            )
        entities = _entities(store, view, num_entities)
        if entities.is_empty():
            continue
        features = [f"{view.name}:{field.name}" for field in view.features]
        reports[view.name] = compare_online_offline(
            store, features, entities, as_of=view.most_recent_end_time
        )
    return reports


def _entities(store: FeatureStore, view: FeatureView, num_entities: int | None) -> pl.DataFrame:
    """Return keys from a view's table, those with the smallest hashes."""
    source = view.batch_source
    column = {new: old for old, new in source.field_mapping.items()}
    keys = [pl.col(column.get(key, key)).alias(key) for key in view.join_keys]
    found = Location(store.config, source).scan().select(keys).drop_nulls().unique().collect()
    if num_entities is None or found.height <= num_entities:
        return found.sort(view.join_keys)
    drawn = pl.Series(unit_hash(found[view.join_keys[0]].cast(pl.String).to_arrow(), 0))
    return found[drawn.arg_sort()[:num_entities]].sort(view.join_keys)


def compare_online_offline(
    store: FeatureStore,
    features: FeatureService | list[str],
    entities: pl.DataFrame,
    *,
    as_of: datetime.datetime | None = None,
) -> SkewReport:
    """Compare the features that the online store serves with those of the tables.

    Values count as equal only if they are exactly equal; a value that is missing on one side
    differs. Rows that came into the tables after the last materialisation differ, too: materialise
    first, or give the time of that materialisation.

    Args:
        store: the feature store.
        features: a feature service, or `view:feature`s.
        entities: the join keys of the features, one row per entity.
        as_of: the time at which to read the offline features, by default now.

    Raises:
        UserError: if there are no entities.
    """
    if entities.is_empty():
        raise UserError("there are no entities to compare features of: give at least one key.")
    as_of = as_of or datetime.datetime.now(datetime.UTC)
    keys = entities.columns
    asked = entities.with_columns(pl.lit(as_of).dt.convert_time_zone("UTC").alias(EVENT_TIMESTAMP))
    job = store.get_historical_features(asked, features, full_feature_names=True)
    offline = pl.DataFrame(job.to_arrow()).drop(EVENT_TIMESTAMP)
    names = [name for name in offline.columns if name not in keys]
    online = pl.concat(
        _online(store, features, batch, offline.select(names).schema)
        for batch in entities.iter_slices(ROWS_PER_READ)
    )
    sides = pl.concat([offline, online.rename(_online_name)], how="horizontal")
    differences = pl.concat(
        sides.filter(pl.col(name).ne_missing(pl.col(_online_name(name)))).select(
            *keys,
            pl.lit(name).alias(FEATURE),
            _text(_online_name(name), online.schema[name]).alias(ONLINE),
            _text(name, online.schema[name]).alias(OFFLINE),
        )
        for name in names
    )
    return SkewReport(
        as_of=as_of,
        num_rows=entities.height,
        features=tuple(names),
        differences=differences,
    )


def _online(
    store: FeatureStore,
    features: FeatureService | list[str],
    entities: pl.DataFrame,
    schema: pl.Schema,
) -> pl.DataFrame:
    response = store.get_online_features(
        features, entities.to_dict(as_series=False), full_feature_names=True
    ).to_dict()
    return pl.DataFrame({name: response[name] for name in schema}, schema=schema)


def _online_name(name: str) -> str:
    return f"{ONLINE}:{name}"


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.List):
        return pl.col(name).cast(pl.List(pl.String)).list.join(", ")
    return pl.col(name).cast(pl.String)
