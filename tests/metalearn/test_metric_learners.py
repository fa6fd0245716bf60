"""Matching and prototypical networks against their papers' sums, written out row by row."""

import dataclasses
import math

import pytest
import torch
from amortised_tasks import known_rows, make, only

from recmeta.metalearn.algorithms.metric_based.matching import Matching, MatchingConfig
from recmeta.metalearn.algorithms.metric_based.prototypical import Prototypical, PrototypicalConfig
from recmeta.metalearn.inner_loop.amortised import Known
from recmeta.metalearn.learner import Params


def embedded(params: Params, name: str, token: torch.Tensor) -> torch.Tensor:
    return params[f"{name}.weight"] @ token + params[f"{name}.bias"]


# Matching ----------------------------------------------------------------------------------------


def test_the_vote_is_the_papers_sum() -> None:
    learner, params = make(MatchingConfig(width=6))
    known, asked = known_rows(learner), known_rows(learner)
    vote_BR, _ = learner.decode(params, learner.read(params, known), asked)
    sharpness = float(params["match.log_sharpness"].exp())
    for b, r in [(0, 3), (2, 0), (4, 11)]:
        query = embedded(params, "match.asked", asked.token_BRH[b, r])
        weights, surprises = [math.exp(float(params["match.nothing"]))], [0.0]
        for s in range(int(known.mask_BR[b].sum())):
            key = embedded(params, "match.known", known.token_BRH[b, s])
            cosine = float(query @ key / (query.norm() * key.norm()))
            weights.append(math.exp(sharpness * cosine))
            surprises.append(float(known.surprise_BR[b, s]))
        expected = sum(w * v for w, v in zip(weights, surprises, strict=True)) / sum(weights)
        assert float(vote_BR[b, r]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("num_context_steps", [0, 2])
def test_a_vote_stays_among_the_surprises_and_is_none_without_support(
    num_context_steps: int,
) -> None:
    learner, params = make(MatchingConfig(width=6, num_context_steps=num_context_steps))
    known = known_rows(learner)
    vote_BR, _ = learner.decode(params, learner.read(params, known), known)
    assert not vote_BR[0].any()
    most_B1 = known.surprise_BR.abs().amax(1, keepdim=True)
    assert (vote_BR.abs() <= most_B1 + 1e-12).all()


def test_full_context_embeddings_read_the_support() -> None:
    """The same row, asked of two users, is embedded alike without context and not with it."""
    alike = []
    for num_context_steps in (0, 1):
        learner, params = make(MatchingConfig(width=6, num_context_steps=num_context_steps))
        assert isinstance(learner, Matching)
        known = known_rows(learner)
        same = known.token_BRH[:1, :1].expand(len(known.token_BRH), 1, -1)
        keys = learner.read(
            params,
            dataclasses.replace(known, token_BRH=torch.cat([same, known.token_BRH[:, 1:]], 1)),
        )["key"][:, 0]
        alike.append(torch.allclose(keys[3], keys[4]))
    assert alike == [True, False]


# Prototypes --------------------------------------------------------------------------------------


def log_shares(learner: Prototypical, params: Params, known: Known, asked: Known) -> torch.Tensor:
    """Return log p(k | r, S) of one user's rows, (R, L), from distances to means."""
    strength, share_strength = params["prototypes.log_strength"].exp().tolist()
    scale = float(params["prototypes.log_distance_scale"].exp())
    spread = float(params["prototypes.log_expected_spread"].exp())
    shares = params["prototypes.share_logits"].softmax(0)
    rows = []
    z_S = [embedded(params, "prototypes.embed", t) for t in known.token_BRH[0]]
    weight_SL = learner.nearness(known.value_BR)[0]
    for r in range(asked.token_BRH.shape[1]):
        z = embedded(params, "prototypes.embed", asked.token_BRH[0, r])
        logits = []
        for k, level in enumerate(learner.levels):
            shared = params["prototypes.shared"][k]
            count = float(weight_SL[:, k].sum())
            own = strength * shared + sum(float(weight_SL[s, k]) * z_s for s, z_s in enumerate(z_S))
            own = own / (strength + count)
            share = (share_strength * shares[k] + count) / (share_strength + len(z_S))
            logits.append(
                -((level - asked.expected_BR[0, r]) ** 2) / (2 * spread**2)
                - scale * (z - own).square().sum()
                + scale * (z - shared).square().sum()
                + share.log()
                - shares[k].log()
            )
        rows.append(torch.stack(logits).log_softmax(0))
    return torch.stack(rows)


@pytest.mark.parametrize("user", [1, 3, 4])
def test_levels_are_as_likely_as_the_papers_distances_say(user: int) -> None:
    learner, params = make(PrototypicalConfig(width=6, embedding_dim=4, num_levels=5))
    assert isinstance(learner, Prototypical)
    known = only(known_rows(learner), user)
    asked = only(known_rows(learner, (3, 9, 1, 2, 5)), user)
    state = learner.read(params, known)
    expected_RL = log_shares(learner, params, known, asked)
    found_RL = learner.logits(params, state, asked)[0].log_softmax(-1)
    torch.testing.assert_close(found_RL, expected_RL)
    shift_BR, log_spread_BR = learner.decode(params, state, asked)
    level_L = expected_RL.new_tensor(learner.levels)
    mean_R = expected_RL.exp() @ level_L
    torch.testing.assert_close((asked.expected_BR + shift_BR)[0], mean_R)
    variance_R = expected_RL.exp() @ level_L.square() - mean_R.square()
    torch.testing.assert_close((2 * log_spread_BR[0]).exp(), variance_R + 1e-3)


def test_a_value_between_two_levels_is_shared_by_them() -> None:
    learner, _ = make(PrototypicalConfig(num_levels=5))
    assert isinstance(learner, Prototypical)
    assert learner.levels == (-2.0, -1.0, 0.0, 1.0, 2.0)
    found = learner.nearness(torch.tensor([[-1.0, 0.25, 9.0]]))
    expected = torch.tensor([[[0, 1, 0, 0, 0], [0, 0, 0.75, 0.25, 0], [0, 0, 0, 0, 1.0]]])
    torch.testing.assert_close(found, expected)
