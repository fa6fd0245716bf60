"""A recipe, with a TOML file and options laid over it, as a strictly parsed `PipelineConfig`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmeta.cli.options import ConfigOptions
from recmeta.config import parse, to_dict
from recmeta.errors import UserError, did_you_mean
from recmeta.recipes import RECIPES, PipelineConfig


def pipeline_config(options: ConfigOptions) -> PipelineConfig:
    """Return the configuration that the options describe.

    Raises:
        UserError: for an unknown recipe, key or value.
    """
    if options.recipe not in RECIPES:
        raise UserError(
            f"there is no recipe {options.recipe!r}.{did_you_mean(options.recipe, list(RECIPES))} "
            f"There are: {', '.join(RECIPES)}."
        )
    values = to_dict(RECIPES[options.recipe]())
    if options.config is not None:
        values = merged(values, _read(options.config))
    if options.seed is not None:
        seeds = {
            "tasks": {"seed": options.seed},
            "train": {"seed": options.seed},
            "evaluate": {"evaluation": {"seed": options.seed}},
        }
        values = merged(values, seeds)
    if options.epochs is not None:
        values = merged(values, {"train": {"training": {"epochs": options.epochs}}})
    return parse(PipelineConfig, values)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, table by table."""
    result = dict(base)
    for name, value in over.items():
        known = base.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        result[name] = merged(known, value) if both else value  # type: ignore[arg-type]
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {str(path)!r}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"--config {str(path)!r} is not valid TOML: {error}") from error
