"""The content ridge: what new items have, and item ids do not."""

import itertools
from collections.abc import Iterator, Sequence

from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.search import Family, fixed
from recmeta.evaluation.baselines.content import item_content
from recmeta.evaluation.baselines.content_ridge import ContentRidge, ContentRidgeConfig
from recmeta.tasks.task_set import Tasks

GRID = tuple(
    ContentRidgeConfig(
        content_regularisation=content, user_regularisation=user, taste_regularisation=taste
    )
    for content, user, taste in itertools.product(
        (10.0, 30.0, 100.0), (2.0, 6.0), (0.5, 1.5, 5.0, 15.0)
    )
)


def _fit_all(
    train: Tasks, problem: Problem, configs: Sequence[ContentRidgeConfig], seed: int
) -> Iterator[ContentRidge]:
    content_IF, _ = item_content(problem.items)
    return ContentRidge.fit_all(train, content_IF, problem.value_range, configs)


CONTENT_RIDGE = Family(grid=fixed(*GRID), fit_all=_fit_all)
