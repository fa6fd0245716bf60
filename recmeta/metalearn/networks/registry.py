"""The preference estimators by name: those in `estimators`, and those of installed packages."""

from collections.abc import Sequence

from recmeta.errors import UserError
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.embedding import EmbeddingNetwork
from recmeta.metalearn.tensors.encoding import Field
from recmeta.plugins import Registry

NETWORKS: Registry[type[EmbeddingNetwork]] = Registry(
    "network", package="recmeta.metalearn.networks.estimators", attribute="NETWORK"
)
"""The classes of the networks. A file there names its own `NETWORK`; an entry point of the group
`recmeta.networks` leads to such a class."""


def network_of(
    config: PreferenceConfig,
    user_fields: Sequence[Field],
    item_fields: Sequence[Field],
    *,
    graded: bool,
) -> EmbeddingNetwork:
    """Return the network that a configuration names, for the attributes of users and items.

    Args:
        graded: whether feedback is ratings.

    Raises:
        UserError: if the name leads to no network.
    """
    kind = NETWORKS[config.estimator]
    if not (isinstance(kind, type) and issubclass(kind, EmbeddingNetwork)):
        raise UserError(
            f"the network {config.kind!r} is {kind!r}; it must be a subclass of "
            "recmeta.metalearn.networks.embedding.EmbeddingNetwork."
        )
    return kind(config, user_fields, item_fields, graded=graded)
