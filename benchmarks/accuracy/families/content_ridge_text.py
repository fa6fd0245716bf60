"""The content ridge with the vectors of the items' texts beside their other attributes."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import torch

from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.search import Family, fixed
from recmeta.evaluation.baselines.content import item_content
from recmeta.evaluation.baselines.content_ridge import ContentRidge, ContentRidgeConfig
from recmeta.features.text_vectors import TEXT_VECTOR
from recmeta.metalearn.tensors.vectors import principal_components, raw_vectors, read_vectors
from recmeta.tasks.task_set import Items, Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextRidgeConfig:
    """The ridge, and how much the text is to say."""

    ridge: ContentRidgeConfig
    """Of the attributes and of the text alike."""
    text_share: float
    """Squared length of an item's text vector, on average; the other attributes have 1."""
    num_components: int = 64
    """Principal components of the text that are read."""


GRID = tuple(
    TextRidgeConfig(
        ridge=ContentRidgeConfig(
            content_regularisation=content, user_regularisation=4.0, taste_regularisation=taste
        ),
        text_share=share,
    )
    for content, taste, share in itertools.product(
        (3.0, 10.0, 30.0), (1.5, 5.0), (0.1, 0.3, 1.0, 3.0)
    )
)


def text_content(items: Items, num_components: int) -> torch.Tensor:
    """Return (I, D) the leading principal components of the items' texts, of squared length 1 on
    average. No ratings are read."""
    column = items.attributes[TEXT_VECTOR].combine_chunks()
    components = principal_components(raw_vectors(column), num_components)
    text_ID = read_vectors(TEXT_VECTOR, column, components)
    return torch.from_numpy(text_ID / text_ID.shape[1] ** 0.5)


def _fit_all(
    train: Tasks, problem: Problem, configs: Sequence[TextRidgeConfig], seed: int
) -> Iterator[ContentRidge]:
    other = problem.items.attributes.drop_columns([TEXT_VECTOR])
    content_IF, _ = item_content(dataclasses.replace(problem.items, attributes=other))
    for config in configs:
        text_ID = text_content(problem.items, config.num_components)
        joined_IF = torch.cat([content_IF, config.text_share**0.5 * text_ID], 1)
        yield from ContentRidge.fit_all(train, joined_IF, problem.value_range, [config.ridge])


CONTENT_RIDGE_TEXT = Family(grid=fixed(*GRID), fit_all=_fit_all)
