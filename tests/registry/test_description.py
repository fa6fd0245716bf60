from recmeta.registry.models.description import describe

EVALUATION = {
    "primary_metric": "mae",
    "num_users": 40,
    "metrics": {
        "meta-learner": {"mae": 0.7, "coverage": 0.5, "rmse": None},
        "item-mean": {"mae": 0.8, "rmse": 1.0},
    },
}


def test_says_what_was_decided_and_why() -> None:
    text = describe(
        decision="refused",
        reasons=["A tie keeps the champion.", "Better than item-mean."],
        compared_with="4",
        evaluation=EVALUATION,
        data="`interactions` version 3",
        features="`melu_v1` (abcd): user_profile:age",
        promoted_by=None,
        report="reports/e1",
    )
    assert text.splitlines() == [
        "**Refused**, compared with version 4, on 40 held-out users.",
        "",
        "- A tie keeps the champion.",
        "- Better than item-mean.",
        "",
        "| model | mae | rmse | coverage |",
        "| --- | ---: | ---: | ---: |",
        "| meta-learner | 0.7000 |  | 0.5000 |",
        "| item-mean | 0.8000 | 1.0000 |  |",
        "",
        "Trained on: `interactions` version 3.",
        "",
        "Features: `melu_v1` (abcd): user_profile:age.",
        "",
        "Report: `reports/e1` in the workspace, `evaluation/` in the training's run.",
    ]


def test_first_model_has_nothing_to_be_compared_with() -> None:
    text = describe(
        decision="promoted",
        reasons=[],
        compared_with=None,
        evaluation={"metrics": {"meta-learner": {f"m{i}": 0.0 for i in range(9)}}},
        data="no table",
        features="`melu_v1` (abcd): none",
        promoted_by="kim",
        report="reports/e1",
    )
    assert text.startswith("**Promoted** by kim, compared with no earlier version.\n")
    assert "| model | m0 | m1 | m2 | m3 | m4 | m5 |" in text
