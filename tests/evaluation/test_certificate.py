"""Certificates: whom they hold for, and how often they are wrong."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import recmeta
from recmeta.config import parse, to_dict
from recmeta.errors import UserError
from recmeta.evaluation.certificate import (
    CertificateConfig,
    _segments,
    attribute_of,
    certify,
)
from recmeta.metalearn.heads.certificate import Certificate
from recmeta.tasks.arrays import Float64Array
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

CONFIG = CertificateConfig(level=0.1, tolerance=0.02)


def advantages(*means: float, num_users: int = 100, seed: int = 0) -> Float64Array:
    """Return (B, 4) advantages whose means are these exactly, with a deviation of a tenth."""
    found = np.random.default_rng(seed).normal(0, 0.1, (num_users, 4))
    return found - found.mean(0) + np.array(means)


def certified(*means: float, **how: int) -> Certificate:
    found = certify(advantages(*means, **how), None, CONFIG)
    assert found is not None
    return found


def test_a_bound_is_that_of_the_t_test() -> None:
    found = certified(0.01, 0.02, 0.03, 0.04)
    values = advantages(0.01, 0.02, 0.03, 0.04)
    for place, segment in enumerate(found.segments):
        column = values[:, place]
        low = column.mean() - stats.t.ppf(0.9, 99) * column.std(ddof=1) / 10
        assert segment.at_least == pytest.approx(low, abs=1e-6)
        assert segment.num_users == 100
    assert [s.fewest for s in found.segments] == [0, 1, 3, 10]
    assert all(s.is_certified for s in found.segments)
    assert not found.is_partial
    assert found.violation_rate == 0


def test_below_the_first_that_fails_nobody_is_certified() -> None:
    found = certified(0.05, -0.02, 0.03, 0.04)
    assert [s.is_certified for s in found.segments] == [False, False, True, True]
    assert found.is_partial
    holds = found.holds(np.array([0, 1, 2, 3, 9, 10, 50]), None)
    assert holds.tolist() == [False, False, False, True, True, True, True]
    assert not certified(0.05, 0.05, 0.05, -0.05).segments[0].is_certified


def test_few_users_certify_nothing() -> None:
    assert certify(advantages(1, 1, 1, 1, num_users=59), None, CONFIG) is None
    values = advantages(0.05, 0.05, 0.05, -0.5)
    values[25:, 3] = np.nan  # 25 have ten rows: too few to judge, so they go with those of three
    found = certify(values, None, CONFIG)
    assert found is not None
    assert [s.fewest for s in found.segments] == [0, 1, 3]
    assert found.holds(np.array([12]), None).all()


def test_groups_are_judged_apart_and_share_the_level() -> None:
    good, bad = advantages(*[0.05] * 4), advantages(*[-0.05] * 4, seed=1)
    few = advantages(*[0.05] * 4, num_users=20, seed=2)
    names = ["a"] * 100 + ["b"] * 100 + ["c"] * 10 + [None] * 10
    config = dataclasses.replace(CONFIG, attribute="land")
    found = certify(np.concatenate([good, bad, few]), names, config)
    assert found is not None
    assert found.attribute == "land"
    by_group = {s.value: s.is_certified for s in found.segments if s.fewest == 0}
    assert by_group == {None: False, "a": True, "b": False}
    low = good[:, 0].mean() - stats.t.ppf(1 - 0.1 / 3, 99) * good[:, 0].std(ddof=1) / 10
    of_a = next(s for s in found.segments if s.value == "a")
    assert of_a.at_least == pytest.approx(low, abs=1e-5)
    values = ["a", "b", "c", "elsewhere", None]
    assert found.holds(np.full(5, 4), values).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_it_is_wrong_as_seldom_as_it_says(correlation: float) -> None:
    """Fresh users of whom every segment is worse by just the tolerance, time and again."""
    random, wrong, num_trials = np.random.default_rng(0), 0, 400
    for _ in range(num_trials):
        shared = random.exponential(0.1, (80, 1)) - 0.1
        own = random.exponential(0.1, (80, 4)) - 0.1
        values = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own - CONFIG.tolerance
        segments = _segments(values, None, CONFIG.level, CONFIG.tolerance)
        wrong += any(segment.is_certified for segment in segments)
    assert wrong / num_trials <= 0.1 + 3 * np.sqrt(0.09 / num_trials)
    found = certify(values, None, CONFIG)
    assert found is not None
    assert found.border_rate == pytest.approx(0.1, abs=0.06)


def test_a_certificate_is_kept_as_it_is() -> None:
    found = certified(0.05, -0.02, 0.03, 0.04)
    assert parse(Certificate, to_dict(found)) == found


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match=r"certificate\.level is 0"):
        CertificateConfig(level=0)
    with pytest.raises(UserError, match=r"certificate\.tolerance is -1"):
        CertificateConfig(tolerance=-1)


def test_an_attribute_that_users_lack_is_refused(tmp_path: Path) -> None:
    log = generate(SyntheticConfig(num_users=20, num_items=20, rows_per_user=(4, 8)), seed=0)
    development = write_task_set(log, Folder.at(tmp_path)).tasks("dev")
    with pytest.raises(UserError, match=r"'groop', which users do not have\. Did you mean 'group'"):
        attribute_of(development, "groop")
    assert attribute_of(development, "group") == development.profile["group"].to_pylist()
    assert attribute_of(development, None) is None
    tags = pa.array([["a", "b"]] * len(development), pa.list_(pa.string()))
    profile = development.profile.append_column("tags", tags)
    with pytest.raises(UserError, match=r"'tags', of which a user may have several values"):
        attribute_of(dataclasses.replace(development, profile=profile), "tags")


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
def test_training_certifies_and_lists_heed_it(tmp_path: Path) -> None:
    """Clicks by taste, on a log with development users enough: with a tolerance that no lists meet
    everybody gets popular items, as the report and a saved model say."""
    config = SyntheticConfig(num_users=1_000, num_items=80, objective="implicit")
    log = generate(config, seed=0)
    data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
    how = {"train": {"training": {"epochs": 1}, "certificate": {"level": 1e-9, "tolerance": 0.0}}}
    model = recmeta.fit(data, config=how, learner="bayesian-linear", seed=0, progress=False)
    found = model.model.certificate
    assert found is not None
    assert found.segments[0].num_users >= 60
    assert found.is_partial
    result = recmeta.evaluate(model, data, baselines=["popularity"], progress=False)
    told = result.judgement.certificate
    assert told is not None
    assert told["segments"][0]["cold"]["num_users"] == told["segments"][0]["cold_users"] > 60
    model.save(tmp_path)
    again = recmeta.load(tmp_path)
    assert again.model.certificate == found
    nobody = pa.table({"user_id": ["new"], "item_id": pa.nulls(1, pa.string())})
    uncertified = next(s for s in found.segments if s.fewest == 0)
    assert not uncertified.is_certified
    listed = again.recommend(nobody, top_k=5)["item_id"].to_pylist()
    counts = again.model.lists.count_I.numpy()
    best = np.argsort(-counts, kind="stable")[:5]
    assert listed == again.model.catalogue.items.item_id.take(pa.array(best)).to_pylist()
