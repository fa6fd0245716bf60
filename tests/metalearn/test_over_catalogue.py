"""A catalogue that is scored at once gets what each of its rows would get alone."""

import dataclasses

import pytest
import torch
from learners import CONFIGS, NETWORKS, make_batch, make_learner
from maml_tasks import NUM_ITEMS, make_rows

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML
from recmeta.metalearn.learner import CatalogueRanker, Params, UserState
from recmeta.metalearn.tensors.batch import Rows, Support
from recmeta.testing.rounding import assert_equal_but_for_rounding, tolerances

ROUNDINGS = 2_000
"""Sums over up to five hundred rows and twenty features, in three layers."""


def catalogue() -> Rows:
    """Return every item, for all users at once."""
    rows = make_rows((NUM_ITEMS,), True, torch.Generator().manual_seed(1))
    return dataclasses.replace(rows, item_BR=torch.arange(NUM_ITEMS)[None])


def first_rows(support: Support, num_rows: int) -> Support:
    rows = Rows(*(t[:, :num_rows] for t in vars(support.rows).values()))
    return dataclasses.replace(support, rows=rows)


def alike(learner: MAML, params: Params, state: UserState) -> None:
    """Check that the users' scores of the catalogue are those of its rows one by one."""
    rows = catalogue()
    expected = learner.predict(params, state, rows).ranked_by_BR

    def scores(params: Params) -> Params:
        settled = learner.settle(params, state)
        return {"scores": learner.ranked_by(params, settled, learner.prepare(params, rows))}

    allowed = tolerances(scores, params, roundings=ROUNDINGS)
    assert_equal_but_for_rounding(scores(params), {"scores": expected}, allowed)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_a_catalogue_at_once(network: str, config: str) -> None:
    learner, params = make_learner(CONFIGS[config], NETWORKS[network])
    assert isinstance(learner, CatalogueRanker)
    batch = make_batch()
    alike(learner, params, learner.adapt(params, batch.support))
    alike(learner, params, learner.adapt(params, first_rows(batch.support, 0)))


@pytest.mark.parametrize("num_rows", [1, 500])
@torch.no_grad()
def test_short_and_long_supports(num_rows: int) -> None:
    """Long ones are folded into weights of the user's own; short ones are kept as they are."""
    learner, params = make_learner(CONFIGS["three steps"], NETWORKS["linear"])
    support = first_rows(make_batch().support, num_rows)
    state = learner.adapt(params, support)
    assert ("map" in learner.settle(params, state)) == (num_rows > 1)
    alike(learner, params, state)


@torch.no_grad()
def test_nobody_has_no_scores_of_the_whole_catalogue() -> None:
    learner, params = make_learner(CONFIGS["three steps"], NETWORKS["linear"])
    state = learner.adapt(params, make_batch().support)
    nobody = learner.settle(params, {name: t[:0] for name, t in state.items()})
    assert learner.ranked_by(params, nobody, learner.prepare(params, catalogue())).shape == (
        0,
        NUM_ITEMS,
    )


@torch.no_grad()
def test_a_settled_user_alone_is_the_user_among_others() -> None:
    learner, params = make_learner(CONFIGS["three steps"], NETWORKS["linear"])
    state = learner.adapt(params, make_batch().support)
    items = learner.prepare(params, catalogue())
    together = learner.ranked_by(params, learner.settle(params, state), items)
    for user in range(len(together)):
        alone = {name: t[user : user + 1] for name, t in state.items()}
        found = learner.ranked_by(params, learner.settle(params, alone), items)
        torch.testing.assert_close(found[0], together[user], rtol=1e-12, atol=1e-12)
