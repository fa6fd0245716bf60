"""Tables of README.md and docs/ out of saved results: `python -m docs.figures`, or `make figures`.

A page has `<!-- figure: NAME -->` and `<!-- /figure -->`; what stands between them is made here. A
test asks that every page is what its results make, so that no quoted table differs from its JSON.
With `--lists` the example of README is computed anew first, which trains a model for some seconds;
with `--demo WORKSPACE` the report of `make demo` is taken from its workspace.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.compact import expand
from benchmarks.accuracy.lists import LISTS
from docs import few_shot_tables, first_rows, question_tables, speed_tables
from recmeta.reporting.markdown import table

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RESULTS = DOCS / "results"
ACCURACY = ROOT / "benchmarks/accuracy/results"
FIRST_LIST = RESULTS / "first-list.json"
DEMO = RESULTS / "demo-report.txt"
"""What `make demo` prints, up to where it names users and paths."""
BLOCK = re.compile(r"(<!-- figure: ([\w-]+) -->\n).*?(<!-- /figure -->)", re.DOTALL)
ANSWERS = (("420", "Alice in Wonderland"), ("71", "The Lion King"), ("588", "Beauty and the Beast"))
"""Items of MovieLens 100K that README's user likes, one after the other."""
NAMES = {
    "ml-1m": "MovieLens 1M",
    "ml-100k": "MovieLens 100K",
    "book-crossing": "Book-Crossing",
    "lastfm-hetrec": "Last.FM",
    "online-retail": "Online Retail",
}
"""Data sets as a reader knows them, in the order in which README shows them."""
Json = Mapping[str, Any]


def load(path: Path) -> Any:
    """Return a JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


# What README shows -------------------------------------------------------------------------------


def measure_first_list() -> dict[str, Any]:
    """Train the default on MovieLens 100K, and return what README and the library's page show."""
    import pandas as pd

    import recmeta
    from recmeta.logs.fetching.datasets import fetch, mapping_for

    data = recmeta.Dataset.from_mapping(mapping_for("ml-100k", fetch("ml-100k")))
    model = recmeta.fit(data, seed=0, progress=False)
    lists = []
    for known in range(len(ANSWERS) + 1):
        ids = [item for item, _ in ANSWERS[:known]] or [None]  # without an item: a user alone
        rows = pd.DataFrame({"user_id": "me", "item_id": ids, "value": 5.0 if known else None})
        lists.append(list(model.recommend(rows, top_k=5)["title"]))
    me = pd.DataFrame({"user_id": "me", "item_id": [50, 181], "value": [5, 4]})
    return {
        "answers": [title for _, title in ANSWERS],
        "lists": lists,
        "recommended": _rows(model.recommend(me, top_k=5)),
        "predicted": _rows(model.predict(me, [64, 98])),
    }


def _rows(frame: Any) -> list[dict[str, Any]]:
    """Return a frame's rows; two digits are what a page shows and any machine gives."""
    found = frame.to_dict(orient="records")
    return [
        {name: round(float(v), 2) if isinstance(v, float) else v for name, v in row.items()}
        for row in found
    ]


def library_table(name: str) -> Callable[[], str]:
    """Return what makes a table of the library's page."""

    def made() -> str:
        rows = load(FIRST_LIST)[name]
        cells = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
        return table(list(rows[0]), cells)

    return made


def first_list() -> str:
    """Return the lists of README's user, one column per number of answers."""
    found = load(FIRST_LIST)
    head = ["nothing known", *(f"+ {_spoken(title)}" for title in found["answers"])]
    return "\n".join(
        f"| {' | '.join(cells)} |"
        for cells in (
            head,
            ["---"] * len(head),
            *zip(*map(_all_spoken, found["lists"]), strict=True),
        )
    )


def lists_overview() -> str:
    """Return nDCG@10 of the default and of the best baseline, a row per data set."""
    results = {found["data"]["name"]: found for found in map(load, RESULTS.glob("lists-*.json"))}
    rows = [_overview_row(NAMES[name], results[name]) for name in NAMES if name in results]
    head = ["", "no answer", "three", "all", "best baseline, all", "difference, all"]
    return table(head, rows)


def _overview_row(name: str, found: Json) -> list[str]:
    mean = {(r["learner"], r["shots"]): r["mean"] for r in found["rows"] if r["metric"] == LISTS}
    own = (found["default"], found["rival"])
    best = max((n for n, k in mean if k == "all" and n not in own), key=lambda n: mean[n, "all"])
    (one,) = (
        d
        for d in found["differences"]
        if (d["metric"], d["shots"], d["minus"]) == (LISTS, "all", best)
    )
    said = f"{one['mean']:+.3f} [{one['ci_low']:+.3f}, {one['ci_high']:+.3f}]"
    return [
        name,
        *(f"{mean[found['default'], k]:.3f}" for k in (0, 3, "all")),
        f"{mean[best, 'all']:.3f} ({best})",
        said if one["verdict"] == "tie" else f"**{said}**",
    ]


def _all_spoken(titles: Sequence[str]) -> list[str]:
    return [_spoken(title) for title in titles]


def _spoken(title: str) -> str:
    """Return "The Godfather" for "Godfather, The"."""
    name, comma, article = title.rpartition(", ")
    return f"{article} {name}" if comma and article in ("The", "A", "An") else title


# What the demo prints ----------------------------------------------------------------------------


def demo_report(text: str) -> str:
    """Return the part of a run's report that is the same wherever it runs."""
    for heading in ("Where to look next", "Recommendations for new user"):
        text = text.partition(f"\n## {heading}")[0]
    return text.rstrip() + "\n"


def demo(heading: str, *rows: str, intervals: bool = True) -> Callable[[], str]:
    """Return what makes a block with one section of the demo's report: its heading, the heads of
    its tables, and the rows and items that begin with one of `rows`, or all of them."""

    def made() -> str:
        shown = []
        for line in sections(DEMO.read_text(encoding="utf-8"))[heading]:
            name = line.removeprefix("| ").removeprefix("- ").strip("*|: ")
            is_head = line.startswith(("|  |", "|---"))
            if is_head or not rows or any(row in name for row in rows):
                shown.append(line if intervals else re.sub(r" \[[^\]]*\]", "", line))
        return "```text\n" + "\n".join([f"## {heading}", "", *shown]) + "\n```"

    return made


def sections(report: str) -> dict[str, list[str]]:
    """Return the rows of tables and the items of lists of a report, by heading."""
    found: dict[str, list[str]] = {}
    for part in report.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        found[heading] = [line for line in body.splitlines() if line.startswith(("|", "- "))]
    return found


# Protocols of ratings ---------------------------------------------------------------------------

STATES = ("user_cold", "item_cold", "user_and_item_cold")
MELU_LEARNERS = (
    *("melu-published", "item-mean-user-bias", "item-knn", "content-ridge", "boosted-trees"),
    *("maml", "maml-median", "bayesian-linear"),
)
TEMPORAL_LEARNERS = (
    *("item-mean-user-bias", "item-knn", "ease", "boosted-trees"),
    *("maml", "maml-median", "bayesian-linear"),
)
SHOTS = ("0", "1", "3", "5", "10", "20")


def melu_states(name: str) -> Callable[[], str]:
    """Return what makes the table of MeLU's states: MAE of new users, new items, both new."""

    def made() -> str:
        mean = _means(name)
        rows = []
        for learner in MELU_LEARNERS:
            cells = [
                "/".join(_three(mean.get((learner, training, state, metric))) for state in STATES)
                for training in ("filtered", "all")
                for metric in ("mae", "mae_rounded")
            ]
            rows.append([learner, *("" if set(c) <= set("-/") else c for c in cells)])
        head = ["", "filtered users", "rounded", "all warm ratings", "rounded"]
        return table(head, rows)

    return made


def temporal(name: str) -> Callable[[], str]:
    """Return what makes the table of a protocol in time order: MAE by shots."""

    def made() -> str:
        mean = _means(name)
        rows = [
            [
                learner,
                *(_three(mean.get((learner, "all", f"shots={k}", "mae"))) for k in SHOTS),
                *(
                    _three(mean.get((learner, "all", f"shots={k}", "mae_rounded")))
                    for k in ("5", "20")
                ),
            ]
            for learner in TEMPORAL_LEARNERS
        ]
        return table(["MAE by shots", *SHOTS, "5, rounded", "20, rounded"], rows)

    return made


def _means(name: str) -> dict[tuple[str, str, str, str], float]:
    """Return a protocol's means by learner, training, state and metric."""
    found = expand(load(ACCURACY / f"{name}.json"))
    return {
        (r["learner"], r["training"], r["state"], r["metric"]): r["mean"] for r in found["rows"]
    }


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# Pages -------------------------------------------------------------------------------------------

FIGURES: dict[str, Callable[[], str]] = {
    "first-list": first_list,
    "recommended": library_table("recommended"),
    "predicted": library_table("predicted"),
    "lists-overview": lists_overview,
    "demo-data": demo("Data"),
    "demo-lists": demo(
        "Lists of 10 for 187 held-out cold users",
        *("maml", "bayesian-linear", "user-knn", "item-knn", "popularity"),
    ),
    "demo-curve": demo(
        "Adaptation curve: MAE by number of known interactions",
        *("maml", "item-knn"),
        intervals=False,
    ),
    "demo-list-curve": demo(
        "Adaptation curve: `full_ndcg@10` by number of known interactions",
        *("maml", "popularity"),
        intervals=False,
    ),
    "demo-gate": demo("Gate: **promoted**", "than those of item-knn"),
    "melu-ml1m": melu_states("melu-ml1m"),
    "melu-book-crossing": melu_states("melu-book-crossing"),
    "temporal-ml100k": temporal("temporal-ml100k"),
    "temporal-ml1m": temporal("temporal-ml1m"),
    "first-rows-ml-100k": first_rows.lists_table("ml-100k"),
    "first-rows-lastfm": first_rows.lists_table("lastfm-hetrec"),
    "first-rows-costs": first_rows.costs_table,
    "asking-mae": question_tables.by_questions("mae"),
    "asking-lists": question_tables.by_questions("full_ndcg@10"),
    "asking-regret": question_tables.by_questions("regret"),
    "asking-answers": question_tables.by_questions("answers"),
    "few-shot": few_shot_tables.accuracies,
    "meta-train": speed_tables.meta_train,
    "adapt-score": speed_tables.adapt_score,
    "adapt-score-gpu": speed_tables.adapt_score_gpu,
    "serve": speed_tables.serve,
    "build-tasks": speed_tables.build_tasks,
}
"""What makes each table, by the name in its page."""


def pages() -> list[Path]:
    """Return the pages that have tables made here."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [path for path in found if BLOCK.search(path.read_text(encoding="utf-8"))]


def filled(page: str) -> str:
    """Return a page with every table made anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{FIGURES[m[2]]()}\n{m[3]}", page)


def main(arguments: Sequence[str]) -> None:
    """Write all tables and pictures that come from saved results."""
    from benchmarks.accuracy import lists
    from benchmarks.accuracy.record import leaderboard
    from docs import learner_pages

    if "--lists" in arguments:
        FIRST_LIST.write_text(json.dumps(measure_first_list(), indent=1) + "\n", encoding="utf-8")
    if "--demo" in arguments:
        workspace = Path(arguments[arguments.index("--demo") + 1])
        report = (workspace / "report.md").read_text(encoding="utf-8")
        DEMO.write_text(demo_report(report), encoding="utf-8")
    for path in pages():
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    results = [load(path) for path in sorted(RESULTS.glob("lists-*.json"))]
    lists.PAGE.write_text(lists.in_page(lists.PAGE.read_text(encoding="utf-8"), results))
    first_rows.PICTURE.write_bytes(first_rows.picture())
    leaderboard.write()
    learner_pages.main()


if __name__ == "__main__":
    main(sys.argv[1:])
