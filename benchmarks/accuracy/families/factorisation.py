"""Matrix factorisation whose new users are folded in by ridge regression."""

import dataclasses
from collections.abc import Iterator, Sequence

from benchmarks.accuracy.families import biases
from benchmarks.accuracy.problem import Development, Problem
from benchmarks.accuracy.search import Family
from recmeta.evaluation.baselines.matrix_factorisation import (
    MatrixFactorisation,
    MatrixFactorisationConfig,
)
from recmeta.tasks.task_set import Tasks

NUM_FACTORS = (2, 4, 8, 16)
REGULARISATION_PATH = (14.0, 10.0, 7.0, 5.0, 3.5, 2.5)
"""From strong to weak: each fit starts from the last one, so that few sweeps suffice."""
SWEEPS = 20
"""Of a fit that starts from noise; later ones on the path take half as many."""


def _grid(development: Development, problem: Problem) -> list[MatrixFactorisationConfig]:
    weights = biases.chosen(development, problem)
    return [
        MatrixFactorisationConfig(
            num_factors=num_factors,
            factor_regularisation=regularisation,
            item_regularisation=weights.item_regularisation,
            user_regularisation=weights.user_regularisation,
        )
        for num_factors in NUM_FACTORS
        for regularisation in REGULARISATION_PATH
    ]


def _fit_all(
    train: Tasks, problem: Problem, configs: Sequence[MatrixFactorisationConfig], seed: int
) -> Iterator[MatrixFactorisation]:
    last: MatrixFactorisation | None = None
    for config in configs:
        if last is not None and last.config.num_factors != config.num_factors:
            last = None
        sweeps = SWEEPS if last is None else SWEEPS // 2
        last = MatrixFactorisation.fit(
            train,
            problem.num_items,
            problem.value_range,
            dataclasses.replace(config, sweeps=sweeps),
            seed,
            start=last,
        )
        yield last


MF_FOLD_IN = Family(grid=_grid, fit_all=_fit_all)
