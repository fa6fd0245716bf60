"""Which features a model reads, in the feature store's names.

They come from the model's own encoder, so that the record cannot differ from what the model does. A
test holds it against the definitions of the feature service in `feature_store/`.
"""

import dataclasses

from recmeta import schema
from recmeta.config import fingerprint
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD

USER_VIEW = "user_profile"
ITEM_VIEW = "item_profile"
STATISTICS = (schema.NUM_USERS, schema.SUM_VALUES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesRead:
    """The features of a model."""

    service: str
    """The feature service that they belong to."""
    features: tuple[str, ...]
    """`view:feature` of the feature service, those of users first."""
    with_model: tuple[str, ...]
    """`view:feature` that a model brings with it, as they were when it was trained."""
    digest: str
    """16 hex digits: the same for models that read the same features in the same way."""


def features_read(model: Model) -> FeaturesRead:
    """Return what a model reads of a user and of an item, apart from the item's own embedding."""
    kinds = {f"{USER_VIEW}:{f.name}": f.kind for f in model.encoder.user_fields}
    kinds |= {
        f"{ITEM_VIEW}:{f.name}": f.kind
        for f in model.encoder.item_fields
        if f.name != ITEM_ID_FIELD
    }
    past: tuple[str, ...] = ()
    if model.config.network.use_statistics or model.network.starts_from_item_mean:
        past = tuple(f"{schema.ITEM_STATISTICS.name}:{name}" for name in STATISTICS)
    return FeaturesRead(
        service=schema.FEATURE_SERVICE,
        features=tuple(kinds),
        with_model=past,
        digest=fingerprint(schema.FEATURE_SERVICE, kinds, past),
    )
