"""The feature views: what was known of users and items at a time."""

import datetime

import sources
from entities import item, user
from feast import Entity, FeatureView, Field, FileSource

from recmeta import schema
from recmeta.features.feast_definitions import attribute_fields, exported_fields, fields

FOREVER = datetime.timedelta(days=36_500)
"""A feature holds until a newer one comes. The TTL is not zero, because Feast takes zero for a year
when it materialises for the first time."""


def view(
    name: str,
    entity: Entity,
    source: FileSource,
    features: list[Field],
    description: str,
    *,
    online: bool = True,
) -> FeatureView | None:
    """Return a feature view, or None if there are no features, since Feast allows no empty view."""
    if not features:
        return None
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=FOREVER,
        schema=features,
        source=source,
        online=online,
        description=description,
    )


user_profile = view(
    "user_profile",
    user,
    sources.users,
    attribute_fields(sources.WORKSPACE, schema.USERS),
    "The attributes that the log gives of a user.",
)
item_profile = view(
    "item_profile",
    item,
    sources.items,
    attribute_fields(sources.WORKSPACE, schema.ITEMS),
    "The attributes that the log gives of an item.",
)
user_activity = view(
    "user_activity",
    user,
    sources.user_activity_table,
    fields(schema.USER_ACTIVITY),
    "A user's interactions before midnight: how many, and their mean value, ever and of late.",
)
item_activity = view(
    "item_activity",
    item,
    sources.item_activity_table,
    fields(schema.ITEM_ACTIVITY),
    "An item's popularity and mean value before midnight, ever and of late.",
)
item_statistics = view(
    "item_statistics",
    item,
    sources.item_statistics_table,
    fields(schema.ITEM_STATISTICS),
    "What tasks read of an item: the users who had met it and the sum of what they first gave it.",
    online=False,  # a model reads the statistics that it was trained with
)
user_capsule = view(
    "user_capsule",
    user,
    sources.user_capsules,
    exported_fields(sources.WORKSPACE, schema.USER_CAPSULES, schema.ADAPTED_AT),
    "What a version of the model has learned of a user: with item_vector, the server's scores.",
)
item_vector = view(
    "item_vector",
    item,
    sources.item_vectors,
    exported_fields(sources.WORKSPACE, schema.ITEM_VECTORS, schema.EXPORTED_AT),
    "An item as the exported version of the model has it.",
)
