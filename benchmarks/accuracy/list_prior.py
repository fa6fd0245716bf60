"""`python -m benchmarks.accuracy.list_prior`: the prior of the weights of lists, from data sets.

Each data set is cut down to logs of a few training users, on which the default is trained without
its layers. Further users of the data set, on whom nothing was trained, then say which weights make
what they chose most likely, all logs together. Writes recmeta/training/lists/prior.json.

Legend: K knots, C columns, B users, M items of each.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.accuracy import datasets
from benchmarks.accuracy.list_cells import PROTOCOLS
from benchmarks.accuracy.lists import dataset_of
from benchmarks.command import Found, show
from recmeta.metalearn.heads.list_head import CHOICES, KNOTS, POPULARITY
from recmeta.recipes.configuration import pipeline_config
from recmeta.reporting.markdown import table
from recmeta.tasks.arrays import BoolArray, Float64Array
from recmeta.tasks.hashing import unit_hash
from recmeta.training.fit import fit
from recmeta.training.lists import prior
from recmeta.training.lists.conditional_logit import Choices, fitted_weights, scales
from recmeta.training.lists.learn import FEWEST_USERS, choices_of
from recmeta.training.lists.parts import NEXT, NO_CHOICES
from recmeta.training.start import at_start
from recmeta.workspace import MemoryFolder

LEARNED_FROM = ("ml-1m", "online-retail", "book-crossing")
"""The data sets. MovieLens 100K and Last.FM are left out, so that the prior can be judged on
them."""
SIZES = (20, 70, 250)
"""Numbers of training users of a log."""
SEEDS = (0, 1)
DEV_SHARE = 1 / 7
"""The number of development users, who stop the training of what users take next, as a share of the
training users."""
NUM_JUDGES = 80
"""The number of further users of a log."""
STRENGTH = 2.0
"""The penalty on distances from popularity alone if each log counted as one user: where data sets
disagree, the prior is cautious."""
FILE = Path(prior.__file__).parent / prior.FILE


def choices_on(name: str, num_users: int, seed: int) -> list[Choices]:
    """Return what the judges of a log chose, with columns that have mean 0 and, but for popularity,
    a standard deviation of 1, for each number of known rows."""
    num_dev = round(DEV_SHARE * num_users)
    total = num_users + num_dev + NUM_JUDGES
    protocol = next(p for p in PROTOCOLS.values() if p.dataset == name)
    log = dataset_of(_some_users(name, total, seed), protocol)
    config = pipeline_config(seed=seed)
    split = dataclasses.replace(
        config.tasks.split, dev_share=num_dev / total, test_share=NUM_JUDGES / total
    )
    task_set = log.task_set(dataclasses.replace(config.tasks, split=split))
    how = config.training_for(protocol.objective)
    base = dataclasses.replace(how.members[0], lists="popularity", refit=False)
    begun = at_start(base, task_set, torch.device("cpu"))
    fit(base, begun, task_set, MemoryFolder(), lambda epoch: None)
    how_choices = how.choices if num_dev >= FEWEST_USERS else NO_CHOICES
    found = choices_of(begun.model, task_set, task_set.tasks("test"), seed, how_choices)
    columns = tuple(found[0].column)
    scale = dict(zip(columns, scales(found, columns), strict=True))
    return [
        dataclasses.replace(c, column={n: (v - v.mean()) / scale[n] for n, v in c.column.items()})
        for c in found
    ]


def _some_users(name: str, number: int, seed: int) -> datasets.Frames:
    """Return the rows of users with two rows or more, drawn at random from those who are not cold
    in the first seed of the protocol of lists."""
    frames = _frames(name)
    counts = frames.rows.group_by("user_id").len().filter(pl.col("len") >= 2).sort("user_id")
    user_id = counts["user_id"]
    cold_share = pipeline_config(seed=0).tasks.split.test_share
    warm = user_id.filter(pl.Series(unit_hash(user_id.to_arrow(), 0) >= cold_share))
    generator = np.random.default_rng((seed, number))
    drawn = np.sort(generator.choice(len(warm), min(number, len(warm)), replace=False))
    is_drawn = pl.col("user_id").is_in(warm[drawn.tolist()].to_list())
    rows = frames.rows.filter(is_drawn)
    items = frames.items.filter(pl.col("item_id").is_in(rows["item_id"].unique().to_list()))
    users = frames.users.filter(is_drawn)
    return dataclasses.replace(frames, rows=rows, users=users, items=items)


@functools.cache
def _frames(name: str) -> datasets.Frames:
    return datasets.frames(name)[0]


def joined(logs: Sequence[Sequence[Choices]], columns: Sequence[str]) -> list[Choices]:
    """Return the choices of all logs' users, for each number of known rows. A column that a log
    does not have is 0 there."""
    widest = max(one.liked_BM.shape[1] for log in logs for one in log)

    def wide(values: Sequence[Float64Array], fill: float) -> Float64Array:
        return np.concatenate(
            [np.pad(v, ((0, 0), (0, widest - v.shape[1])), constant_values=fill) for v in values]
        )

    found = []
    for parts in zip(*logs, strict=True):
        nothing = [np.zeros_like(one.log_weight_BM) for one in parts]
        column = {
            name: wide([p.column.get(name, z) for p, z in zip(parts, nothing, strict=True)], 0.0)
            for name in columns
        }
        liked_BM: BoolArray = wide([p.liked_BM for p in parts], 0.0).astype(np.bool_)
        found.append(
            Choices(
                column=column,
                hat_BK=np.concatenate([p.hat_BK for p in parts]),
                liked_BM=liked_BM,
                log_weight_BM=wide([p.log_weight_BM for p in parts], -np.inf),
            )
        )
    return found


def learned(logs: Sequence[Sequence[Choices]]) -> dict[str, dict[str, list[float]]]:
    """Return the weights at each knot, by set of columns and column. Logs on which what users take
    next was not learned have no say where it is a column."""
    found: dict[str, dict[str, list[float]]] = {}
    for absent in ((NEXT,), ()):
        for columns in prior.column_sets([c for c in prior.COLUMNS if c not in absent]):
            some = [g for g in logs if CHOICES in g[0].column or CHOICES not in columns]
            alone_KC = np.zeros((len(KNOTS), len(columns)))
            alone_KC[:, columns.index(POPULARITY)] = 1.0
            together = joined(some, columns)
            strength = STRENGTH * len(together[0].hat_BK) / len(some)
            weight_KC = fitted_weights(together, columns, alone_KC, strength)
            by_column = dict(zip(columns, weight_KC.T.round(4).tolist(), strict=True))
            found.setdefault(prior.name_of(columns), by_column)
    return found


def to_text(found: dict[str, Any]) -> str:
    """Return JSON with one line per set of columns."""
    sets = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(own)}" for name, own in found["weights"].items()
    )
    head = [f"{json.dumps(n)}: {json.dumps(v)}" for n, v in found.items() if n != "weights"]
    return "{\n" + ",\n".join([*head, f'"weights": {{\n{sets}\n}}']) + "\n}\n"


def made(names: Sequence[str], sizes: Sequence[int], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the prior, JSON-ready."""
    logs = [choices_on(name, n, seed) for name in names for n in sizes for seed in seeds]
    return {
        "about": "Weights of lists, see recmeta/training/lists/prior.py",
        "command": "python -m benchmarks.accuracy.list_prior",
        "datasets": list(names),
        "training_users": list(sizes),
        "seeds": list(seeds),
        "knots": list(KNOTS),
        "weights": learned(logs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.list_prior",
        description="The prior of the weights of lists, from several data sets.",
    )
    parser.add_argument("--datasets", default=",".join(LEARNED_FROM), metavar="NAMES")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)

    def work() -> Found:
        found = made(asked.datasets.split(","), SIZES, SEEDS)
        asked.out.write_text(to_text(found), encoding="utf-8")
        rows = [
            [columns, name, *(f"{w:.2f}" for w in weights)]
            for columns, own in found["weights"].items()
            for name, weights in own.items()
        ]
        return found, table(["columns", "weight of", *map(str, KNOTS)], rows)

    return show(work, as_json=asked.json)


if __name__ == "__main__":
    raise SystemExit(main())
