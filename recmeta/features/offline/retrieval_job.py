"""The lazy plan of a request to the offline store, which runs when its result is requested."""

import datetime
from collections.abc import Sequence
from typing import Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from recmeta.features.offline.sources import Location


class PolarsRetrievalJob(RetrievalJob):  # type: ignore[misc]  # Feast is not typed
    """A lazy frame that Feast can turn into pandas, Arrow or a saved dataset."""

    def __init__(
        self,
        frame: pl.LazyFrame,
        config: RepoConfig,
        *,
        engine: Literal["auto", "in-memory"] = "auto",
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self.frame = frame
        """The result without on-demand features, not yet computed."""
        self._config = config
        self._engine = engine
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The feature views that Feast computes from the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """The requested features and keys and the span of the times, or None without entity
        rows."""
        return self._metadata

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Compute the result and write it to a Parquet file, a folder or a Delta table.

        Raises:
            SavedDatasetLocationAlreadyExists: if something exists there and may not be replaced.
        """
        location = Location(self._config, storage.to_data_source())
        if not allow_overwrite and location.exists():
            raise SavedDatasetLocationAlreadyExists(location=location.uri)
        location.write(self.to_arrow(timeout=timeout))

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return as_feast_reads(self.frame.collect(engine=self._engine))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal().to_pandas()


def as_feast_reads(frame: pl.DataFrame) -> pa.Table:
    """Return an Arrow table in one chunk, with 32-bit offsets and no dictionaries.

    Feast's materialisation writes only the first chunk, and takes a large string for JSON.
    """
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [pa.field(f.name, _plain(f.type)) for f in table.schema]
    return table.cast(pa.schema(fields)).combine_chunks()


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def time_span(times: pl.Series) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """Return the first and the last time of a column."""
    first, last = times.min(), times.max()
    assert first is None or isinstance(first, datetime.datetime)
    assert last is None or isinstance(last, datetime.datetime)
    return first, last
