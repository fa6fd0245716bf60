"""Controls that every strategy has to beat: the items that most people know, and random items.

Legend: B users, C candidates.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from recmeta.serving.evidence.strategy import Candidates, FixedOrder, SoFar
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.episodes import splitmix64
from recmeta.tasks.hashing import unit_hash


def popularity(candidates: Candidates) -> FixedOrder:
    """Return the strategy that asks about the items that most training users rated."""
    return FixedOrder("popularity", candidates.share_C)


@dataclasses.dataclass(frozen=True)
class RandomOrder:
    """Asks in a random order, a different one for each user."""

    candidates: Candidates
    seed: int = 0
    name: str = "random"

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return a hash of user and item, uniform between 0 and 1."""
        share_B = unit_hash(pa.array(so_far.users.user_id, pa.string()), self.seed)
        user_B1 = splitmix64((share_B * 2**53).astype(np.uint64))[:, None]
        item_C = self.candidates.item_C.astype(np.uint64)
        return splitmix64(user_B1 ^ splitmix64(item_C)) / float(2**64)
