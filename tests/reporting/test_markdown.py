from typing import Any, get_args

import pytest

from recmeta.reporting import markdown
from recmeta.tasks.split_config import SplitKind

STARS: dict[str, Any] = {
    "relevant_from": 3.4,
    "values": {"lowest": 1.0, "highest": 5.0, "median": 4.0, "num_levels": 5, "has_tail": False},
}


def test_the_scale_of_ratings_is_told() -> None:
    assert markdown.values(STARS) == (
        "Ratings go from 1 to 5 in 5 levels, half of them up to 4; relevant in lists are those "
        "from 3.4 up."
    )
    assert markdown.values({"relevant_from": 1.0}) == ""


def test_a_tail_looks_like_counts() -> None:
    plays = {"lowest": 1.0, "highest": 9e4, "median": 3.0, "num_levels": None, "has_tail": True}
    told = markdown.values({"relevant_from": 150.25, "values": plays})
    assert "from 1 to 90,000, half" in told
    assert "--event purchase" in told


def test_rows_that_are_no_positives_are_told() -> None:
    ingested = dict.fromkeys(("rows_read", "accepted", "duplicates", "quarantined"), 9)
    tasks = dict.fromkeys(("users", "items", "tasks_train", "tasks_dev", "tasks_test"), 3)
    assert "no positives" not in markdown.data(ingested, tasks, "implicit", True)
    told = markdown.data(ingested, {**tasks, "not_positive": 1940}, "implicit", True)
    assert "1,940 rows have a value of 0 or less and are no positives." in told


@pytest.mark.parametrize("kind", get_args(SplitKind))
def test_one_sentence_says_what_was_held_out(kind: SplitKind) -> None:
    evaluation: dict[str, Any] = {
        "confidence": 0.95,
        "num_users": 7,
        "objective": "rating",
        "further_metrics": {},
        "intervals": {},
        "candidate": "maml",
    }
    old = markdown.accuracy(evaluation)
    assert markdown.accuracy({**evaluation, "split": None}) == old
    told = markdown.accuracy({**evaluation, "split": kind})
    sentence = markdown.HELD_OUT[kind]
    assert told == old.replace("over users. ", f"over users. {sentence} ", 1)
    assert ("time are held out" in sentence) == (kind == "global-time")
    assert sentence.count(". ") == 0
