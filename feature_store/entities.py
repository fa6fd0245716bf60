"""The entities that have features."""

from feast import Entity, ValueType

from recmeta.schema import ITEM_ID, USER_ID

user = Entity(
    name="user",
    join_keys=[USER_ID],
    value_type=ValueType.STRING,
    description="A person, by the id that the logs give.",
)
item = Entity(
    name="item",
    join_keys=[ITEM_ID],
    value_type=ValueType.STRING,
    description="What can be recommended, by the id that the logs give.",
)
