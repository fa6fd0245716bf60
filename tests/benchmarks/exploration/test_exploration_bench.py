"""The benchmark of exploration, on fewer logs and simulations than its numbers are of."""

import os

import pytest

from benchmarks.exploration import estimators, regret
from benchmarks.exploration.__main__ import parser

pytestmark = pytest.mark.skipif(
    os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it"
)


def test_regret_is_least_of_those_who_learn() -> None:
    found, text = regret.run(1, length=1, hard=False)
    by_policy = {row["policy"]: row["regret"]["mean"] for row in found["rows"]}  # type: ignore[attr-defined]
    assert by_policy["popularity"] > 2 * by_policy["greedy"]
    assert by_policy["ε-greedy, ε = 0.2"] > by_policy["greedy"] > 0
    assert "| popularity |" in text


def test_estimates_are_right_on_average() -> None:
    found, text = estimators.run(30, num_users=200, by="uniform", share=0.5)
    for row in found["rows"]:
        assert abs(row["bias"]) < 4 * row["bias_error"] + 0.005
        assert row["coverage"] > 0.7
    assert "30 simulations of 200 lists" in text


def test_every_part_has_a_command() -> None:
    for name in ("regret", "estimators", "replay"):
        assert parser().parse_args([name]).name == name
