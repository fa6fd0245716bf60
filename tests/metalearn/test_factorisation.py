"""The Bayesian factorisation finds what made the data, and falls back on content where it must.

Legend: U users, I items, F factors, C = 1 + F, A attributes.
"""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.metalearn.factors import factorisation
from recmeta.metalearn.factors.content_prior import ContentConfig, ContentRegression, embed
from recmeta.metalearn.factors.factorisation import (
    BayesianFactorisation,
    FactorisationConfig,
    factorise,
)
from recmeta.metalearn.tensors.encoding import Features, Field
from recmeta.tasks.task_set import Ragged

NUM_USERS, NUM_ITEMS, NUM_NEW, NUM_KINDS, NUM_FACTORS = 150, 120, 20, 8, 2
NOISE = 0.3
FIELDS = (
    Field("kind", "categorical", tuple(f"k{n}" for n in range(NUM_KINDS))),
    Field("year", "numeric"),
    Field("tags", "multi", ("a", "b", "c"), width=2),
)


@dataclasses.dataclass(frozen=True)
class World:
    """Ratings of known items by users; new items have attributes alone."""

    rows: Ragged
    features: Features
    vector_IC: np.ndarray
    user_UC: np.ndarray

    def fit(self, **config: int) -> BayesianFactorisation:
        content = ContentRegression(FIELDS, self.features, NUM_ITEMS, ContentConfig(), 0)
        settings = FactorisationConfig(**{"num_factors": NUM_FACTORS, "sweeps": 15, **config})
        return factorise(self.rows, content, NUM_ITEMS, settings, 0)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    kind_I = rng.integers(1, NUM_KINDS + 1, NUM_ITEMS)
    year_I = rng.normal(size=NUM_ITEMS)
    tags_IW = rng.integers(0, 4, (NUM_ITEMS, 2))
    by_kind = rng.normal(size=(NUM_KINDS + 1, NUM_FACTORS + 1)) * 0.5
    vector_IC = by_kind[kind_I] + 0.15 * rng.normal(size=(NUM_ITEMS, NUM_FACTORS + 1))
    vector_IC[:, 0] += 0.2 * year_I
    user_UC = rng.normal(size=(NUM_USERS, NUM_FACTORS + 1)) * np.array([0.5, 1.0, 1.0])
    mean_UI = user_UC[:, :1] + vector_IC[:, 0] + user_UC[:, 1:] @ vector_IC[:, 1:].T
    rated_UI = (rng.random(mean_UI.shape) < 0.4) & (np.arange(NUM_ITEMS) >= NUM_NEW)
    value_UI = mean_UI + NOISE * rng.normal(size=mean_UI.shape)
    user_N, item_N = rated_UI.nonzero()
    rows = Ragged(
        np.concatenate([[0], np.cumsum(rated_UI.sum(1))]),
        item_N.astype(np.int32),
        value_UI[user_N, item_N].astype(np.float32),
        np.zeros(len(item_N), np.bool_),
    )
    features = {
        "kind": torch.from_numpy(kind_I),
        "year": torch.from_numpy(year_I.astype(np.float32)),
        "tags": torch.from_numpy(tags_IW),
    }
    return World(rows, features, vector_IC, user_UC)


def test_users_are_gone_through_some_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = world.fit(sweeps=5)
    monkeypatch.setattr(factorisation, "USERS_AT_ONCE", 7)
    parted = world.fit(sweeps=5)
    for name in ("item_IC", "item_covariance_ICC", "user_mean_C", "user_covariance_CC"):
        torch.testing.assert_close(
            getattr(parted, name), getattr(whole, name), rtol=1e-9, atol=1e-12
        )
    assert parted.noise == pytest.approx(whole.noise, rel=1e-12)


def test_the_noise_is_found(world: World) -> None:
    assert world.fit().noise == pytest.approx(NOISE**2, rel=0.1)


def test_the_same_seed_gives_the_same_bits(world: World) -> None:
    first, second = world.fit(sweeps=4), world.fit(sweeps=4)
    assert torch.equal(first.item_IC, second.item_IC)
    assert first.noise == second.noise


def test_known_items_are_found_up_to_a_rotation(world: World) -> None:
    """What a user with known weights would say of items is linear in the vectors found."""
    found = world.fit().item_IC[NUM_NEW:].numpy()
    design = np.concatenate([np.ones((len(found), 1)), found], 1)
    truth = world.vector_IC[NUM_NEW:]
    solution, *_ = np.linalg.lstsq(design, truth, rcond=None)
    unexplained = ((truth - design @ solution) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    assert (unexplained < 0.1).all()


def test_new_items_are_read_by_their_content(world: World) -> None:
    """Their biases are near the truth, which for a mean user is what they are rated."""
    found = world.fit()
    assert torch.equal(found.item_IC[:NUM_NEW], found.content.fitted_IC[:NUM_NEW])
    mean_user = torch.cat([torch.ones(1, dtype=torch.float64), found.user_mean_C[1:]])
    predicted = (found.item_IC[:NUM_NEW] @ mean_user).numpy()
    weights = np.concatenate([[1.0], world.user_UC.mean(0)[1:]])
    truth = world.vector_IC[:NUM_NEW] @ weights
    assert np.corrcoef(predicted, truth)[0, 1] > 0.8


def test_the_prediction_of_held_out_items_is_worse_than_that_of_fitted_ones(world: World) -> None:
    """So that training on it teaches how far to trust content."""
    found = world.fit()
    apart = found.item_IC - found.content.fitted_IC
    held_out = found.item_IC - found.content.held_out_IC
    assert held_out[NUM_NEW:].square().sum() > 1.1 * apart[NUM_NEW:].square().sum()
    assert torch.equal(found.content.held_out_IC[:NUM_NEW], found.content.fitted_IC[:NUM_NEW])


def test_the_content_regression_solves_its_normal_equations(world: World) -> None:
    """Against a dense solution, column by column."""
    config = ContentConfig(value_strength=0.5, number_strength=0.2)
    regression = ContentRegression(FIELDS, world.features, NUM_ITEMS, config, 0)
    generator = torch.Generator().manual_seed(0)
    target_IC = torch.randn((NUM_ITEMS, 2), generator=generator, dtype=torch.float64)
    weight_IC = torch.rand((NUM_ITEMS, 2), generator=generator, dtype=torch.float64)
    found = regression.fit(target_IC, weight_IC)
    design_IA = np.concatenate(
        [
            np.eye(NUM_KINDS + 1)[world.features["kind"]] * 0.5**0.5,
            world.features["year"].double().numpy()[:, None] * 0.2**0.5,
            _mean_of_tags(world.features["tags"].numpy()) * 0.5**0.5,
            np.ones((NUM_ITEMS, 1)),
        ],
        1,
    )
    for column in range(2):
        weighted_IA = design_IA * weight_IC[:, column].numpy()[:, None]
        system_AA = weighted_IA.T @ design_IA + np.eye(design_IA.shape[1])
        solution_A = np.linalg.solve(system_AA, weighted_IA.T @ target_IC[:, column].numpy())
        np.testing.assert_allclose(
            found.fitted_IC[:, column].numpy(), design_IA @ solution_A, rtol=1e-6, atol=1e-8
        )
    parts = [embed(found.tables[f.name], f, world.features[f.name]) for f in FIELDS]
    torch.testing.assert_close(sum(parts) + found.intercept_C, found.fitted_IC)


def _mean_of_tags(tags_IW: np.ndarray) -> np.ndarray:
    counts_IA = np.eye(4)[tags_IW].sum(1)
    counts_IA[:, 0] = 0.0
    return counts_IA / np.maximum(counts_IA.sum(1, keepdims=True), 1)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="num_folds"):
        ContentConfig(num_folds=1)
    with pytest.raises(ValueError, match="strength"):
        ContentConfig(value_strength=0.0)
    with pytest.raises(ValueError, match="num_factors"):
        FactorisationConfig(num_factors=0)
