"""What was tried while a method was tuned, as runs nested in the run of the training.

One nested run per method: its parameters are those that were chosen, its metric how well they did,
its table all that was tried. (A run per candidate would hide a training behind a hundred others.)
"""

import itertools
import time
from collections.abc import Sequence
from typing import Any

from recmeta.evaluation.baselines.fit import Trial
from recmeta.registry.tracking import (
    PARENT,
    connect,
    create_run,
    experiment_id,
    log_params,
)
from recmeta.workspace import Workspace

TUNING = "recmeta.tuning"
METRIC = "dev_mae"
BY_CANDIDATE = "dev_mae_by_candidate"
CANDIDATES_FILE = "candidates.json"


def log_tuning(workspace: Workspace, run_id: str, step: str, trials: Sequence[Trial]) -> None:
    """Log the trials of each method to a run nested in the training's; what is there stays.

    Args:
        run_id: of the training.
        step: which step tuned; each has nested runs of its own.
        trials: those of one method together, in the order in which they were made.
    """
    if not trials:
        return
    client = connect(workspace)
    experiment = experiment_id(client, workspace)
    children = client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'")
    known = {c.data.tags[TUNING]: c.info for c in children if TUNING in c.data.tags}
    for method, of_method in itertools.groupby(trials, key=lambda trial: trial.method):
        name = f"{step}: tune {method}"
        if name in known:
            if known[name].status == "FINISHED":
                continue
            client.delete_run(known[name].run_id)  # killed half-way
        child = create_run(client, experiment, name, step, {PARENT: run_id, TUNING: name})
        _log(client, child, list(of_method))
        client.set_terminated(child)


def _log(client: Any, run_id: str, trials: Sequence[Trial]) -> None:
    from mlflow.entities import Metric

    best = min(trials, key=lambda trial: trial.dev_mae)
    now = int(time.time() * 1000)
    metrics = [Metric(BY_CANDIDATE, t.dev_mae, now, number) for number, t in enumerate(trials)]
    log_params(client, run_id, {**best.config, "num_candidates": len(trials)})
    client.log_batch(run_id, metrics=[*metrics, Metric(METRIC, best.dev_mae, now, 0)])
    columns: dict[str, list[float]] = {n: [t.config[n] for t in trials] for n in best.config}
    client.log_table(run_id, columns | {METRIC: [t.dev_mae for t in trials]}, CANDIDATES_FILE)
