from typing import Any, get_args

import pytest

from recmeta.reporting import markdown
from recmeta.tasks.split_config import SplitKind

STARS: dict[str, Any] = {
    "relevant_from": 3.4,
    "values": {"lowest": 1.0, "highest": 5.0, "median": 4.0, "num_levels": 5, "has_tail": False},
}


def test_the_scale_of_ratings_is_reported() -> None:
    assert markdown.values(STARS) == (
        "Ratings go from 1 to 5 in 5 levels, half of them up to 4; those of 3.4 and above are "
        "relevant in lists."
    )
    assert markdown.values({"relevant_from": 1.0}) == ""


def test_a_tail_looks_like_counts() -> None:
    plays = {"lowest": 1.0, "highest": 9e4, "median": 3.0, "num_levels": None, "has_tail": True}
    told = markdown.values({"relevant_from": 150.25, "values": plays})
    assert "from 1 to 90,000, half" in told
    assert "--event purchase" in told


def test_rows_that_are_not_positives_are_counted() -> None:
    ingested = dict.fromkeys(("rows_read", "accepted", "duplicates", "quarantined"), 9)
    tasks = dict.fromkeys(("users", "items", "tasks_train", "tasks_dev", "tasks_test"), 3)
    assert "no positives" not in markdown.data(ingested, tasks, "implicit", True)
    told = markdown.data(ingested, {**tasks, "not_positive": 1940}, "implicit", True)
    assert "1,940 rows have a value of 0 or less and are not positives." in told


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


def test_lists_have_intervals_and_their_curve_follows_that_of_errors() -> None:
    def interval(mean: float) -> dict[str, float]:
        return {"mean": mean, "ci_low": mean - 0.01, "ci_high": mean + 0.01, "num_users": 9}

    def curve(metric: str, note: str | None) -> dict[str, Any]:
        points = {"maml": [interval(0.5), interval(0.25)]}
        return {"metric": metric, "shots": [0, 1], "num_users": 9, "note": note, "points": points}

    evaluation: dict[str, Any] = {
        "candidate": "maml",
        "num_users": 9,
        "intervals": {
            "maml": {
                "full_ndcg@10": interval(0.2),
                "full_coverage@10": interval(0.1),
                "full_list-difference@10": interval(0.75),
            }
        },
        "adaptation_curve": curve("mae", None),
        "list_curve": curve("full_ndcg@10", "9 users are drawn of 20."),
    }
    told = markdown.lists(evaluation)
    assert "|  | nDCG | coverage | difference |" in told
    assert (
        "| **maml** | 0.2000 [0.1900, 0.2100] | 0.1000 [0.0900, 0.1100] | 0.7500 [0.7400, 0.7600] |"
    ) in told
    errors, lists = markdown.curves(evaluation)
    assert errors.startswith("## Adaptation curve: MAE by number of known interactions")
    assert lists.startswith("## Adaptation curve: `full_ndcg@10` by number of known interactions")
    assert "The same 9 users throughout. 9 users are drawn of 20." in lists
    assert "| **maml** | 0.5000 [0.4900, 0.5100] | 0.2500 [0.2400, 0.2600] |" in lists
    del evaluation["list_curve"]  # as earlier versions wrote it
    assert markdown.curves(evaluation) == [errors]
    of_clicks = curve("full_ndcg@10", None)
    clicks = {**evaluation, "adaptation_curve": of_clicks, "list_curve": of_clicks}
    assert len(markdown.curves(clicks)) == 1


def test_baselines_that_were_left_out_are_named() -> None:
    evaluation: dict[str, Any] = {
        "confidence": 0.95,
        "num_users": 7,
        "objective": "rating",
        "further_metrics": {},
        "intervals": {},
        "candidate": "maml",
        "left_out": "The baseline ials was left out.",
    }
    assert "The baseline ials was left out." in markdown.accuracy(evaluation)
    assert "left out" not in markdown.accuracy({**evaluation, "left_out": None})


def test_tables_begin_with_the_candidate_and_go_on_best_first() -> None:
    def at(mean: float | None) -> dict[str, dict[str, float]]:
        return {} if mean is None else {"mae": {"mean": mean, "ci_low": mean, "ci_high": mean}}

    means = {"bad": 0.9, "lists-alone": None, "good": 0.7, "ours": 0.8}
    evaluation = {
        "objective": "rating",
        "candidate": "ours",
        "confidence": 0.95,
        "num_users": 3,
        "intervals": {name: at(mean) for name, mean in means.items()},
    }
    lines = markdown.accuracy(evaluation).splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert names == ["", "**ours**", "good", "bad", "lists-alone"]
    points = {name: [at(0.5)["mae"], at(mean)["mae"]] for name, mean in means.items() if mean}
    curve = {"shots": [0, 3], "metric": "mae", "points": points, "num_users": 3, "note": ""}
    (shown,) = markdown.curves({**evaluation, "adaptation_curve": curve})
    names = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert names == ["", "**ours**", "good", "bad"]


def test_columns_of_text_are_left_aligned_and_those_of_numbers_right() -> None:
    rows = [
        ["a", "2001: A Space Odyssey", "**+0.004 [-0.001, 0.009]**", "-", "popularity 0.3"],
        ["b", "The Godfather", "", "−1,940", "0.2"],
    ]
    told = markdown.table(["", "title", "difference", "rows", "best"], rows)
    assert told.splitlines()[1] == "|---|---|---:|---:|---|"
    assert markdown.table(["", "n"], []).splitlines()[1] == "|---|---:|"
