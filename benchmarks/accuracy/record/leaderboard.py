"""docs/leaderboard.md out of docs/results: `python -m benchmarks.accuracy.record.leaderboard`.

Every number of the page is in these files; a test asks that the page is what they make.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.compact import expand
from benchmarks.accuracy.direction import is_error
from benchmarks.accuracy.record.protocols import PROTOCOLS
from benchmarks.accuracy.record.released.projects import PROJECTS
from benchmarks.accuracy.report import distinct, name_of_metric, rows_of
from recmeta.reporting.markdown import table

RESULTS = Path(__file__).parents[3] / "docs/results"
PAGE = RESULTS.parent / "leaderboard.md"
RELEASED = "released.json"
Result = Mapping[str, Any]

_HEAD = """# Leaderboard: cold-start learners under the protocols of others

    make accuracy PROTOCOL=metarec-ml100k      # one protocol, five seeds, and this page anew
    make leaderboard                           # every protocol below, the cheapest first

The splits and metrics are those that other projects publish on data that anybody can have;
learners and tuned baselines meet the same cold users. How a run works, what the baselines are and
what makes its numbers hold is in [accuracy.md](accuracy.md). Every number here is read from
[results](results). In brackets stand 95 % bootstrap intervals over cold users, each of whom was
first averaged over the seeds; differences are paired by user."""
_RELEASED_HEAD = """## The authors' own code

    python -m benchmarks.accuracy.record.released --code DIR     # DIR: outside of the checkout

takes the released code of each project, at the commit named here, into `DIR`, gives its scorer the
same lists of the same cold users, and scores them again as its definitions are meant. `perfect` is
the list in the order of the true ratings, `random` one in no order."""


def load(folder: Path = RESULTS) -> tuple[list[Result], Result | None]:
    """Return the protocols' results that there are, the cheapest first, and the audit of released
    code."""
    found: list[Result] = [
        expand(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        for name in PROTOCOLS
        if (folder / f"{name}.json").exists()
    ]
    released = folder / RELEASED
    if not released.exists():
        return found, None
    return found, json.loads(released.read_text(encoding="utf-8"))


def page(results: Sequence[Result], audit: Result | None) -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    if results:
        parts.append(_overview(results))
    for result in results:
        parts += _protocol(result)
    absent = [name for name in PROTOCOLS if name not in {r["protocol"] for r in results}]
    if absent:
        parts.append(f"Not run yet: {', '.join(f'`{name}`' for name in absent)}.")
    if audit is not None:
        parts += audited(audit)
    return "\n\n".join(part for part in parts if part) + "\n"


def write(folder: Path = RESULTS, target: Path = PAGE) -> None:
    """Write the page of a folder's results."""
    target.write_text(page(*load(folder)), encoding="utf-8")


def _overview(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        metric = result["primary_metric"]
        for state in distinct(result["rows"], "state"):
            of = rows_of(result, metric=metric, state=state)
            best = _best(of, lower=result["lower_is_better"])
            baseline = _best(
                [r for r in of if r["learner"] in result["baselines"]],
                lower=result["lower_is_better"],
            )
            ahead = _difference(result, state, best["learner"], baseline["learner"])
            rows.append(
                [
                    f"`{result['protocol']}`",
                    state,
                    name_of_metric(metric),
                    f"{best['learner']} {best['mean']:.4f}",
                    f"{baseline['learner']} {baseline['mean']:.4f}",
                    _said(ahead) if ahead else "",
                    str(len(best["seeds"])),
                    f"{_minutes(result):.1f}",
                ]
            )
    head = ["protocol", "cold", "metric", "best", "best baseline", "difference", "seeds"]
    return "## Who leads\n\n" + table([*head, "CPU minutes"], rows)


def _protocol(result: Result) -> list[str]:
    metrics = distinct(result["rows"], "metric")
    parts = [f"## {result['title']}", result["rules"]]
    for state in distinct(result["rows"], "state"):
        of = {(r["learner"], r["metric"]): r for r in rows_of(result, state=state)}
        learners = distinct(rows_of(result, state=state), "learner")
        num_users = max(r["num_users"] for r in of.values())
        body = [
            [name, *[_cell(of.get((name, m)), m == metrics[0]) for m in metrics]]
            for name in learners
        ]
        parts.append(f"{state}, {num_users:,} users:")
        parts.append(table(["", *map(name_of_metric, metrics)], body))
        quoted = [p for p in result["published"] if p["state"] == state]
        if quoted:
            parts.append(_quoted(quoted))
        parts += [
            _rivals(result, state, m) for m in dict.fromkeys((metrics[0], "mae")) if m in metrics
        ]
    seeds = result["rows"][0]["seeds"]
    parts.append(
        f"`{result['command']}`: {len(seeds)} seed{'s' * (len(seeds) > 1)}, "
        f"{_minutes(result):.1f} CPU minutes of learning, search included, the dearest learner "
        f"{_dearest(result)}. Of intervals and differences in every metric see "
        f"[{result['protocol']}.json](results/{result['protocol']}.json)."
    )
    return parts


def _quoted(published: Sequence[Mapping[str, Any]]) -> str:
    metrics = list(dict.fromkeys(p["metric"] for p in published))
    value = {(p["learner"], p["metric"]): p["value"] for p in published}
    learners = list(dict.fromkeys(p["learner"] for p in published))
    body = [
        [name, *[f"{value[name, m]:.4f}" if (name, m) in value else "" for m in metrics]]
        for name in learners
    ]
    first = published[0]
    return (
        f"Published, quoted ({first['source']}); what differs: {first['difference']}.\n\n"
        + table(["", *map(name_of_metric, metrics)], body)
    )


def _rivals(result: Result, state: str, metric: str) -> str:
    """Return the learners minus every other in a metric."""
    found = [
        d for d in result["paired_differences"] if d["metric"] == metric and d["state"] == state
    ]
    if not found:  # baselines alone were run
        return ""
    learners, others = distinct(found, "learner"), distinct(found, "baseline")
    by_pair = {(d["learner"], d["baseline"]): d for d in found}
    body = [
        [
            other,
            *[_said(by_pair[one, other]) if (one, other) in by_pair else "" for one in learners],
        ]
        for other in others
    ]
    better = "lower" if is_error(metric) else "higher"
    return (
        f"{name_of_metric(metric)}, the learner of the column minus the row's ({better} is better; "
        "bold where zero is outside the interval):\n\n" + table(["", *learners], body)
    )


def audited(audit: Result) -> list[str]:
    """Return the section on released code, in parts."""
    parts = [_RELEASED_HEAD]
    rows_of_project = {found["name"]: found["rows"] for found in audit["projects"]}
    for project in PROJECTS:
        rows = rows_of_project.get(project.name, [])
        parts.append(f"### {project.name}")
        parts.append(f"`{project.repository}` at `{project.commit[:12]}`. {project.reason}")
        if not rows:
            parts.append("Not run yet.")
        else:
            body = [
                [
                    r["list"],
                    name_of_metric(r["metric"]),
                    f"{r['released']:.4f}",
                    "" if r["corrected"] is None else f"{r['corrected']:.4f}",
                    f"{r['num_lists']:,}",
                ]
                for r in rows
            ]
            parts.append(table(["list", "metric", "as released", "corrected", "lists"], body))
    return parts


def _best(rows: Sequence[Mapping[str, Any]], *, lower: bool) -> Mapping[str, Any]:
    known = [r for r in rows if r["mean"] is not None]
    return (min if lower else max)(known, key=lambda r: r["mean"])


def _difference(result: Result, state: str, one: str, other: str) -> Mapping[str, Any] | None:
    for d in result["paired_differences"]:
        pair = (d["state"], d["metric"], d["learner"], d["baseline"])
        if pair == (state, result["primary_metric"], one, other):
            found: Mapping[str, Any] = d
            return found
    return None


def _cell(row: Mapping[str, Any] | None, with_interval: bool) -> str:
    if row is None or row["mean"] is None:
        return ""
    mean = f"{row['mean']:.4f}"
    return f"{mean} [{row['ci_low']:.4f}, {row['ci_high']:.4f}]" if with_interval else mean


def _said(one: Mapping[str, Any]) -> str:
    text = f"{one['mean']:+.4f} [{one['ci_low']:+.4f}, {one['ci_high']:+.4f}]"
    return text if one["verdict"] == "tie" else f"**{text}**"


def _minutes(result: Result) -> float:
    return float(sum(c["training_cpu_minutes"] for c in result["cells"]))


def _dearest(result: Result) -> str:
    by_learner: dict[str, list[float]] = {}
    for cell in result["cells"]:
        by_learner.setdefault(cell["learner"], []).append(cell["training_cpu_minutes"])
    mean = {name: sum(found) / len(found) for name, found in by_learner.items()}
    name = max(mean, key=lambda n: mean[n])
    return f"`{name}` with {mean[name]:.1f} a seed"


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{PAGE}\n")
