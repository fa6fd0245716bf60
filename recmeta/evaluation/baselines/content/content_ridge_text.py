"""The content ridge with the vectors of the items' texts in addition to their other attributes."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, fixed
from recmeta.evaluation.baseline_parts.item_content import item_content
from recmeta.evaluation.baselines.content.content_ridge import ContentRidge, ContentRidgeConfig
from recmeta.metalearn.tensors.vectors import principal_components, raw_vectors, read_vectors
from recmeta.schema import TEXT_VECTOR
from recmeta.tasks.item_files import Items
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextRidgeConfig:
    """The ridge, and the share of the text."""

    ridge: ContentRidgeConfig
    """The ridge weights of the attributes and of the text."""
    text_share: float
    """The mean squared length of an item's text vector; the other attributes have 1."""
    num_components: int = 64
    """The number of principal components of the text that are read."""


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


class ContentRidgeText(ContentRidge):
    """A content ridge whose items have texts."""

    name: ClassVar[str] = "content-ridge-text"


def _fit_all(
    search: BaselineSearch, train: Tasks, configs: Sequence[TextRidgeConfig]
) -> Iterator[ContentRidge]:
    items = search.catalogue()
    if TEXT_VECTOR not in items.attributes.column_names:
        raise UserError(
            "the baseline 'content-ridge-text' reads vectors of the items' texts, and there are "
            "none: build the tasks with tasks.item_texts, or leave it out."
        )
    other = items.attributes.drop_columns([TEXT_VECTOR])
    content_IF, _ = item_content(dataclasses.replace(items, attributes=other))
    for config in configs:
        text_ID = text_content(items, config.num_components)
        joined_IF = torch.cat([content_IF, config.text_share**0.5 * text_ID], 1)
        yield from ContentRidgeText.fit_all(train, joined_IF, search.value_range, [config.ridge])


BASELINE = Baseline(
    name=ContentRidgeText.name,
    candidates=fixed(*GRID),
    fit_all=_fit_all,
    reads_items=True,
    reads_texts=True,
)
