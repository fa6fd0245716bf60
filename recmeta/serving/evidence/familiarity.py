"""Which items a user knows, given known and unknown ones: a mixture of kinds of people.

A new user belongs to one of K latent classes; a member of class k knows item c with probability
share_kc, independently of the others (latent class analysis: Lazarsfeld and Henry, 1968; as a
Bernoulli mixture, Bishop, PRML, 2006, section 9.3.3). One class is popularity. "I do not know this
item" is not a rating, but it tells which other questions to avoid.

Legend: B users, U training users, C candidates, K classes.
"""

import dataclasses

import numpy as np

from recmeta.serving.evidence.strategy import Candidates, SoFar
from recmeta.tasks.arrays import BoolArray, Float64Array
from recmeta.tasks.task_set import Tasks

PRIOR_MEMBERS = 20.0
"""A class's shares are shrunk to everybody's as if by this many more members."""
SHARE_RANGE = (1e-4, 1 - 1e-4)


@dataclasses.dataclass(frozen=True)
class LatentClasses:
    """Kinds of people by the items that they know."""

    weight_K: Float64Array
    """How common each class is."""
    share_KC: Float64Array
    """Probability that a member knows each candidate."""

    @classmethod
    def fit(
        cls,
        knows_UC: BoolArray,
        num_classes: int,
        generator: np.random.Generator,
        num_iterations: int = 40,
    ) -> "LatentClasses":
        """Learn the classes by expectation maximisation.

        Args:
            knows_UC: what each training user knows.
            generator: draws the first memberships.
        """
        knows = knows_UC.astype(np.float32)
        everybody_C = np.clip(knows.mean(0, dtype=np.float64), *SHARE_RANGE)
        member_UK = generator.dirichlet(np.ones(num_classes), len(knows))
        found = cls(np.ones(1), everybody_C[None])
        for _ in range(num_iterations if num_classes > 1 else 1):
            size_K = member_UK.sum(0)
            count_KC = member_UK.astype(np.float32).T @ knows + PRIOR_MEMBERS * everybody_C
            share_KC = count_KC / (size_K[:, None] + PRIOR_MEMBERS)
            weight_K = (size_K + 1) / (size_K.sum() + num_classes)
            found = cls(weight_K, np.clip(share_KC, *SHARE_RANGE).astype(np.float64))
            member_UK = found.membership(knows_UC, ~knows_UC)
        return found

    def membership(self, known_BC: BoolArray, unknown_BC: BoolArray) -> Float64Array:
        """Return (B, K) the probability that each user belongs to each class."""
        log_yes_KC = np.log(self.share_KC).astype(np.float32)
        log_no_KC = np.log1p(-self.share_KC).astype(np.float32)
        log_BK = known_BC.astype(np.float32) @ log_yes_KC.T
        log_BK = log_BK + unknown_BC.astype(np.float32) @ log_no_KC.T
        log_BK = log_BK.astype(np.float64) + np.log(self.weight_K)
        likely_BK = np.exp(log_BK - log_BK.max(1, keepdims=True))
        return np.asarray(likely_BK / likely_BK.sum(1, keepdims=True))

    def probability(self, so_far: SoFar) -> Float64Array:
        """Return (B, C) the probability that each user knows each candidate."""
        return self.membership(so_far.known_BC, so_far.unknown_BC) @ self.share_KC


@dataclasses.dataclass(frozen=True)
class LikelyKnown:
    """Asks about the item that the user most probably knows, which shows the worth of adapting to
    non-answers alone."""

    classes: LatentClasses
    name: str = "known-items"

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return the probability that the user knows the item."""
        return self.classes.probability(so_far)


def knows(candidates: Candidates, train: Tasks) -> BoolArray:
    """Return (U, C) which candidates each training user rated, in support or query."""
    marked: BoolArray = candidates.marked(train.support) | candidates.marked(train.query)
    return marked
