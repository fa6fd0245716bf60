"""Models over the catalogue of MovieLens 1M, as recipes make them, but not trained: speed does not
depend on the values of the parameters."""

import dataclasses

from recmeta.benchmarks.melu_shape import MeluShape, melu_shape
from recmeta.recipes import RECIPES

LEVELS = 5


def model_of(recipe: str) -> MeluShape:
    """Return a recipe's model with freshly drawn parameters, and users who may ask it."""
    config = RECIPES[recipe]().train.model
    return melu_shape(
        config=dataclasses.replace(config, learner=config.learner.with_levels(LEVELS))
    )
