"""Feast's file sources as lazy frames: Parquet files, folders of them, and Delta tables.

A path is local, relative to the feature repository, or an object-store URL. Credentials are those
of the source's connection or, without them, of the environment.
"""

import uuid
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.repo_config import RepoConfig

from recmeta.errors import UserError
from recmeta.workspace import Folder

PARQUET = (".parquet", ".pq")


class Location:
    """The place and the format of a file source's rows."""

    def __init__(self, config: RepoConfig, source: DataSource) -> None:
        """Find the location of a source.

        Raises:
            UserError: for a source that is not in files.
        """
        if not isinstance(source, FileSource):
            raise UserError(
                f"the data source {source.name!r} is a {type(source).__name__}; this offline store "
                "reads files: use a FileSource (Parquet or Delta)."
            )
        self.uri: str = FileSource.get_uri_for_file_path(config.repo_path, source.path)
        self.name: str = source.name or self.uri
        self._endpoint: str = source.s3_endpoint_override
        self._credentials: dict[str, str] = source.resolve_credentials() or {}
        self.storage_options = dict(config.offline_store.storage_options or {}) | self._connection()
        self.is_delta = isinstance(source.file_format, DeltaFormat) or (
            source.file_format is None and not self.uri.endswith(PARQUET) and self._has_delta_log()
        )

    @property
    def is_file(self) -> bool:
        """Whether this is, or will be, one Parquet file rather than a folder of them."""
        if self.is_delta:
            return False
        kind = self._kind()
        if kind == pafs.FileType.NotFound:
            return self.uri.endswith(PARQUET)
        return bool(kind == pafs.FileType.File)

    def exists(self) -> bool:
        """Return whether anything exists there."""
        if self.is_delta:
            return self._has_delta_log()
        return bool(self._kind() != pafs.FileType.NotFound)

    def scan(self) -> pl.LazyFrame:
        """Return the rows, which are read when a plan that needs them runs.

        Raises:
            UserError: if nothing exists there.
        """
        if not self.exists():
            raise UserError(
                f"the data source {self.name!r} has nothing at {self.uri}: write it first, or "
                "correct the path."
            )
        options: Any = self.storage_options or None
        if self.is_delta:
            return pl.scan_delta(self.uri, storage_options=options)
        end = "" if self.is_file else "/"  # the suffix by which an object store knows a folder
        return pl.scan_parquet(f"{self.uri.rstrip('/')}{end}", storage_options=options)

    def write(self, table: pa.Table) -> None:
        """Replace everything there by `table`."""
        if self.is_delta:
            write_deltalake(
                self.uri,
                table,
                mode="overwrite",
                schema_mode="overwrite",
                storage_options=self.storage_options or None,
            )
            return
        if self.is_file:
            self._write_file(table)
        else:
            self._write_folder(table, existing="delete_matching")

    def append(self, table: pa.Table, partitions: list[str] | None = None) -> None:
        """Add rows to the existing ones, if there are any.

        A single Parquet file is rewritten, a folder gets another file, and a Delta table a commit.

        Args:
            table: rows with the existing columns.
            partitions: the columns by whose values a folder is divided.
        """
        if self.is_delta:
            options = self.storage_options or None
            write_deltalake(self.uri, table, mode="append", storage_options=options)
        elif self.is_file:
            filesystem, path = self.filesystem()
            there = pq.read_table(path, filesystem=filesystem) if self.exists() else None
            self._write_file(
                table if there is None else pa.concat_tables([there, table.cast(there.schema)])
            )
        else:
            self._write_folder(table, existing="overwrite_or_ignore", partitions=partitions)

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        """Return the file system and the path in it."""
        if self._endpoint or self._credentials:
            filesystem, path = FileSource.create_filesystem_and_path(
                self.uri, self._endpoint, self._credentials
            )
            if filesystem is not None:
                return filesystem, path
        folder = Folder.at(self.uri)
        return folder.filesystem, folder.path

    def _write_file(self, table: pa.Table) -> None:
        filesystem, path = self.filesystem()
        folder, _, base = path.rpartition("/")
        Folder(filesystem, folder).write_parquet(base, table)

    def _write_folder(
        self, table: pa.Table, *, existing: str, partitions: list[str] | None = None
    ) -> None:
        filesystem, path = self.filesystem()
        pads.write_dataset(
            table,
            path,
            format="parquet",
            filesystem=filesystem,
            basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
            existing_data_behavior=existing,
            partitioning=partitions,
            partitioning_flavor="hive" if partitions else None,
        )

    def _connection(self) -> dict[str, str]:
        options = dict(self._credentials)
        if self._endpoint:
            options["AWS_ENDPOINT_URL"] = self._endpoint
            if self._endpoint.startswith("http://"):
                options["AWS_ALLOW_HTTP"] = "true"
        return options

    def _kind(self) -> pafs.FileType:
        filesystem, path = self.filesystem()
        return filesystem.get_file_info(path).type

    def _has_delta_log(self) -> bool:
        return bool(DeltaTable.is_deltatable(self.uri, self.storage_options or None))
