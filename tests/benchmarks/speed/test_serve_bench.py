"""The load test drives a real server, and counts every answer."""

import os

import pytest

from benchmarks.speed.serve.run import run
from recmeta.errors import UserError


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
@pytest.mark.slow
def test_every_request_is_answered_or_counted_as_shed() -> None:
    rows = run(["bayesian-linear"], rates=[20], seconds=1.0, max_reasons=[1]).rows
    assert [(row["model"], row["rate"], row["reasons"]) for row in rows] == [
        ("bayesian-linear", 20, 1)
    ]
    (row,) = rows
    assert row["requests"] > 0
    assert sum(row["statuses"].values()) == row["requests"]
    assert row["statuses"].get("200", 0) == row["requests"] - row["shed"]
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]


def test_an_unknown_learner_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError, match="bayesian-linear"):
        run(["bayes"], rates=[20], seconds=1.0)
