"""An offline store for Feast in Polars: point-in-time joins as lazy as-of joins over files.

It is named by its class path in `feature_store.yaml`:

    offline_store:
      type: recmeta.features.polars_offline_store.PolarsOfflineStore

`recmeta.features.offline.point_in_time` says when a row counts.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.errors import FeastJoinKeysDuringMaterialization
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import (
    _get_requested_feature_views_to_features_dict,
    _get_requested_on_demand_feature_views,
    compute_non_entity_date_range,
)

from recmeta.errors import UserError
from recmeta.features.offline.entity_frame import EVENT_TIMESTAMP, entity_frame
from recmeta.features.offline.point_in_time import FeatureLookup, point_in_time_join
from recmeta.features.offline.retrieval_job import PolarsRetrievalJob, as_feast_reads, time_span
from recmeta.features.offline.sources import Location

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class PolarsOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]  # Feast is not typed
    """The `offline_store` section of `feature_store.yaml`."""

    type: str = "recmeta.features.polars_offline_store.PolarsOfflineStore"
    """The class path of the store."""
    storage_options: dict[str, str] | None = None
    """Options of the object store, such as `AWS_REGION`. Unset options come from the
    environment."""


class PolarsOfflineStore(OfflineStore):  # type: ignore[misc]  # Feast is not typed
    """Reads Parquet files, folders and Delta tables. Nothing is read before a result is requested.

    It differs from Feast's Dask store, which drops and reorders entity rows: here every entity row
    is returned, once and in its place. A row without an event time was always known, and
    materialisation gives it the time 1970-01-01, since an online store needs a time.
    """

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pl.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **window: Any,
    ) -> PolarsRetrievalJob:
        """Return the entity rows with the features known at each row's time.

        Args:
            config, registry, project: those of the feature store.
            feature_views: the views that `feature_refs` name.
            feature_refs: `view:feature`.
            entity_df: a pandas or Polars frame of keys, times and any other columns. If None, all
                entities with a row from `start_date` on, as known at `end_date`.
            full_feature_names: whether to name features `view__feature`.
            filter_by_created_timestamp: whether to leave out rows that had not been created by an
                entity row's time.
            **window: `start_date` and `end_date` if there is no `entity_df`.

        Raises:
            UserError: for a missing source, column or key, or SQL.
        """
        requested, _ = _get_requested_feature_views_to_features_dict(
            feature_refs,
            feature_views,
            _get_requested_on_demand_feature_views(feature_refs, project, registry),
        )
        lookups = [
            _lookup(config, view, features, full_feature_names)
            for view, features in requested.items()
        ]
        if entity_df is None:
            start, end = compute_non_entity_date_range(feature_views, **window)
            entities, time = _entities_within(lookups, start, end), EVENT_TIMESTAMP
            span: tuple[datetime.datetime | None, datetime.datetime | None] = (start, end)
        else:
            frame, time = entity_frame(entity_df)
            entities, span = frame.lazy(), time_span(frame[time])
        return PolarsRetrievalJob(
            point_in_time_join(entities, time, lookups, created_before=filter_by_created_timestamp),
            config,
            engine="in-memory",  # it must hold all rows to sort them, which is twice as fast
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.collect_schema() if name != time],
                min_event_timestamp=span[0],
                max_event_timestamp=span[1],
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime.datetime | None = None,
        end_date: datetime.datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Return each entity's newest row of a span of time, both ends included.

        Ties are broken as in a point-in-time join. Rows without an event time are in every span.
        """
        rows = _rows_within(
            config,
            data_source,
            [*join_key_columns, *feature_name_columns],
            [timestamp_field, created_timestamp_column],
            start_date,
            end_date,
        )
        ages = [name for name in (timestamp_field, created_timestamp_column) if name]
        rows = rows.sort(ages, maintain_order=True)
        if join_key_columns:
            latest = rows.unique(join_key_columns, keep="last", maintain_order=True)
        else:
            latest = rows.tail(1).with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
        return PolarsRetrievalJob(latest.with_columns(_with_time(rows, timestamp_field)), config)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime.datetime | None = None,
        end_date: datetime.datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Return all rows of a span of time, both ends included.

        Rows without an event time are in every span.
        """
        rows = _rows_within(
            config,
            data_source,
            [*join_key_columns, *feature_name_columns],
            [timestamp_field, created_timestamp_column],
            start_date,
            end_date,
        )
        if not join_key_columns:
            rows = rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
        return PolarsRetrievalJob(rows.with_columns(_with_time(rows, timestamp_field)), config)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Add rows to a view's source: a commit to a Delta table, a further file to a folder.

        Args:
            table: the columns of the source, in any order, by their names there or in the view.

        Raises:
            UserError: if the columns differ from the source's.
        """
        location = Location(config, feature_view.batch_source)
        there = as_feast_reads(location.scan().head(0).collect()).schema
        column = {new: old for old, new in feature_view.batch_source.field_mapping.items()}
        table = table.rename_columns([column.get(name, name) for name in table.column_names])
        if set(there.names) != set(table.column_names):
            raise UserError(
                f"the rows for the feature view {feature_view.name!r} have the columns "
                f"{', '.join(table.column_names)}; its source has {', '.join(there.names)}."
            )
        location.append(table.select(there.names).cast(there))
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add served features to a folder of Parquet files.

        Args:
            data: the rows, or a folder of Parquet files with them.
        """
        destination = logging_config.destination
        table = pq.read_table(data) if isinstance(data, Path) else data
        Location(config, destination.to_data_source()).append(table, destination.partition_by)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Check that a source can be read and has its times.

        Raises:
            UserError: if it cannot be read, or has no times.
        """
        columns = Location(config, data_source).scan().collect_schema()
        for name in filter(
            None, (data_source.timestamp_field, data_source.created_timestamp_column)
        ):
            if name not in columns:
                raise UserError(
                    f"the data source {data_source.name!r} has no column {name!r}; it has "
                    f"{', '.join(columns)}."
                )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Return each column of a source with the name of its Arrow type."""
        schema = as_feast_reads(Location(config, data_source).scan().head(0).collect()).schema
        return [(field.name, str(field.type)) for field in schema]


def _lookup(
    config: RepoConfig, view: FeatureView, features: Sequence[str], full_feature_names: bool
) -> FeatureLookup:
    source = view.batch_source
    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    column = {new: old for old, new in source.field_mapping.items()}
    renamed = view.projection.join_key_map
    keys = [field.name for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]
    return FeatureLookup(
        view=view.projection.name_to_use(),
        rows=Location(config, source).scan(),
        keys={column.get(key, key): renamed.get(key, key) for key in keys},
        time=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=view.ttl,
        features={column.get(feature, feature): prefix + feature for feature in features},
    )


def _entities_within(
    lookups: Sequence[FeatureLookup], start: datetime.datetime, end: datetime.datetime
) -> pl.LazyFrame:
    """Return the keys with a row in any view within a span, each once, at the end of the span.

    Raises:
        UserError: if the views have different entities.
    """
    if len({frozenset(lookup.keys.values()) for lookup in lookups}) > 1:
        raise UserError(
            "the features are of different entities: ask for each entity's alone, or give the rows "
            "to be joined as entity_df."
        )
    names = list(lookups[0].keys.values())
    keys = [
        lookup.rows.filter(_within(lookup.rows, lookup.time, start, end)).select(
            pl.col(column).alias(name)
            for name, column in sorted((name, column) for column, name in lookup.keys.items())
        )
        for lookup in lookups
    ]
    if names:
        found = pl.concat(keys).drop_nulls().unique().sort(sorted(names)).select(names)
    else:
        found = pl.LazyFrame({EVENT_TIMESTAMP: [None]})
    at = pl.lit(end.astimezone(datetime.UTC)).cast(pl.Datetime("us", "UTC"))
    return found.with_columns(at.alias(EVENT_TIMESTAMP))


def _rows_within(
    config: RepoConfig,
    source: DataSource,
    columns: Sequence[str],
    times: Sequence[str | None],
    start: datetime.datetime | None,
    end: datetime.datetime | None,
) -> pl.LazyFrame:
    """Return a source's columns and times for the rows of a span."""
    rows = Location(config, source).scan()
    wanted = list(dict.fromkeys([*columns, *filter(None, times)]))
    known = rows.collect_schema()
    if not set(wanted) <= set(known):
        raise FeastJoinKeysDuringMaterialization(source.path, set(wanted), set(known))
    assert times[0]
    return rows.filter(_within(rows, times[0], start, end)).select(wanted)


def _within(
    rows: pl.LazyFrame, time: str, start: datetime.datetime | None, end: datetime.datetime | None
) -> pl.Expr:
    """Return whether a row lies in a span. Bounds in the column's own type allow files to be
    skipped."""
    dtype = rows.collect_schema()[time]
    inside = pl.lit(True)
    for bound, low in ((start, True), (end, False)):
        if bound is not None:
            limit = _as_literal(bound, dtype)
            inside &= pl.col(time) >= limit if low else pl.col(time) <= limit
    return pl.col(time).is_null() | inside


def _as_literal(bound: datetime.datetime, dtype: pl.DataType) -> pl.Expr:
    """Return a time as a literal of a column's type. A time without a zone is in UTC."""
    aware = bound if bound.tzinfo else bound.replace(tzinfo=datetime.UTC)
    limit = pl.lit(aware.astimezone(datetime.UTC)).cast(pl.Datetime("us", "UTC"))
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    return limit.dt.convert_time_zone(zone) if zone else limit.dt.replace_time_zone(None)


def _with_time(rows: pl.LazyFrame, time: str) -> pl.Expr:
    """Return the event times, or 1970 where there is none."""
    return pl.col(time).fill_null(_as_literal(EPOCH, rows.collect_schema()[time]))
