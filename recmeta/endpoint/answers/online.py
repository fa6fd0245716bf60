"""Profiles of users out of Feast's online store."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from recmeta import schema
from recmeta.endpoint.answers.recommend import OnlineProfiles
from recmeta.serving.intake import Value


def online_profiles_of(feature_store: str) -> OnlineProfiles:
    """Return what reads profiles from the online store of a Feast repository, many at once.

    Raises:
        UserError: if there is no repository, or nothing was put online yet.
    """
    from recmeta.features.feast_online import online_profiles
    from recmeta.features.feast_repository import open_store

    store = open_store(feature_store)

    def read(user_ids: Sequence[str]) -> Mapping[str, Mapping[str, Value]]:
        table = online_profiles(store, pa.array(user_ids, pa.string()))
        return {row.pop(schema.USER_ID): row for row in table.to_pylist()}  # a row per request

    read([])  # says now, not at the first request, what is wrong
    return read
