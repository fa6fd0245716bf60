"""Weights of lists that hold across data sets: the mean of the prior under which a log's own
weights are learned.

The weights that make users' choices most likely hardly differ from one log to another, once each
column has a standard deviation of 1. They are therefore learned from the development users of
several data sets together, cut down to logs of a few users, and shipped: `python -m
benchmarks.accuracy.list_prior` writes them. A log without development users takes them as they are
(an empirical Bayes estimate: Robbins, Proceedings of the Third Berkeley Symposium, 1956), and with
many development users their own choices decide.

Legend: K knots, C columns.
"""

import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recmeta.metalearn.heads.list_head import (
    ATTRIBUTES,
    CHOICES,
    CHOICES_BEFORE,
    KNOTS,
    LEARNER,
    POPULARITY,
)
from recmeta.tasks.arrays import Float64Array
from recmeta.training.lists.parts import NEXT, TOGETHER

FILE = "prior.json"
COLUMNS = (POPULARITY, LEARNER, TOGETHER, NEXT, CHOICES, CHOICES_BEFORE, ATTRIBUTES)
"""All columns, in their order."""


def prior_weights(columns: Sequence[str]) -> Float64Array:
    """Return (K, C) the mean of the prior, in units of the columns' standard deviations.

    Args:
        columns: as `column_sets` returns them, or popularity alone, which then has weight 1.
    """
    if tuple(columns) == (POPULARITY,):
        return np.ones((len(KNOTS), 1))
    by_column = shipped()["weights"][name_of(columns)]
    return np.array([by_column[name] for name in columns], np.float64).T


def column_sets(has: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the sets of columns among which the development users choose, the simplest first; the
    last one has all columns.

    Args:
        has: the columns that exist.
    """
    neighbours = tuple(name for name in (TOGETHER, NEXT) if name in has)
    found = [(POPULARITY, LEARNER), (POPULARITY, LEARNER, *neighbours)]
    if CHOICES in has:
        found += [(*columns, CHOICES, CHOICES_BEFORE) for columns in found]
    if ATTRIBUTES in has:
        found += [(*columns, ATTRIBUTES) for columns in found]
    return found


def name_of(columns: Sequence[str]) -> str:
    """Return the name of a set of columns in the file of the prior."""
    return " ".join(columns)


@functools.cache
def shipped() -> Mapping[str, Any]:
    """Return the prior that comes with the package; not to be changed."""
    file = importlib.resources.files("recmeta.training.lists") / FILE
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
