"""Models over the catalogue of MovieLens 1M, as they are trained by default, but not trained: speed
does not depend on the values of the parameters."""

import dataclasses

from benchmarks.speed.melu_shape import MeluShape, melu_shape
from recmeta.training.recipes import training_of

LEVELS = 5


def model_of(learner: str) -> MeluShape:
    """Return a learner's model with freshly drawn parameters, and users who may ask it.

    Raises:
        UserError: for an unknown learner.
    """
    config = training_of(learner).model
    return melu_shape(
        config=dataclasses.replace(config, learner=config.learner.with_levels(LEVELS))
    )
