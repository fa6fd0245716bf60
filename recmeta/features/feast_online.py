"""Profiles of users as the online store serves them to the models."""

import hashlib
import io

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore
from feast.feature_view_projection import FeatureViewProjection
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.types import from_feast_to_pyarrow_type

from recmeta.errors import UserError
from recmeta.features.feast_repository import materialised_until, model_service
from recmeta.schema import USER_ID

USERS_PER_READ = 10_000


def online_profiles(store: FeatureStore, user_id: pa.Array) -> pa.Table:
    """Return the features of users in the models' feature service.

    Args:
        user_id: the distinct ids, as strings.

    Returns:
        `user_id` and a column per feature of users. Users who are not in the online store have no
        row; those who are may have null features.

    Raises:
        UserError: if nothing was applied or materialised yet.
    """
    if materialised_until(store) is None:
        raise UserError(
            f"nothing is online in the feature store in {store.repo_path}: run `recmeta "
            "materialise-features` with --feature-store first."
        )
    views = _user_views(store)
    fields = [pa.field(USER_ID, pa.string())] + [
        pa.field(feature.name, from_feast_to_pyarrow_type(feature.dtype))
        for view in views
        for feature in view.features
    ]
    features = [f"{view.name_to_use()}:{field.name}" for view in views for field in view.features]
    if not features:
        return pa.schema(fields).empty_table()
    reads = [
        _read(store, features, user_id.slice(start, USERS_PER_READ), pa.schema(fields))
        for start in range(0, len(user_id), USERS_PER_READ)
    ]
    return pa.concat_tables([pa.schema(fields).empty_table(), *reads]).combine_chunks()


def content_id(table: pa.Table) -> str:
    """Return 16 hex digits that identify the content of a table."""
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(stream.getbuffer()).hexdigest()[:16]


def _user_views(store: FeatureStore) -> list[FeatureViewProjection]:
    """Return the service's views whose only key is the user."""
    return [
        projection
        for projection in model_service(store).feature_view_projections
        if store.get_feature_view(projection.name).join_keys == [USER_ID]
    ]


def _read(
    store: FeatureStore, features: list[str], user_id: pa.Array, columns: pa.Schema
) -> pa.Table:
    response = store.get_online_features(features, {USER_ID: user_id.to_pylist()})
    table = pa.Table.from_pydict(response.to_dict(), schema=columns)
    known = [False] * len(user_id)
    names = response.proto.metadata.feature_names.val
    for name, vector in zip(names, response.proto.results, strict=True):
        if name != USER_ID:
            known = pc.or_(known, pc.not_equal(list(vector.statuses), FieldStatus.NOT_FOUND))
    return table.filter(known)
