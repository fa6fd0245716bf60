"""Users out of a feature store: what is online of users is dropped and put there anew."""

import datetime
import sqlite3
from pathlib import Path

from recmeta.features.feast_repository import materialise, materialised_until, open_store
from recmeta.schema import USER_ID


def put_users_online_anew(repository: str) -> int:
    """Drop the online tables of users and fill them from the offline tables as these are now.

    Feast has no way to delete one entity that all online stores know. Nothing is online of users
    for as long as it takes.

    Returns:
        How many feature views that were.
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
    if online.type == "sqlite":  # what was deleted stays in the file's free pages
        path = Path(online.path)
        place = path if path.is_absolute() else Path(store.repo_path) / path
        with sqlite3.connect(place) as database:
            database.execute("VACUUM")
        database.close()
    return len(views)
