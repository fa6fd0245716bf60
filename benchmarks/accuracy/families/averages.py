"""Predictors that ignore the support: the global mean, popularity, the item's shrunk mean."""

from benchmarks.accuracy.search import Family, each, fixed
from recmeta.evaluation.baselines.means import GlobalMean, ItemMean, ItemMeanConfig
from recmeta.evaluation.baselines.popularity import Popularity

GLOBAL_MEAN = Family(
    grid=fixed(None), fit_all=each(lambda train, p, _: GlobalMean.fit(train, p.num_items))
)
POPULARITY = Family(
    grid=fixed(None), fit_all=each(lambda train, p, _: Popularity.fit(train, p.num_items))
)
ITEM_MEAN = Family(
    grid=fixed(*(ItemMeanConfig(regularisation=r) for r in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0))),
    fit_all=each(lambda train, p, config: ItemMean.fit(train, p.num_items, config)),
)
