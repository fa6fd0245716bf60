"""The scoring benchmark asks for single users what it asks for in batches."""

import numpy as np

from benchmarks.speed.adapt_score import FEW, given_users, measure
from benchmarks.speed.melu_shape import melu_shape
from recmeta.serving.intake import Intake


def test_a_user_who_sends_themselves_is_the_user_of_the_batch() -> None:
    shape = melu_shape()
    tasks = shape.tasks.take(np.arange(20)).with_shots(FEW)
    intake = Intake(shape.model)
    users = given_users(shape.model, tasks)
    assert [intake.check(user) for user in users] == [[]] * 20
    found = intake.tasks(users)
    np.testing.assert_array_equal(found.support.offsets, tasks.support.offsets)
    np.testing.assert_array_equal(found.support.item, tasks.support.item)
    np.testing.assert_array_equal(found.support.value, tasks.support.value)
    names = [field.name for field in intake.fields.values()]
    assert found.profile.select(names).to_pylist() == tasks.profile.select(names).to_pylist()


def test_speeds_and_latencies_are_of_the_same_catalogue() -> None:
    in_batches, of_all, single = measure(1, seconds=0.0, users=50, requests=20)
    assert in_batches["ratings"] <= FEW < of_all["ratings"]
    assert in_batches["items"] == single["items"]
    assert 0 < in_batches["share_of_ceiling"] < 1
    assert 0 < single["p50_ms"] <= single["p99_ms"]
    assert 0 < single["products_p50_ms"] < single["p50_ms"]
