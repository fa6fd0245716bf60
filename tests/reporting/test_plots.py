"""Plots of what could not be measured, as of a log with a handful of users."""

from recmeta.reporting import plots


def test_a_training_without_development_users_is_drawn() -> None:
    history = [{"number": n, "train_loss": 1.0 / n, "dev_loss": None} for n in (1, 2)]
    assert plots.training_curve(history, "loss").startswith(b"\x89PNG")


def test_a_curve_with_gaps_is_drawn() -> None:
    point = {"mean": None, "ci_low": None, "ci_high": None}
    known = {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    curve = {
        "metric": "mae",
        "shots": [0, 1],
        "points": {"maml": [point, known]},
        "lower_is_better": True,
        "num_users": 1,
    }
    assert plots.adaptation_curve([curve]).startswith(b"\x89PNG")
