"""The features that each model reads, under the model's name."""

import views
from feast import FeatureService

melu_v1 = FeatureService(
    name="melu_v1",
    features=[v for v in (views.user_profile, views.item_profile, views.item_statistics) if v],
    description="Profiles of user and item, and what had been seen of the item.",
)
