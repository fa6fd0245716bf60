"""LightGBM on features of user, item and a summary of the support (Ke et al., NeurIPS 2017).

Legend: N rows, I items, B tasks, F content columns.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from recmeta.evaluation.baseline import Baseline, BaselineSearch
from recmeta.evaluation.baseline_parts.support_features import SupportFeatures
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.episodes import EpisodeConfig, resample
from recmeta.tasks.task_set import Tasks

EPISODES = EpisodeConfig(max_support=90, max_query=20)
"""How training users are presented: with every number of support rows that a cold user may have."""
MOST_USERS = 100_000
"""The most training users whose episodes the trees learn from, at equal distances: a row takes some
300 bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoostedTreesConfig:
    """The library's hyperparameters, and whether items are read as new ones."""

    num_leaves: int = 31
    """The number of leaves of a tree."""
    num_trees: int = 200
    """The number of rounds of boosting."""
    learning_rate: float = 0.05
    """The learning rate of a round."""
    loss: str = "l2"
    """The loss, `l1` or `l2`."""
    strangers: bool = False
    """Whether to train as if no item had been rated before, as new items look."""


PUBLISHED_GRID = tuple(
    BoostedTreesConfig(num_leaves=leaves, loss=loss, strangers=strangers)
    for leaves, loss, strangers in itertools.product((15, 63), ("l1", "l2"), (False, True))
)
GATE_GRID = tuple(config for config in PUBLISHED_GRID if not config.strangers)
"""The candidates of the gate: its users are new, but most of their items are not."""


class BoostedTrees:
    """Predicts item effect plus user bias, and the residuals of these by trees."""

    name: ClassVar[str] = "boosted-trees"
    predicts_values: ClassVar[bool] = True

    def __init__(self, features: SupportFeatures, booster: Any, config: BoostedTreesConfig) -> None:
        self.features = features
        self.booster = booster
        self.config = config

    @classmethod
    def fit(
        cls, features: SupportFeatures, episodes: Tasks, config: BoostedTreesConfig, seed: int
    ) -> "BoostedTrees":
        """Return the trees, fitted to the queries of training episodes."""
        import lightgbm

        base_N, matrix_NF = features.of(episodes, strangers=config.strangers)
        data = lightgbm.Dataset(matrix_NF, episodes.query.value - base_N)
        parameters = {
            "objective": config.loss,
            "num_leaves": config.num_leaves,
            "learning_rate": config.learning_rate,
            "min_data_in_leaf": 50,
            "num_threads": 1,
            "seed": seed,
            "deterministic": True,
            "verbosity": -1,
        }
        booster = lightgbm.train(parameters, data, num_boost_round=config.num_trees)
        return cls(features, booster, config)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) predicted values, clipped to the value range."""
        return np.clip(self._predicted(tasks), *self.features.value_range)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) predicted values of the whole catalogue, not clipped, so that the best
        items do not tie."""
        rows = [self._predicted(one) for one in self.features.whole_catalogue(tasks)]
        return np.stack(rows) if rows else np.zeros((0, self.features.num_items))

    def _predicted(self, tasks: Tasks) -> Float64Array:
        base_N, matrix_NF = self.features.of(tasks, strangers=self.config.strangers)
        predicted_N: Float64Array = base_N + self.booster.predict(matrix_NF, num_threads=1)
        return predicted_N


def _fit_all(
    search: BaselineSearch, train: Tasks, configs: Sequence[BoostedTreesConfig]
) -> Iterator[BoostedTrees]:
    items, num_items = search.catalogue(), search.num_items
    features = SupportFeatures.fit(train, items, num_items, search.value_range)
    presented = train
    if len(train) > MOST_USERS:
        presented = train.take(np.linspace(0, len(train) - 1, MOST_USERS).astype(np.int64))
    episodes = resample(presented, EPISODES, np.random.default_rng([search.seed, 3]))
    return (BoostedTrees.fit(features, episodes, config, search.seed) for config in configs)


BASELINE = Baseline(
    name=BoostedTrees.name,
    candidates=lambda search: GATE_GRID if search.grid == "gate" else PUBLISHED_GRID,
    fit_all=_fit_all,
    default=lambda search: BoostedTreesConfig(),
    slow_lists=True,
    reads_items=True,
    library="lightgbm",
)
