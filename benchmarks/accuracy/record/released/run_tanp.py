"""Runs in a checkout of IIEdm/TaNP: its scorer on given lists.

    run_tanp.py LISTS.npz OUT.json

LISTS has `offsets` and `value` of every user's query rows, and under every other name scores of
these rows.
"""

import itertools
import json
import sys

import numpy as np
import torch
from utils.scorer import add_metric, cal_metric

given, out = np.load(sys.argv[1]), sys.argv[2]
offsets, value = given["offsets"], given["value"]
found = {}
for name in given.files:
    if name in ("offsets", "value"):
        continue
    found[name] = {}
    for k in (5, 10):
        precisions, averages, gains = [], [], []
        for first, last in itertools.pairwise(offsets):
            # As `query_rec` of TaNP.py orders its predictions.
            _, ranked = torch.from_numpy(given[name][first:last]).sort(descending=True)
            add_metric(ranked, value[first:last], precisions, averages, gains, k)
        precision, gain, average = cal_metric(precisions, averages, gains)
        found[name] |= {f"precision@{k}": precision, f"map@{k}": average}
        found[name][f"ndcg@{k}_exponential"] = gain
with open(out, "w") as file:
    json.dump({n: {m: float(v) for m, v in one.items()} for n, one in found.items()}, file)
