"""Reports as Markdown: what a person reads in a file, in the terminal or on the MLflow page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from recmeta.markup import inline

HEADLINE = {
    "rating": ("mae", "rmse", "ndcg@5", "ndcg@5_exp"),
    "implicit": ("full_ndcg@10", "full_recall@10", "full_hit@10", "full_mrr@10", "sampled_ndcg@10"),
}

ERRORS = ("mae", "rmse")
"""Of the headline's metrics those of which less is better."""

HELD_OUT = {
    "temporal": "Users are held out, and time is not: the cold ones are drawn at random, and other "
    "users' rows that models learned from may be later than theirs.",
    "global-time": "Users and time are held out: the cold ones came last, and no row that models "
    "learned from is later than the first of theirs.",
    "random": "Users are held out, and time plays no part: the cold ones are drawn at random, as "
    "are the rows of each user to be predicted.",
    "melu_states": "Users and items are held out, and time plays no part: in three states cold "
    "users, new items or both are drawn (Lee et al., KDD 2019).",
}
"""By kind of split, one sentence that says what the numbers stand for."""

NUMBER = re.compile(r"[*~≈<>≤≥\s]*([-−–+]?[\d.]|[-−–—]\s*$)")
"""The beginning of a cell of a column of numbers."""

NEW_USER = "## Recommendations for new user "
"""Before the user's id."""


def evaluation_report(evaluation: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """Return the report of one evaluation: lists, accuracy, adaptation curves, verdict.

    Args:
        evaluation: evaluation.json.
        decision: decision.json.
    """
    parts = [
        "# Evaluation",
        *filter(None, [values(evaluation)]),
        lists(evaluation),
        accuracy(evaluation),
        *[
            f"### State `{state}`: {evaluation['num_users_by_state'][state]} users\n\n"
            + _metric_table(found, evaluation)
            for state, found in evaluation["by_state"].items()
        ],
        *curves(evaluation),
        calibration(evaluation),
        *certificate(evaluation),
        gate(decision),
    ]
    return "\n\n".join(parts) + "\n"


def accuracy(evaluation: Mapping[str, Any]) -> str:
    """Return the table of headline metrics with intervals, and which baselines it lacks."""
    level = f"{evaluation['confidence']:.0%}"
    intro = (
        f"## Accuracy on {evaluation['num_users']} held-out cold users\n\n"
        f"Per user, then averaged; in brackets the {level} bootstrap interval over users. "
    )
    if (split := evaluation.get("split")) is not None:
        intro = f"{intro}{HELD_OUT[split]} "
    if evaluation["objective"] == "rating":
        intro += (
            "`ndcg@5` orders each user's own query items, with linear gain; `_exp` is the "
            "exponential gain."
        )
    else:
        intro += "`full_` ranks the whole catalogue, `sampled_` against sampled negatives."
    intro += (
        " Every learner was trained once: how far another seed would move it is not in the "
        "intervals."
    )
    for name in ("left_out", "drawn"):  # evaluations of earlier versions say nothing
        intro += f" {said}" if (said := evaluation.get(name)) else ""
    lower = [f"`{name}`" for name in _further(evaluation) if evaluation["further_metrics"][name]]
    if lower:
        intro += f" Lower is better of {', '.join(lower)}."
    return f"{intro}\n\n{_metric_table(evaluation['intervals'], evaluation)}"


def lists(evaluation: Mapping[str, Any]) -> str:
    """Return what each predictor's lists are worth beside what they show of the catalogue: a
    report's first table, since lists are what users see."""
    intervals = evaluation["intervals"]
    columns = {
        "full_ndcg": "nDCG",
        "full_coverage": "coverage",
        "full_gini": "Gini",
        "full_popularity": "popularity",
        "full_list-difference": "difference",
    }
    known = {m for found in intervals.values() for m in found}
    k = max(int(m.split("@")[1]) for m in known if m.startswith("full_coverage@"))
    measured = [name for name in columns if f"{name}@{k}" in known]
    rows = [
        [
            _emphasised(name, evaluation),
            *(_interval(found.get(f"{m}@{k}")) for m in measured),
        ]
        for name, found in _best_first(intervals, evaluation, f"full_ndcg@{k}")
    ]
    return (
        f"## Lists of {k} for {evaluation['num_users']} held-out cold users\n\n"
        "nDCG is of the relevant items over the whole catalogue; coverage is "
        "the share of the catalogue in some list; Gini is 0 where all items are equally often, "
        "near 1 where few have all the places; popularity is the mean percentile of the listed "
        "items by how many users met them; difference is the share of a list that another user's "
        "does not have. In brackets the intervals: of nDCG the bootstrap over users, of what all "
        f"lists show together the jackknife.{_without_lists(intervals, measured, k)}\n\n"
        f"{table(['', *(columns[m] for m in measured)], rows)}"
    )


def _without_lists(intervals: Mapping[str, Mapping[str, Any]], names: Sequence[str], k: int) -> str:
    """Return the sentence that says which predictors have no lists; empty if all have."""
    without = [n for n, found in intervals.items() if not any(f"{m}@{k}" in found for m in names)]
    if not without:
        return ""
    return f" Ranking so many items would take {' and '.join(without)} too long."


def curves(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the adaptation curves as tables: that of the primary metric and, where it is another,
    that of lists."""
    found = [evaluation["adaptation_curve"]]
    lists = evaluation.get("list_curve")  # evaluations of earlier versions have none
    if lists is not None and lists["metric"] != found[0]["metric"]:
        found.append(lists)
    return [_curve(one, evaluation) for one in found]


def _curve(found: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Return a table with a row per predictor and a column per number of shots."""
    header = ["", *[f"{k} shots" if k != 1 else "1 shot" for k in found["shots"]]]
    metric = found["metric"]
    at_most = {name: {metric: points[-1]} for name, points in found["points"].items()}
    rows = [
        [_emphasised(name, evaluation), *[_interval(p) for p in found["points"][name]]]
        for name, _ in _best_first(at_most, evaluation, metric)
    ]
    note = f" {found['note']}" if found["note"] else ""
    shown = f"`{metric}`" if "@" in metric else metric.upper()
    return (
        f"## Adaptation curve: {shown} by number of known interactions\n\n"
        f"The same {found['num_users']} users throughout.{note}\n\n{table(header, rows)}"
    )


def calibration(evaluation: Mapping[str, Any]) -> str:
    """Return what the uncertainty of predictions was worth: how often intervals held, and errors by
    standard deviation."""
    found = evaluation.get("calibration")
    if found is None:
        return (
            "## Uncertainty\n\nNone is given: the model learned from implicit feedback, whose "
            "scores are logits with no truth to be off from, or had too few development users."
        )
    further = {"development": "of development users", "learners_own": "own spread, as it is"}
    recorded = [key for key in further if all(key in row for row in found["coverage"])]
    header = ["interval", "held", *(further[key] for key in recorded)]
    rows = [
        [
            f"{row['level']:.0%}",
            _share(row),
            *(f"{row[key]:.1%}" for key in recorded),
        ]
        for row in found["coverage"]
    ]
    bins = [
        [f"{b['from']:.2f} to {b['to']:.2f}", _number(b["expected_rmse"]), _number(b["rmse"])]
        for b in found["bins"]
    ]
    return (
        f"## Uncertainty\n\nLearned from {found['fitted_to_users']} development users, checked on "
        f"the {found['num_rows']:,} query rows of {found['num_users']} cold users, who count "
        "alike.\n\n"
        f"{table(header, rows)}\n\nThe rows in equal parts by their standard deviation:\n\n"
        f"{table(['standard deviation', 'expected RMSE', 'RMSE'], bins)}"
        f"{_levels(found.get('levels', []))}"
    )


def certificate(evaluation: Mapping[str, Any]) -> list[str]:
    """Return for whom lists are certified to be no worse than those of popularity; empty for a
    model without a certificate, and evaluations of earlier versions."""
    found = evaluation.get("certificate")
    if found is None:
        return []
    header = ["known interactions", "advantage", "at least", "cold users", "their lists"]
    segments = found["segments"]
    if found["attribute"] is not None:
        header = [found["attribute"], *header]
    rows = []
    for segment, after in zip(segments, [*segments[1:], None], strict=True):
        is_last = after is None or after["value"] != segment["value"]
        last = "" if is_last else after["fewest"] - 1
        known = f"{segment['fewest']} or more" if is_last else f"{segment['fewest']} to {last}"
        known = str(last) if last == segment["fewest"] else known
        low = segment["at_least"]
        row = [
            known,
            f"{segment['advantage']:+.4f} ({segment['num_users']} users)",
            "" if low is None else f"{low:+.4f}",
            _interval(segment["cold"]),
            "the model's" if segment["is_certified"] else "popular items",
        ]
        others = "all others" if segment["value"] is None else inline(segment["value"])
        rows.append([others, *row] if found["attribute"] is not None else row)
    return [
        "## Never worse than popularity\n\nWhere the development users do not show that the "
        f"model's lists are at most {found['tolerance']:g} nDCG@10 worse than those of recent "
        f"popularity, users get the latter; all such choices together are wrong with a chance of "
        f"{found['level']:.0%} at most. *Advantage* is the mean of the development users by lists "
        "that were learned without them, *at least* its lower bound, and *cold users* that of the "
        f"held-out users, with its interval. Of {found['num_resamples']:,} resamples of the "
        f"development users {found['violation_rate']:.1%} certify lists that are worse than that, "
        f"and {found['border_rate']:.1%} would if all lists were worse by just as much.\n\n"
        f"{table(header, rows)}"
    ]


def _levels(found: Sequence[Mapping[str, float]]) -> str:
    """Return how likely each level of the scale was said to be beside how often it came; empty for
    a model without a level head."""
    if not found:
        return ""
    rows = [[f"{r['level']:g}", f"{r['predicted']:.1%}", _share(r)] for r in found]
    return (
        "\n\nThe levels of the scale, as they were predicted and as they came:\n\n"
        f"{table(['rating', 'predicted', 'observed'], rows)}"
    )


def _share(row: Mapping[str, float]) -> str:
    """Return the share that was observed with its interval, where it has one."""
    interval = f" [{row['ci_low']:.1%}, {row['ci_high']:.1%}]" if "ci_low" in row else ""
    return f"{row['observed']:.1%}{interval}"


def gate(decision: Mapping[str, Any]) -> str:
    """Return the gate's verdict and its reasons."""
    verdict = "**promoted**" if decision["promoted"] else "**not promoted**"
    reasons = "\n".join(f"- {reason}" for reason in decision["reasons"])
    return f"## Gate: {verdict}\n\n{reasons}"


def data(
    ingested: Mapping[str, int],
    tasks: Mapping[str, int],
    objective: str,
    temporal: bool,
    findings: Mapping[str, Any] | None = None,
) -> str:
    """Return what went in: rows by fate, tasks by split.

    Args:
        ingested: counts of ingest.
        tasks: counts of build-tasks.
        findings: what ingest found of the log as a whole; None where it is not known.
    """
    rows = table(
        ["rows read", "accepted", "duplicates", "quarantined"],
        [[f"{ingested[k]:,}" for k in ("rows_read", "accepted", "duplicates", "quarantined")]],
    )
    splits = table(
        ["users", "items", "meta-train tasks", "development tasks", "cold test tasks"],
        [[f"{tasks[k]:,}" for k in ("users", "items", "tasks_train", "tasks_dev", "tasks_test")]],
    )
    how = "the first interactions are support, the next ones query" if temporal else "random rows"
    aside = tasks.get("not_positive", 0)
    left_out = f" {aside:,} rows have a value of 0 or less and are not positives." if aside else ""
    return (
        f"## Data\n\n{rows}\n\n{_of_log(findings)}Objective: {objective}; within a user "
        f"{how}.{left_out}\n\n{splits}"
    )


def _of_log(findings: Mapping[str, Any] | None) -> str:
    """Return what ingest found of the log as a whole, as a paragraph; perhaps empty."""
    if findings is None:
        return ""
    sentences = []
    if findings["first_time"] is not None:
        sentences.append(f"Times go from {findings['first_time']} to {findings['last_time']}.")
    for name in ("users", "items"):
        known = findings[f"{name}_known"]
        if known is not None:
            total = findings[f"num_{name}"]
            sentences.append(f"{known:,} of the log's {total:,} {name} have attributes.")
    return " ".join(sentences) + "\n\n" if sentences else ""


def values(evaluation: Mapping[str, Any]) -> str:
    """Return what scale the ratings are on and which are relevant; of implicit feedback, nothing.

    Args:
        evaluation: evaluation.json.
    """
    found = evaluation.get("values")
    if found is None:
        return ""
    lowest, highest, median = (f"{found[n]:,g}" for n in ("lowest", "highest", "median"))
    levels = f" in {found['num_levels']} levels" if found["num_levels"] else ""
    sentence = (
        f"Ratings go from {lowest} to {highest}{levels}, half of them up to {median}; those of "
        f"{evaluation['relevant_from']:,g} and above are relevant in lists."
    )
    if not found["has_tail"]:
        return sentence
    return (
        f"{sentence} So few are near the highest that they look like counts or amounts: ingested "
        "with an event of another kind than `rating`, as by `--event purchase`, each pair of user "
        "and item is one positive."
    )


def top_list(user_id: str, support: Sequence[Sequence[str]], ranked: str, version: str) -> str:
    """Return what was known of one new user and the list that was made of it.

    Args:
        support: (item, value) rows.
        ranked: the list, as `recmeta.reporting.lists.ranked` returns it.
    """
    support = [[inline(item), value] for item, value in support]
    known = table(["known of the user", "value"], support) if support else "Nothing was known."
    return (
        f"{NEW_USER}{inline(user_id)}\n\n{known}\n\n"
        f"Ranked by version {version} of the model; likelihoods are relative to the first item's:"
        f"\n\n{ranked}"
    )


def shows_user(report: str, user_id: str) -> bool:
    """Return whether a report holds the `top_list` of a user."""
    return any(f"{NEW_USER}{written}\n" in report for written in (inline(user_id), user_id))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, whose columns of numbers are right-aligned, but for the first.

    Args:
        rows: Markdown; what is not ours goes through `recmeta.markup.inline` first.
    """
    columns = list(zip(*rows, strict=True))[1:] or [()] * (len(header) - 1)
    marks = ["---", *("---:" if all(map(_is_number, column)) else "---" for column in columns)]
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "|".join(marks) + "|",
        *["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows],
    ]
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    """Return whether a cell begins with a number, has a dash for one or is empty."""
    return not cell.strip() or NUMBER.match(cell) is not None


def _metric_table(intervals: Mapping[str, Mapping[str, Any]], evaluation: Mapping[str, Any]) -> str:
    wanted = dict.fromkeys([*HEADLINE[evaluation["objective"]], *_further(evaluation)])
    header = [m for m in wanted if any(m in found for found in intervals.values())]
    rows = [
        [_emphasised(name, evaluation), *[_interval(found.get(m)) for m in header]]
        for name, found in _best_first(intervals, evaluation, next(iter(header), ""))
    ]
    return table(["", *header], rows)


def _further(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the metrics that were asked for beside the usual ones; of those that rank the
    catalogue, without their sampled twins."""
    further = evaluation.get("further_metrics", {})
    return [name for name in further if not name.startswith("sampled_")]


def _best_first(
    found: Mapping[str, Mapping[str, Any]], evaluation: Mapping[str, Any], metric: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the predictors in a table's order: the candidate, then the others, best first by a
    metric and those without it last."""
    sign = 1 if metric in ERRORS else -1

    def place(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, bool, float]:
        name, intervals = item
        mean = (intervals.get(metric) or {}).get("mean")
        return name != evaluation["candidate"], mean is None, 0.0 if mean is None else sign * mean

    return sorted(found.items(), key=place)


def _emphasised(name: str, evaluation: Mapping[str, Any]) -> str:
    return f"**{name}**" if name == evaluation["candidate"] else name


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "–"
    low, high = found["ci_low"], found["ci_high"]
    if low is None and high is None:
        return _number(found["mean"])
    return f"{_number(found['mean'])} [{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("\n", " ")
