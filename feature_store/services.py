"""The features that each model reads, under the model's name."""

import views
from feast import FeatureService

from recmeta.schema import FEATURE_SERVICE

melu_v1 = FeatureService(
    name=FEATURE_SERVICE,
    features=[v for v in (views.user_profile, views.item_profile) if v],
    description="Profiles of user and item; the items' statistics come with the model.",
)
