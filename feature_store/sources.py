"""The sources of features: the Delta tables of the workspace."""

import os
from pathlib import Path

from recmeta import schema
from recmeta.features.feast_definitions import table_source

PROJECT = Path(__file__).resolve().parents[1]
LOCATION = os.environ.get("RECMETA_WORKSPACE", "workspace")
WORKSPACE = LOCATION if "://" in LOCATION else str(PROJECT / LOCATION)
"""The local path (relative to the project's folder) or object-store URL at the time of `feast
apply`, which the registry remembers."""

users = table_source(WORKSPACE, schema.USERS, schema.VALID_FROM)
items = table_source(WORKSPACE, schema.ITEMS, schema.VALID_FROM)
user_activity_table = table_source(WORKSPACE, schema.USER_ACTIVITY, schema.TIMESTAMP)
item_activity_table = table_source(WORKSPACE, schema.ITEM_ACTIVITY, schema.TIMESTAMP)
user_capsules = table_source(WORKSPACE, schema.USER_CAPSULES, schema.ADAPTED_AT)
item_vectors = table_source(WORKSPACE, schema.ITEM_VECTORS, schema.EXPORTED_AT)
item_statistics_table = table_source(WORKSPACE, schema.ITEM_STATISTICS, schema.TIMESTAMP)
