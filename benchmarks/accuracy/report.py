"""The report of a protocol as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.direction import is_error
from recmeta.reporting.markdown import table

MOST_DIFFERENCES = 200
"""Rows of a list of differences; where there are more, they are set side by side."""


def benchmark_report(result: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Return the report of a protocol.

    Args:
        result: of `run.run`, or what `compact.expand` makes of the JSON.
        pictures: file name of each picture, by what it shows.
    """
    parts = [
        f"# {result['title']}",
        result["rules"],
        "Means over cold users; a user's number is first averaged over the seeds. In brackets the "
        "95 % bootstrap interval over users. Bold: the best mean of a column.",
        *[f"![{shown}]({file})" for shown, file in pictures.items()],
        *_tables(result),
        _published(result),
        *[_differences(result, metric) for metric in (result["primary_metric"], "mae_rounded")],
        *_analysis(result),
        _choices(result),
        _cost(result),
        _provenance(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rows_of(result: Mapping[str, Any], **wanted: str) -> list[Mapping[str, Any]]:
    """Return the rows whose fields have these values."""
    return [r for r in result["rows"] if all(r[name] == value for name, value in wanted.items())]


def distinct(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Return the distinct values of a field, in order of appearance."""
    return list(dict.fromkeys(r[name] for r in rows))


def _tables(result: Mapping[str, Any]) -> list[str]:
    parts = []
    for metric in distinct(result["rows"], "metric"):
        for training in distinct(result["rows"], "training"):
            rows = rows_of(result, metric=metric, training=training)
            if rows:
                parts.append(f"## {name_of_metric(metric)}, training: {training}")
                parts.append(_metric_table(rows, metric))
    return parts


def _metric_table(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    states = distinct(rows, "state")
    cells = {(r["learner"], r["state"]): r for r in rows}
    best = {
        s: (min if is_error(metric) else max)(
            r["mean"] for r in rows if r["state"] == s and r["mean"] is not None
        )
        for s in states
    }

    def cell(learner: str, state: str) -> str:
        found = cells.get((learner, state))
        if found is None or found["mean"] is None:
            return "–"
        mean = f"{found['mean']:.4f}"
        mean = f"**{mean}**" if found["mean"] == best[state] else mean
        if len(states) > 3:  # a curve: its intervals are in the JSON
            return mean
        return f"{mean} [{found['ci_low']:.4f}, {found['ci_high']:.4f}]"

    num_users = {s: max(r["num_users"] for r in rows if r["state"] == s) for s in states}
    header = ["", *[f"{s} ({num_users[s]} users)" for s in states]]
    body = [[name, *[cell(name, s) for s in states]] for name in distinct(rows, "learner")]
    return table(header, body)


def name_of_metric(name: str) -> str:
    """Return how a metric is called in a table."""
    for gain in ("linear", "exponential"):
        if name.endswith(f"_{gain}"):
            return f"nDCG{name.removesuffix(f'_{gain}').removeprefix('ndcg')}, {gain} gain"
    names = {
        "mae": "MAE",
        "mae_rounded": "MAE of predictions rounded to the scale's levels",
        "rmse": "RMSE (of each user, then averaged)",
    }
    return names.get(name, name)


def _published(result: Mapping[str, Any]) -> str:
    if not result["published"]:
        return ""
    rows = [
        [p["learner"], p["state"], p["metric"], f"{p['value']:.3f}", p["source"], p["difference"]]
        for p in result["published"]
    ]
    header = ["published", "state", "metric", "value", "source", "difference in protocol"]
    return "## Published numbers, quoted\n\n" + table(header, rows)


def _differences(result: Mapping[str, Any], metric: str) -> str:
    found = [d for d in result["paired_differences"] if d["metric"] == metric]
    if not found:
        return ""
    better = "lower" if result["lower_is_better"] else "higher"
    if len(found) > MOST_DIFFERENCES:
        return _difference_tables(found, metric, better)
    rows = [
        [
            f"{d['learner']} − {d['baseline']}",
            d["training"],
            d["state"],
            f"{d['mean']:+.4f} [{d['ci_low']:+.4f}, {d['ci_high']:+.4f}]",
            d["verdict"],
        ]
        for d in found
    ]
    return (
        f"## Paired differences in {metric} ({better} is better)\n\nOver the same users; `better` "
        "and `worse` mean that the 95 % interval leaves out zero. All other metrics are in the "
        "JSON.\n\n" + table(["", "training", "state", "difference", "learner is"], rows)
    )


def _difference_tables(found: Sequence[Mapping[str, Any]], metric: str, better: str) -> str:
    """Return a table of learners by baselines for each training and state."""
    parts = [
        f"## Paired differences in {metric}, learner − baseline ({better} is better)\n\nOver the "
        "same users. Where the 95 % interval leaves out zero: **bold**, the learner is better; "
        "*slanted*, it is worse. The intervals are in the JSON."
    ]
    baselines = distinct(found, "baseline")
    for training, state in dict.fromkeys((d["training"], d["state"]) for d in found):
        of = [d for d in found if (d["training"], d["state"]) == (training, state)]
        cells = {(d["learner"], d["baseline"]): _marked(d) for d in of}
        body = [
            [name, *[cells.get((name, b), "–") for b in baselines]]
            for name in distinct(of, "learner")
        ]
        parts.append(f"### {state}, training: {training}\n\n" + table(["", *baselines], body))
    return "\n\n".join(parts)


def _marked(difference: Mapping[str, Any]) -> str:
    mark = {"better": "**", "worse": "*", "tie": ""}[difference["verdict"]]
    return f"{mark}{difference['mean']:+.4f}{mark}"


def _analysis(result: Mapping[str, Any]) -> list[str]:
    """Return where the error lies; not for a curve, which shows that by itself."""
    found = [r for r in result.get("error_analysis", ()) if not r["state"].startswith("shots=")]
    if not found:
        return []
    parts = [
        "## Where the error lies\n\nMAE by segment; in brackets the users with a query row in it. "
        "Intervals are in the JSON."
    ]
    for by in distinct(found, "by"):
        for training, state in dict.fromkeys((r["training"], r["state"]) for r in found):
            rows = [
                r for r in found if (r["by"], r["training"], r["state"]) == (by, training, state)
            ]
            segments = distinct(rows, "segment")
            num_users = {
                s: max(r["num_users"] for r in rows if r["segment"] == s) for s in segments
            }
            cells = {(r["learner"], r["segment"]): f"{r['mean']:.4f}" for r in rows}
            body = [
                [name, *[cells.get((name, s), "–") for s in segments]]
                for name in distinct(rows, "learner")
            ]
            header = [by, *[f"{s} ({num_users[s]})" for s in segments]]
            parts.append(f"### By {by}: {state}, training: {training}")
            parts.append(table(header, body))
    return parts


def _choices(result: Mapping[str, Any]) -> str:
    rows = []
    for cell in result["cells"]:
        if cell["seed"] != result["cells"][0]["seed"] or cell["learner"] not in result["baselines"]:
            continue
        seen: set[str] = set()
        for state, chosen in cell["chosen"].items():
            config = ", ".join(
                f"{name.removeprefix('model.')}={_value(value)}"
                for name, value in chosen["config"].items()
                if value is not None and not name.endswith("sweeps")
            )
            if config and config not in seen:
                seen.add(config)
                by = f"{chosen['trials']} trials, {chosen['chosen_by']}"
                rows.append([cell["learner"], cell["training"], state, config, by])
    if not rows:
        return ""
    header = ["", "training", "first state it holds for", "chosen", "by"]
    return (
        f"## Hyperparameters of the baselines, seed {result['cells'][0]['seed']}\n\n"
        "Each seed chooses anew; the JSON has them all, and the configurations of the "
        "meta-learners.\n\n" + table(header, rows)
    )


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cost(result: Mapping[str, Any]) -> str:
    keys = dict.fromkeys((c["learner"], c["training"]) for c in result["cells"])
    rows = []
    for learner, training in keys:
        of = [c for c in result["cells"] if (c["learner"], c["training"]) == (learner, training)]
        train = sum(c["training_cpu_minutes"] for c in of) / len(of)
        adapt = sum(c["adaptation_cpu_us"] for c in of) / len(of)
        rows.append([learner, training, f"{train:.2f}", f"{adapt:,.0f}"])
    header = ["", "training", "training minutes, search included", "adaptation µs per user"]
    return (
        "## Cost, mean over seeds\n\nIn CPU time. Adaptation: to a cold user's support, and the "
        "prediction of the user's query rows (implicit feedback: of the whole catalogue), in "
        "batches.\n\n" + table(header, rows)
    )


def _provenance(result: Mapping[str, Any]) -> str:
    data = result["data"]
    counts = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in data["verified"].items())
    versions = ", ".join(f"{k} {v}" for k, v in result["libraries"].items())
    commits = dict.fromkeys(str(c["git_commit"])[:12] for c in result["cells"])
    seeds = sorted({c["seed"] for c in result["cells"]})
    return "\n".join(
        [
            "## Where the numbers come from",
            "",
            f"- command: `{result['command']}`",
            f"- seeds: {', '.join(map(str, seeds))}",
            f"- data: {data['name']}, SHA-256 of the tables `{data['sha256'][:16]}`, verified: "
            f"{counts}. {data['cite']}.",
            f"- code: recmeta {result['code']['recmeta']}, commits of the runs "
            f"{', '.join(f'`{c}`' for c in commits)}; each cell of the JSON has the fingerprint of "
            "the code that it depends on, which outlives a rebase",
            f"- libraries: {versions}; {result['cpus']} CPU cores",
        ]
    )
