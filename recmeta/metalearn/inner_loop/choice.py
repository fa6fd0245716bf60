"""The choice of the inner loop for a network."""

from recmeta.metalearn.inner_loop.by_pairs import PairLoop
from recmeta.metalearn.inner_loop.by_weights import WeightLoop
from recmeta.metalearn.inner_loop.steps import InnerLoop, InnerSteps
from recmeta.metalearn.networks.network import LinearNetwork, Network


def inner_loop(network: Network, steps: InnerSteps) -> InnerLoop:
    """Return the fast loop for a network that offers it, `torch.func` for any other."""
    if isinstance(network, LinearNetwork):
        return PairLoop(network, steps)
    return WeightLoop(network, steps)
