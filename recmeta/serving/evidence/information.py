"""Expected information gain from the closed-form posterior.

A user's ratings are linear in weights w ~ N(μ, Σ) with noise of variance σ_c², so that an answer
about item c with features x_c takes, whatever its value,

    weights        ½ log(1 + x_cᵀ Σ x_c / σ_c²)       nats off the entropy of w (Lindley, 1956;
                                                      MacKay, Neural Computation 1992)
    predictions    x_cᵀ Σ M Σ x_c / (x_cᵀ Σ x_c + σ_c²)
                   off the mean variance of predictions, M = Σ_t p_t x_t x_tᵀ over what people rate
                   (Cohn, Ghahramani, Jordan, JAIR 1996)

An item that the user does not know gives nothing: the gain counts by the probability that they do.

Legend: B users, C candidates, W weights.
"""

from typing import Literal

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import HasPosterior
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.evidence.familiarity import LatentClasses
from recmeta.serving.evidence.strategy import Candidates, SoFar
from recmeta.tasks.arrays import Float64Array

About = Literal["weights", "predictions"]
USERS_AT_ONCE = 128


class InformationGain:
    """Asks, one question at a time, what is expected to teach most about this user.

    The posterior depends on which items were answered, the probability of an answer on which are
    known and which not: both change with every question.
    """

    name = "information-gain"

    def __init__(
        self, model: Model, candidates: Candidates, classes: LatentClasses, about: About
    ) -> None:
        """
        Raises:
            UserError: for a model without a posterior.
        """
        learner = model.learner
        if not isinstance(learner, HasPosterior):
            raise UserError(
                f"information-gain needs a posterior over users, which {model.config.algorithm!r} "
                "does not have: ask by adaptive-loss, or train with --recipe bayesian-linear."
            )
        self._scorer = Scorer.of(model)
        self.classes = classes
        self.about = about
        rows = model.catalogue.item_rows(candidates.item_C)
        with torch.no_grad():
            _, design_1CW, noise_1C = learner.linear_parts(model.params, rows)
        self._design_CW, self._noise_C = design_1CW[0], noise_1C[0]
        share_C = torch.from_numpy(candidates.share_C).to(self._design_CW)
        weighted_CW = self._design_CW * (share_C / share_C.sum())[:, None]
        self._target_WW = weighted_CW.T @ self._design_CW

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return the expected gain of asking."""
        batches = so_far.users.batches(USERS_AT_ONCE)
        parts = [self._gain(self._scorer.adapt(some)["whitener"]) for some in batches]
        gain_BC = np.concatenate(parts) if parts else np.zeros(so_far.known_BC.shape)
        worth_BC: Float64Array = gain_BC * self.classes.probability(so_far)
        return worth_BC

    @torch.no_grad()
    def _gain(self, whitener_BWW: torch.Tensor) -> Float64Array:
        """Return (B, C) the gain of an answer."""
        white_BWC = whitener_BWW @ self._design_CW.T
        variance_BC = white_BWC.square().sum(1)
        if self.about == "weights":
            gain_BC = (variance_BC / self._noise_C).log1p() / 2
        else:
            moved_BWC = whitener_BWW.mT @ white_BWC  # Σ x_c
            taken_BC = (moved_BWC * (self._target_WW @ moved_BWC)).sum(1)
            gain_BC = taken_BC / (variance_BC + self._noise_C)
        found: Float64Array = gain_BC.double().cpu().numpy()
        return found
