"""The shape of a preference estimator."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """The kind and shape of the preference estimator."""

    kind: str = "preference"
    """The kind of network: a name in `recmeta.metalearn.networks.registry.NETWORKS`, the name of an
    entry point `recmeta.networks`, or a path `package.module:Class`. With `layer_norm` or
    `num_factors`, which no chain of linear layers has, `preference` becomes `interacting`."""
    embedding_dim: int = 32
    """The width of the embedding of each categorical or multi-valued field."""
    hidden_dims: tuple[int, ...] = (64, 64)
    """The widths of the decision layers except for the last one, which has one output."""
    wide: bool = True
    """Whether the last layer also reads the embedded features themselves, so that adapting it fits
    a linear model of the user beside the deep one (Cheng et al., Wide & Deep, DLRS 2016)."""
    use_statistics: bool = True
    """Whether the item's past (mean value, popularity) joins its features."""
    start_from_item_mean: bool = False
    """Whether the output is added to the item's shrunk mean. It has no effect on implicit feedback,
    which has no means."""

    layer_norm: bool = False
    """Whether each hidden layer's outputs are normalised before they are cut at 0 (Ba et al.,
    2016), so that an inner step moves users with large and small activations alike."""
    num_factors: int = 0
    """The width of a product of the user's and the item's projections that the last layer also
    reads (the generalised matrix factorisation of NeuMF, He et al., WWW 2017). Adapting the user's
    projection fits a vector of factors to the user. With 0 there is no such product."""

    def __post_init__(self) -> None:
        if self.embedding_dim < 1 or any(width < 1 for width in self.hidden_dims):
            raise ValueError(
                f"embedding_dim {self.embedding_dim} and hidden_dims {self.hidden_dims} must be "
                "positive."
            )
        if self.num_factors < 0:
            raise ValueError(f"num_factors is {self.num_factors}; it must not be negative.")

    @property
    def estimator(self) -> str:
        """The name or path of the network."""
        is_chain = not self.layer_norm and self.num_factors == 0
        return "interacting" if self.kind == "preference" and not is_chain else self.kind

    @property
    def is_linear(self) -> bool:
        """Whether the decision layers are a chain of linear layers, which adapt fastest."""
        return self.estimator == "preference"
