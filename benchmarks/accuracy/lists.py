"""The protocols of lists, seed by seed: the lists of `recmeta run`'s default, of MAML and of tuned
baselines for cold users, by number of shots.

Legend: U users, D columns.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.accuracy import datasets
from benchmarks.accuracy.datasets import Frames
from benchmarks.accuracy.direction import is_error
from benchmarks.accuracy.list_cells import (
    BASELINES,
    COVERAGE,
    LISTS,
    METRICS,
    MOST_USERS,
    PROTOCOLS,
    RECORD,
    RECORD_VERSION,
    SHOTS,
    ListsProtocol,
    Seed,
    filled,
    name_of,
    rival_of,
    version_of,
)
from benchmarks.accuracy.summary import NUM_RESAMPLES, averaged, plain, verdict
from recmeta.api.data.dataset import Dataset
from recmeta.config import fingerprint
from recmeta.errors import UserError, did_you_mean
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.evaluation.fit_baselines import usual_baselines, what_was_left_out
from recmeta.progress import Progress, silent
from recmeta.recipes.configuration import pipeline_config
from recmeta.records.provenance import library_versions
from recmeta.reporting.markdown import table
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Objective
from recmeta.workspace import Folder

PAGE = Path(__file__).parents[2] / "docs/accuracy.md"
BEGIN, END = "<!-- lists: made by `make accuracy PROTOCOL=lists-…` -->\n", "<!-- /lists -->"
Cell = tuple[dict[str, Any], pa.Table]
"""A record, and a table with a row per number of shots and user."""
FEW, MANY = 0, 3
"""The numbers of shots whose lists are compared, to show the value of three answers."""
RULES = (
    "The tasks are those of `recmeta run`: a fifth of the users, drawn by the seed, is cold, and a "
    "tenth chooses hyperparameters, epochs and the weights of the lists. Where the log has times, "
    "a user's first rows, at most 20, are support and the next, at most 20, query; else 20 random "
    f"rows are query. Of more than {MOST_USERS:,} cold users so many are drawn. A user is shown "
    "the first 0, 1, 3, 5, 10 of the support rows, or all; who has fewer is shown those, so that "
    "users, queries and candidates are the same at every number of shots. The whole catalogue "
    "without the support is ranked; relevant is what was liked (of clicks, taken). Means and "
    "intervals: a user's number is first averaged over the seeds in which the user is cold, then "
    f"users are drawn with replacement ({NUM_RESAMPLES:,} times); differences are paired by user. "
    f"`{COVERAGE}` is the share of the catalogue in the lists of one seed's cold users together, "
    "averaged over the seeds, without an interval."
)


def run(
    name: str,
    *,
    data: Path | None = None,
    num_seeds: int = 5,
    learners: Sequence[str] | None = None,
    out: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run a protocol, seed by seed, write NAME.json after each, and return it. Cells of other
    learners that an earlier run left are in it, too.

    Args:
        name: in `PROTOCOLS`.
        data: the folder of the data sets; by default $RECMETA_SHARED_DATA, else ../shared/data.
        num_seeds: seeds are 0 to this, exclusive.
        learners: their names, or None for all.
        out: its folder `work` keeps the cells.

    Raises:
        UserError: for an unknown learner, one whose library is absent, or data that are absent or
            not those documented.
    """
    protocol = PROTOCOLS[name]
    config, objective = pipeline_config(), protocol.objective
    default, rival = config.training_for(objective).model.algorithm, rival_of(config, objective)
    known = (default, rival, *BASELINES[protocol.objective])
    chosen = _chosen(learners, known, name)
    _check_installed(protocol.objective, chosen)
    if num_seeds < 1:
        raise UserError(f"seeds is {num_seeds}; it must be at least 1.")
    frames, about = datasets.frames(protocol.dataset, data)
    log = dataset_of(frames, protocol)
    work = Folder.at(out) / "work" / name
    command = f"python -m benchmarks.accuracy {name}"
    if learners is not None:
        command += f" --learners {','.join(chosen)}"
    version = {learner: version_of(learner, objective) for learner in known}
    cells: list[Cell] = []
    found: dict[str, Any] = {}
    total = num_seeds * len(chosen)
    for number in range(num_seeds):
        seed = Seed(protocol, log, number)
        for place, learner in enumerate(known):
            parts = (RECORD_VERSION, name, learner, number, about["sha256"], version[learner])
            folder = work / fingerprint(*parts)
            if learner in chosen:
                progress(name, number * len(chosen) + min(place, len(chosen) - 1), total)
            elif not folder.exists(RECORD):
                continue
            cells.append(filled(seed, learner, folder))
        found = {
            "protocol": name,
            "title": f"Lists for cold users, {protocol.title}",
            "rules": RULES,
            "command": f"{command} --seeds {number + 1}",
            "data": about,
            "libraries": library_versions(),
            "default": default,
            "rival": rival,
            "seeds": list(range(number + 1)),
            **_summary(protocol, default, cells),
        }
        Folder.at(out).write_bytes(f"{name}.json", to_text(found).encode())
    progress(name, total, total)
    return found


def _chosen(names: Sequence[str] | None, known: tuple[str, ...], protocol: str) -> list[str]:
    if names is None or "all" in names:
        return list(known)
    for name in names:
        if name not in known:
            raise UserError(
                f"there is no learner of {protocol} {name!r}.{did_you_mean(name, list(known))} "
                f"There are: {', '.join(known)}."
            )
    return [name for name in known if name in names]


def _check_installed(objective: Objective, learners: Sequence[str]) -> None:
    _, absent = usual_baselines(objective)
    asked = [name for name in absent if name in learners]
    if asked:
        raise UserError(f"{what_was_left_out(asked)} Or name the others with --learners.")


def dataset_of(frames: Frames, protocol: ListsProtocol) -> "Dataset[Any]":
    """Return the data set of frames with a protocol's kind of feedback and scale."""
    is_graded, columns = protocol.objective == "rating", frames.rows.columns
    return Dataset.from_frame(
        frames.rows,
        users=frames.users,
        items=frames.items,
        timestamp="time" if "time" in columns else None,
        time_unit="s" if "time" in columns else None,
        value="value" if is_graded else None,
        scale=protocol.scale,
        feedback=protocol.objective,
        event=None,
    )


def _summary(protocol: ListsProtocol, default: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the tables of all cells. A difference is of the seeds that both learners have."""
    metrics = [name for name in METRICS[protocol.objective] if name != COVERAGE]
    seeds: dict[str, set[int]] = {}
    for record, _ in cells:
        seeds.setdefault(record["learner"], set()).add(record["seed"])
    rows, differences = [], []
    for learner in seeds:
        own = _columns(cells, learner, seeds[learner], metrics)
        for shots in SHOTS:
            common = {
                "dataset": protocol.dataset,
                "learner": learner,
                "shots": name_of(shots) if shots is None else shots,
                "seeds": len(seeds[learner]),
            }
            values = {of: value for (k, of), value in own.items() if k == shots}
            rows += [{**common, "metric": n, **plain(one)} for n, one in _intervals(values).items()]
            shown = [r["coverage"] for r, _ in cells if r["learner"] == learner and r["coverage"]]
            if shown:
                mean = round(float(np.mean([one[name_of(shots)] for one in shown])), 6)
                numbers = {"mean": mean, "ci_low": None, "ci_high": None}
                rows.append({**common, "metric": COVERAGE, **numbers})
            if learner == default or default not in seeds:
                continue
            both = seeds[default] & seeds[learner]
            first, second = (_columns(cells, n, both, metrics) for n in (default, learner))
            minus = {of: first[k, of] - value for (k, of), value in second.items() if k == shots}
            differences += _differences({**common, "seeds": len(both)}, default, learner, minus)
        gained = {of: own[MANY, of] - own[FEW, of] for k, of in own if k == MANY}
        common = {"dataset": protocol.dataset, "shots": MANY, "seeds": len(seeds[learner])}
        differences += _differences(common, learner, f"{learner} at {FEW} shots", gained)
    return {
        "rows": rows,
        "differences": differences,
        "cells": [record for record, _ in cells],
    }


def _columns(
    cells: Sequence[Cell], learner: str, seeds: set[int], metrics: Sequence[str]
) -> dict[tuple[int | None, str], Float64Array]:
    """Return (U,) the means over the seeds in which a user is cold, by number of shots and metric.
    The users are those of these seeds, in the same order for every learner."""
    chosen = {
        (r["learner"], r["seed"]): users
        for r, users in cells
        if r["learner"] == learner and r["seed"] in seeds
    }
    return {
        (shots, of): value
        for shots in SHOTS
        for (_, of), value in averaged(chosen, name_of(shots), metrics).items()
    }


def _differences(
    common: Mapping[str, Any], learner: str, minus: str, values: Mapping[str, Float64Array]
) -> list[dict[str, Any]]:
    """Return a row per metric with the difference between two learners, and which is ahead."""
    between = {"learner": learner, "minus": minus}
    return [
        {**common, **between, "metric": of, **plain(one), "verdict": verdict(one, of)}
        for of, one in _intervals(values).items()
    ]


def _intervals(values: Mapping[str, Float64Array]) -> dict[str, Interval]:
    """Return means over users with their intervals."""
    if not values:
        return {}
    values_UD = np.stack(list(values.values()), axis=1)
    found = mean_intervals(values_UD, np.random.default_rng(0), NUM_RESAMPLES)
    return dict(zip(values, found, strict=True))


def to_text(found: Mapping[str, Any]) -> str:
    """Return JSON with one line per row."""
    parts = []
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in value)
            parts.append(f'"{name}": [\n{lines}\n]')
        else:
            parts.append(f'"{name}": {json.dumps(value, allow_nan=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


# What is read of it ------------------------------------------------------------------------------


def report(found: Mapping[str, Any]) -> str:
    """Return the tables of a protocol as Markdown: every learner's metrics by number of shots, and
    the default's lists beside every other's."""
    learners = list(dict.fromkeys(row["learner"] for row in found["rows"]))
    shots = list(dict.fromkeys(row["shots"] for row in found["rows"]))
    parts = [f"# {found['title']}", found["rules"]]
    for of in dict.fromkeys(row["metric"] for row in found["rows"]):
        mean = {(r["learner"], r["shots"]): r["mean"] for r in found["rows"] if r["metric"] == of}
        cells = [
            [name, *(f"{mean[name, k]:.4f}" if (name, k) in mean else "" for k in shots)]
            for name in learners
            if any((name, k) in mean for k in shots)
        ]
        best = "least" if is_error(of) else "most"
        parts.append(f"`{of}` ({best} is best) by number of shots:")
        parts.append(table(["", *map(str, shots)], cells))
    difference = {(d["minus"], d["shots"]): d for d in found["differences"] if d["metric"] == LISTS}
    others = [name for name in learners if (name, FEW) in difference]
    if others:
        parts.append(f"`{LISTS}`, {found['default']} minus the others; 95 % intervals:")
        rows = [[name, *(_said(difference[name, k]) for k in shots)] for name in others]
        parts.append(table(["", *map(str, shots)], rows))
    return "\n\n".join(parts) + "\n"


def overview(results: Sequence[Mapping[str, Any]]) -> str:
    """Return one table of all protocols: the default's lists and the best baseline's by number of
    shots, and the value of three answers."""
    shown = []
    for found in results:
        default, second, num_seeds = found["default"], found["rival"], len(found["seeds"])
        name = f"{found['data']['name']}, {num_seeds} seed{'s' * (num_seeds > 1)}"
        mean = {
            (r["learner"], r["shots"]): r["mean"] for r in found["rows"] if r["metric"] == LISTS
        }
        by_pair = {
            (d["minus"], d["shots"]): d for d in found["differences"] if d["metric"] == LISTS
        }
        for shots in dict.fromkeys(r["shots"] for r in found["rows"]):
            opponents = [n for n, k in mean if k == shots and n not in (default, second)]
            if not opponents:  # no baseline has been run
                continue
            best = max(opponents, key=lambda n: mean[n, shots])
            gained = by_pair.get((f"{default} at {FEW} shots", shots))
            rival = "not run"
            if (second, shots) in by_pair:
                one = by_pair[second, shots]
                fewer = f" ({one['seeds']})" if one["seeds"] < num_seeds else ""
                rival = f"{second} {_said(one)}{fewer}"
            shown.append(
                [
                    name if shots == FEW else "",
                    str(shots),
                    f"{mean[default, shots]:.4f}",
                    f"{best} {mean[best, shots]:.4f}",
                    _said(by_pair[best, shots]),
                    rival,
                    "" if gained is None else _said(gained),
                ]
            )
    head = ["", "shots", "default", "best baseline", "difference", "minus the rival"]
    return table([*head, f"minus itself at {FEW} shots"], shown)


def in_page(page: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Return a page with the overview in its place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + overview(results) + "\n" + END + after


def _said(one: Mapping[str, Any]) -> str:
    """Return a difference with its interval, bold where zero is outside."""
    text = f"{one['mean']:+.4f} [{one['ci_low']:+.4f}, {one['ci_high']:+.4f}]"
    return text if one["verdict"] == "tie" else f"**{text}**"
