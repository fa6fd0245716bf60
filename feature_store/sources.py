"""Where features come from: the Delta tables of the workspace."""

import os
from pathlib import Path

from recmeta import schema
from recmeta.features.feast_definitions import table_source

WORKSPACE = os.environ.get("RECMETA_WORKSPACE", str(Path(__file__).parents[1] / "workspace"))
"""Local path or object-store URL, as of `feast apply`; the registry remembers it."""

users = table_source(WORKSPACE, schema.USERS, schema.VALID_FROM)
items = table_source(WORKSPACE, schema.ITEMS, schema.VALID_FROM)
user_activity_table = table_source(WORKSPACE, schema.USER_ACTIVITY, schema.TIMESTAMP)
item_activity_table = table_source(WORKSPACE, schema.ITEM_ACTIVITY, schema.TIMESTAMP)
item_statistics_table = table_source(WORKSPACE, schema.ITEM_STATISTICS, schema.TIMESTAMP)
