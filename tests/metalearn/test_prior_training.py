"""The synthetic logs that the prior is fitted to, and that fitting to them pays."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from recmeta.metalearn.algorithms.model_based.prior_fitted import shipped_weights
from recmeta.metalearn.learner import Params
from recmeta.metalearn.prior_fitted import log_statistics as of_log
from recmeta.metalearn.prior_fitted.network import init_network
from recmeta.training.prior_fitted.__main__ import main
from recmeta.training.prior_fitted.episodes import Episode, episode
from recmeta.training.prior_fitted.fit import (
    PriorConfig,
    draw_episodes,
    episode_loss,
    episode_outputs,
    fit_prior,
)
from recmeta.training.prior_fitted.synthetic_logs import DrawnLog, draw_log, held_out


@pytest.fixture(scope="module")
def logs() -> list[DrawnLog]:
    return [draw_log(np.random.default_rng([7, number])) for number in range(6)]


@pytest.fixture(scope="module")
def unseen() -> list[Episode]:
    """Episodes of logs of another seed than the shipped weights'."""
    return draw_episodes(6, seed=1_000)


def test_logs_are_of_many_kinds_and_users_take_an_item_once(logs: list[DrawnLog]) -> None:
    assert len({log.num_items for log in logs}) == len(logs)
    assert {log.is_graded for log in logs} == {False, True}
    for log in logs:
        assert (np.diff(log.user) >= 0).all()
        assert log.item.max() < log.num_items
        pairs = log.user * log.num_items + log.item
        assert len(np.unique(pairs)) == len(pairs)
        if log.is_graded:
            assert log.value.min() >= 1
            np.testing.assert_array_equal(log.value, np.round(log.value))
        else:
            assert (log.value == 1).all()


def test_a_seed_gives_the_same_log(logs: list[DrawnLog]) -> None:
    again = draw_log(np.random.default_rng([7, 2]))
    np.testing.assert_array_equal(again.item, logs[2].item)
    np.testing.assert_array_equal(again.value, logs[2].value)


def test_held_out_users_are_no_part_of_the_statistics(logs: list[DrawnLog]) -> None:
    for log in sorted(logs, key=lambda log: len(log.user))[:4]:
        is_held_U = held_out(log, np.random.default_rng(0))
        found = episode(log, is_held_U, np.random.default_rng(0))
        assert found is not None
        seen = ~is_held_U[log.user]
        assert found.statistics[of_log.SIZE][2] == seen.sum()
        count_C = np.bincount(log.item[seen] + 1, minlength=log.num_items + 1)
        np.testing.assert_array_equal(found.statistics[of_log.COUNT][:, 0], count_C)
        assert len(found) <= is_held_U.sum() <= 32
        if log.has_times:
            assert log.time_U[is_held_U].min() >= log.time_U[~is_held_U].max()


def test_candidates_are_what_came_next_and_items_that_were_never_met(unseen: list[Episode]) -> None:
    for one in unseen:
        for b in range(len(one)):
            support = set(one.code_BS[b][one.mask_BS[b]].tolist())
            candidates = one.candidate_BM[b][~one.log_weight_BM[b].isinf()].tolist()
            assert len(set(candidates)) == len(candidates)
            assert not support & set(candidates)
            stands_for = one.log_weight_BM[b].exp().sum()
            assert float(stands_for) == pytest.approx(
                len(one.statistics[of_log.COUNT]) - 1 - len(support), rel=1e-3
            )
        assert (one.liked_BM & ~one.rated_BM).sum() == 0


def mean_loss(weights: Params, episodes: list[Episode]) -> float:
    with torch.no_grad():
        return float(np.mean([float(episode_loss(weights, one, 0.5)) for one in episodes]))


def test_fitting_lowers_the_loss_and_is_the_same_every_time(unseen: list[Episode]) -> None:
    few = sorted(unseen, key=lambda one: one.candidate_BM.numel() * one.code_BS.shape[1])[:3]
    config = PriorConfig(epochs=5, seed=2)
    fresh = init_network(torch.Generator().manual_seed(2))
    fitted, again = (fit_prior(config, few) for _ in range(2))
    for name, weight in fitted.items():
        assert torch.equal(weight, again[name]), name
    assert mean_loss(fitted, few) < mean_loss(fresh, few) - 0.05


def test_the_shipped_weights_know_logs_that_they_have_not_seen(unseen: list[Episode]) -> None:
    """Beside popularity, and where rows of the user are known beside what it says without them."""
    fresh = init_network(torch.Generator().manual_seed(0))
    flat = {n: torch.zeros_like(p) for n, p in fresh.items()}  # popularity, and items' means
    shipped = shipped_weights()
    assert mean_loss(shipped, unseen) < mean_loss(flat, unseen) - 0.2
    errors = {"shipped": [], "item mean": []}
    for one in unseen:
        if one.is_graded:
            with torch.no_grad():
                found = episode_outputs(shipped, one)
            for name, said in (("shipped", found.value), ("item mean", one.past_BMD[..., 0])):
                error = (one.value_BM - said)[one.rated_BM].square().mean()
                errors[name].append(float(error))
    assert np.mean(errors["shipped"]) < np.mean(errors["item mean"]) - 0.02


def test_one_command_writes_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "weights.safetensors"
    main(["--logs", "2", "--epochs", "1", "--seed", "3", "--out", str(out)])
    assert "pass 1 of 1: loss" in capsys.readouterr().out
    written = safetensors.torch.load_file(out)
    assert {n: p.shape for n, p in written.items()} == {
        n: p.shape for n, p in shipped_weights().items()
    }
    with pytest.raises(SystemExit) as refused:
        main(["--logs", "0"])
    assert refused.value.code == 2
    assert "at least 1" in capsys.readouterr().err
