"""Runs in a checkout of nuster1128/RecBole-MetaRec: its collector, and RecBole's evaluator.

    run_metarec.py LISTS.npz OUT.json

LISTS has `offsets` and `value` of every user's ten query rows, and under every other name scores of
these rows.
"""

import itertools
import json
import sys

import numpy as np
import torch

for name, plain in (("float", float), ("int", int)):
    setattr(np, name, plain)  # RecBole is older than numpy 1.24, which has these no more

from recbole.evaluator import Evaluator  # noqa: E402
from recbole_metarec.MetaCollector import MetaCollector  # noqa: E402

given, out = np.load(sys.argv[1]), sys.argv[2]
offsets, value = given["offsets"], given["value"]


class Config(dict):
    """What the collector and the evaluator ask for."""

    def __missing__(self, name: str) -> None:
        return None


config = Config(
    metrics=["precision", "recall", "hit", "ndcg", "mrr"],
    topk=[5],
    device="cpu",
    metric_decimal_place=6,
    LABEL_FIELD="rating",
    eval_args={"mode": "labeled"},
)
found = {}
for name in given.files:
    if name in ("offsets", "value"):
        continue
    collector = MetaCollector(config)
    for first, last in itertools.pairwise(offsets):
        scores = torch.from_numpy(given[name][first:last]).float()
        collector.eval_collect(scores, torch.from_numpy(value[first:last]).float())
    said = Evaluator(config).evaluate(collector.get_data_struct())
    found[name] = {metric: float(number) for metric, number in said.items()}
with open(out, "w") as file:
    json.dump(found, file)
