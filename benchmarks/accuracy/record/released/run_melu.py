"""Runs in a checkout of hoyeoplee/MeLU: its model and global update on tasks of ours.

    run_melu.py TASKS.npz EPOCHS OUT.npz

Its data generation (22 GB of pickled vectors) is replaced by the same vectors, made batch by batch;
its loop over batches, which reads that generation, by the same loop.
"""

import random
import sys

import numpy as np
import torch
from MeLU import MeLU
from options import config

given = np.load(sys.argv[1])
epochs, out = int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
random.seed(0)
config["use_cuda"] = False
widths = [("genre", "num_genre"), ("director", "num_director"), ("actor", "num_actor")]
num_items = len(given["item_rate"])
item_features = torch.zeros(num_items, 1 + sum(config[w] for _, w in widths), dtype=torch.int32)
item_features[:, 0] = torch.from_numpy(given["item_rate"])
start = 1
for name, width in widths:
    rows = np.repeat(np.arange(num_items), np.diff(given[f"item_{name}_offsets"]))
    item_features[rows, start + given[f"item_{name}"]] = 1
    start += config[width]


def side(split: str, which: str, task: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the vectors (rows, 10,246) and the ratings (rows,) of a task's support or query."""
    first, last = given[f"{split}_{which}_offsets"][task : task + 2]
    items = torch.from_numpy(given[f"{split}_{which}_item"][first:last]).long()
    user = torch.from_numpy(given[f"{split}_user"][task]).expand(len(items), -1)
    x = torch.cat((item_features[items].long(), user.long()), 1)
    return x, torch.from_numpy(given[f"{split}_{which}_value"][first:last]).float()


def copy_unseen(weights: dict[str, torch.Tensor]) -> None:
    """Copy weights as `load_state_dict` of PyTorch 1.1, which the project names, does: behind
    autograd's back. Today's is seen, and the gradient of a batch is refused."""
    for name, parameter in melu.model.named_parameters():
        parameter.data.copy_(weights[name].data)


melu = MeLU(config)
melu.model.load_state_dict = copy_unseen
melu.train()
tasks = list(range(len(given["train_user"])))
size = config["batch_size"]
for epoch in range(epochs):
    random.shuffle(tasks)
    for batch in range(len(tasks) // size):
        chosen = tasks[batch * size : (batch + 1) * size]
        support = [side("train", "support", task) for task in chosen]
        query = [side("train", "query", task) for task in chosen]
        (xs, ys), (qxs, qys) = (map(list, zip(*pairs, strict=False)) for pairs in (support, query))
        melu.global_update(xs, ys, qxs, qys, config["inner"])
    sys.stderr.write(f"epoch {epoch + 1}\n")
melu.eval()
predicted = {}
for state in given["states"]:
    parts = []
    for task in range(len(given[f"{state}_user"])):
        x, y = side(state, "support", task)
        query_x, _ = side(state, "query", task)
        parts.append(melu(x, y, query_x, config["inner"]).detach().view(-1).numpy())
    predicted[str(state)] = np.concatenate(parts)
np.savez(out, **predicted)
