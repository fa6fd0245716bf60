"""The removal of users from a feature store: the users' online tables are dropped and filled
again."""

import datetime
import sqlite3
from pathlib import Path

from recmeta.features.feast_repository import materialise, materialised_until, open_store
from recmeta.schema import USER_ID


def put_users_online_anew(repository: str) -> int:
    """Drop the online tables of users and fill them from the present offline tables.

    Feast has no way to delete a single entity that works with all online stores. Users have no
    online features until it is done.

    Returns:
        The number of these feature views.
    """
    store = open_store(repository)
    views = [view for view in store.list_feature_views() if view.join_keys == [USER_ID]]
    until = materialised_until(store)
    provider = store._get_provider()
    for dropped, kept in ((views, []), ([], views)):
        provider.update_infra(
            project=store.project,
            tables_to_delete=dropped,
            tables_to_keep=kept,
            entities_to_delete=[],
            entities_to_keep=[],
            partial=True,
        )
    if until is not None:
        materialise(store, max(until, datetime.datetime.now(datetime.UTC)))
    online = store.config.online_store
    if online.type == "sqlite":  # deleted rows stay in the file's free pages
        path = Path(online.path)
        place = path if path.is_absolute() else Path(store.repo_path) / path
        with sqlite3.connect(place) as database:
            database.execute("VACUUM")
        database.close()
    return len(views)
