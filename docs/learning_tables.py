"""Tables of what was learned from toy families, generated users and searches, out of results/."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.lists import to_text
from benchmarks.augmentation import judged, nearness
from benchmarks.few_shot import report
from recmeta.recipes import RECIPES
from recmeta.records.provenance import library_versions
from recmeta.reporting.markdown import table

RESULTS = Path(__file__).parent / "results"
FEW_SHOT = RESULTS / "few-shot.json"
RARE_PROFILES = RESULTS / "rare-profiles.json"
INNER_LOOP = RESULTS / "tune-inner-loop.json"
SEARCHED = "maml-ml1m"
"""The recipe whose inner loop was searched."""
MOST_TRIALS = 6
"""The most trials of a search that its table shows."""


def few_shot() -> str:
    """Return the accuracies in N-way K-shot classification, and what they are means over."""
    found = _read(FEW_SHOT)
    return f"{report.accuracy_table(found['rows'])}\n\n{found['rules']} Seeds: {found['seeds']}."


def few_shot_of(learner: str) -> str:
    """Return one sentence with a learner's accuracies beside the baseline's; empty if it has
    none."""
    rows = _read(FEW_SHOT)["rows"]
    shown = {(row["learner"], row["problem"]): row["accuracy"] for row in rows}
    own = {problem: of for (name, problem), of in shown.items() if name == learner}
    if not own:
        return ""
    parts = [
        f"{problem} {100 * of['mean']:.1f} % "
        f"[{100 * of['ci_low']:.1f}, {100 * of['ci_high']:.1f}] "
        f"({report.NEAREST}: {100 * shown[report.NEAREST, problem]['mean']:.1f} %)"
        for problem, of in own.items()
    ]
    return f"[Handwritten digits of new classes](../learners.md#toy-families): {', '.join(parts)}."


def rare_profiles() -> str:
    """Return what meta-training with generated users does to errors."""
    return judged.changes_table(_read(RARE_PROFILES)["changes"])


def rare_profiles_nearness() -> str:
    """Return how near generated users come to real ones."""
    found = _read(RARE_PROFILES)["nearness"]
    return f"{nearness.nearness_table(found)}\n\n{nearness.nearness_text(found)}"


def inner_loop() -> str:
    """Return the best trials of a search over the inner loop, the unchanged configuration first."""
    found = _read(INNER_LOOP)
    unchanged, *others = found["trials"]
    tried = sorted((t for t in others if t["loss"] is not None), key=lambda t: t["loss"])
    recipe = vars(RECIPES[SEARCHED]().train.model.learner)
    rows = [[f"the recipe: {_inner_loop(recipe)}", *_ended(unchanged)]]
    rows += [[_inner_loop(t["values"]), *_ended(t)] for t in tried[:MOST_TRIALS]]
    return table(["inner loop", "loss", "epochs", ""], rows)


def _inner_loop(values: Mapping[str, Any]) -> str:
    """Return in words which parameters adapt, how far and by what."""
    of = {name.rpartition(".")[2]: value for name, value in values.items()}
    layers = "all layers" if of["adapt_layers"] == "all" else "last layer"
    steps = f"{of['num_steps']} step{'s' if of['num_steps'] > 1 else ''}"
    order = "second" if of["second_order"] else "first"
    shrunk = f"shrunk by {of['support_prior']:g} rows" if of["support_prior"] else "not shrunk"
    loss = of["inner_objective"] or "squared"
    return (
        f"{layers}, {steps} of {of['inner_learning_rate']:.2g} per {of['rates_per']}, "
        f"{order} order, {loss} error, {shrunk}"
    )


def _ended(trial: Mapping[str, Any]) -> list[str]:
    return [f"{trial['loss']:.4f}", str(trial["epochs"]), trial["state"]]


def keep_tuning(printed: Mapping[str, Any]) -> None:
    """Keep what `recmeta tune --space inner-loop --json` printed of one learner."""
    found = {
        "title": "A search over the inner loop",
        "libraries": library_versions(),
        "command": f"recmeta tune --recipe {SEARCHED} --space inner-loop --stop halving --trials "
        f"{len(printed['trials'])} --json",
        **{name: printed[name] for name in ("as_it_is", "dev_loss", "counts", "trials")},
    }
    INNER_LOOP.write_text(to_text(found), encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
