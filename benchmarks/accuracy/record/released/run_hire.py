"""Runs in a checkout of FangShuheng/HIRE: its test of given predictions.

    run_hire.py LISTS.npz OUT.json

LISTS has `value` and `known` (users, columns), and under every other name scores of that shape.
The network is replaced by the scores; the loop, the masks and the metrics are the project's.
"""

import contextlib
import io
import json
import re
import sys
import types

import numpy as np
import torch

given, out = np.load(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[:1]
# What training alone needs (fairseq, TensorBoard) is not there to be imported.
for name, wanted in {
    "utils.optim_utils": ("Lookahead", "Lamb"),
    "utils.optim": ("LRScheduler", "TradeoffAnnealer"),
}.items():
    module = types.ModuleType(name)
    for one in wanted:
        setattr(module, one, None)
    sys.modules[name] = module
from get_args import get_args  # noqa: E402  it parses the arguments
from train_eval import Recommendation  # noqa: E402


class Given(torch.nn.Module):
    """Predicts what it is given."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.unsqueeze(-1)


recommendation = Recommendation.__new__(Recommendation)  # __init__ makes what training needs
torch.nn.Module.__init__(recommendation)
recommendation.args, recommendation.hiremodel = get_args(), Given()
value = torch.from_numpy(given["value"]).float()
known = torch.from_numpy(given["known"]).float()
found = {}
for name in given.files:
    if name in ("value", "known"):
        continue
    scores = torch.from_numpy(given[name]).float()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        recommendation.test([(scores[None], value[None], known[None])], 0)
    top5 = re.search(r"TOP-5 (\S+)\t(\S+)\t(\S+)", said.getvalue()).groups()
    metrics = ("precision@5", "ndcg@5_linear", "map@5")
    found[name] = dict(zip(metrics, map(float, top5), strict=True))
with open(out, "w") as file:
    json.dump(found, file)
