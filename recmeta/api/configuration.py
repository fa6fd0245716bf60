"""The configuration of a fit, from the caller's arguments."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmeta.errors import UserError
from recmeta.recipes import PipelineConfig
from recmeta.recipes.configuration import pipeline_config
from recmeta.training.config import MetaTrainConfig

Config = MetaTrainConfig | PipelineConfig | Mapping[str, Any] | str | os.PathLike[str]
"""The configuration of training or of a whole run: its dataclass, nested tables of the values that
differ from the recipe's, or the path of a TOML file with such tables."""


def configured(
    config: Config | None,
    *,
    learner: str | None,
    seed: int | None,
    epochs: int | None,
    recipe: str = "default",
) -> PipelineConfig:
    """Return the configuration that `recmeta run` would use with these options.

    Raises:
        UserError: for an unknown learner, recipe, key or value, or for options that a whole
            configuration already contains.
    """
    if isinstance(config, MetaTrainConfig | PipelineConfig):
        spare = {"learner": learner, "epochs": epochs}
        for name, value in spare.items():
            if value is not None:
                raise UserError(
                    f"{name} is {value!r}, and config sets it, too: leave out one of the two."
                )
        return _seeded(config, seed)
    path = values = None
    if isinstance(config, Mapping):
        values = config
    elif config is not None:
        path = Path(config)
    return pipeline_config(
        recipe, learner=learner, path=path, values=values, seed=seed, epochs=epochs
    )


def _seeded(config: MetaTrainConfig | PipelineConfig, seed: int | None) -> PipelineConfig:
    """Return the configuration of a whole run. A given seed applies to all of its parts."""
    if isinstance(config, MetaTrainConfig):
        seed = config.seed if seed is None else seed
        config = PipelineConfig(train=config)
    if seed is None:
        return config
    judged = dataclasses.replace(config.evaluate.evaluation, seed=seed)
    return dataclasses.replace(
        config,
        tasks=dataclasses.replace(config.tasks, seed=seed),
        train=dataclasses.replace(config.train, seed=seed),
        implicit=config.implicit and dataclasses.replace(config.implicit, seed=seed),
        evaluate=dataclasses.replace(config.evaluate, evaluation=judged),
    )
