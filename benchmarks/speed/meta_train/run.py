"""The table of meta-training: every contestant on one thread and on all, with its loss."""

import importlib.util
import sys
from typing import Any

from benchmarks.speed.processes import measure_alone
from benchmarks.speed.result import BenchmarkResult, OnRow, Row, machine, unheard
from recmeta.errors import UserError

MODULE = "benchmarks.speed.meta_train.measure"
OURS = "recmeta"
LETTERS = {"dense loop": "(a)", "higher": "(b)", "torchopt": "(c)", "vmap(grad)": "(d)"}
TITLES = {
    "dense loop": "loop over users, dense multi-hot",
    "higher": "loop over users, higher",
    "torchopt": "loop over users, TorchOpt",
    "vmap(grad)": "torch.func vmap(grad)",
}
BATCH_SIZES = {
    OURS: [32, 256, 1024],
    "dense loop": [32],
    "higher": [32],
    "torchopt": [32],
    "vmap(grad)": [32, 128, 512],
}
BATCH_SIZES_ON_GPU = {
    OURS: [1_024, 8_192, 65_536],
    "dense loop": [32],
    "higher": [32],
    "torchopt": [32],
    "vmap(grad)": [512, 4_096],
}
TOLERANCE = 1e-4
"""The largest relative difference of losses and gradients from recmeta's, in float32."""


def run(
    threads: tuple[int, ...] = (1, 2),
    seconds: float = 2.5,
    device: str = "cpu",
    on_row: OnRow = unheard,
    *,
    quick: bool = False,
) -> BenchmarkResult:
    """Measure all contestants whose libraries are installed.

    Args:
        threads: each contestant runs with each of these.
        seconds: the approximate duration of each measurement at each batch size.
        device: the device.
        on_row: called with each contestant's row at each batch size.
        quick: whether one inner step and batches of 32 do, for us and one other: to see that it
            runs.

    Returns:
        Rows with name, threads, users_per_second, loss and more: each contestant at its best batch
        size, and `times_slower`: our speed with as many threads over theirs. Ours have
        `share_of_ceiling` and `share_of_products`, of the time that their products would take by
        themselves: see `roofline`.
    """
    about = machine("torch", "numpy", "higher", "torchopt")
    rows: list[Row] = []
    sizes = BATCH_SIZES if device == "cpu" else BATCH_SIZES_ON_GPU
    if quick:
        sizes = {name: [32] for name in (OURS, "vmap(grad)")}
    for num_steps in (1,) if quick else (1, 5):
        for number in threads:
            common = (num_steps, number, seconds, device)
            ours = _best(OURS, sizes[OURS], *common, on_row)
            found = [ours]
            for name in _peers():
                if name not in sizes:
                    continue
                try:
                    found.append(_best(name, sizes[name], *common, on_row))
                except UserError as error:  # it is installed, but does not run here
                    sys.stderr.write(f"{name} is left out: {error}\n")
            for row in found:
                check(ours, row)
                row["times_slower"] = ours["users_per_second"] / row["users_per_second"]
            rows += found
    return BenchmarkResult(
        name="meta-train",
        title=f"Meta-training in MeLU's shape, second order ({rows[0]['source']})",
        columns=(
            "name",
            "inner_steps",
            "threads",
            "batch_size",
            "users_per_second",
            "times_slower",
            "share_of_ceiling",
            "share_of_products",
            "loss",
            "gradient_norm",
        ),
        rows=rows,
        machine=about,
    )


def check(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise AssertionError if a contestant computes something else, since a comparison must be of
    the same work."""
    for name in ("loss", "gradient_norm"):
        if abs(ours[name] - theirs[name]) > TOLERANCE * abs(ours[name]):
            raise AssertionError(
                f"{theirs['name']} has {name} {theirs[name]}, recmeta has {ours[name]}"
            )


def _peers() -> list[str]:
    return [n for n in TITLES if n not in ("higher", "torchopt") or importlib.util.find_spec(n)]


def _best(
    name: str,
    batch_sizes: list[int],
    num_steps: int,
    threads: int,
    seconds: float,
    device: str,
    on_row: OnRow,
) -> Row:
    """Return a contestant's row at its best batch size, with the speeds at all batch sizes."""
    title = f"{LETTERS[name]} {TITLES[name]}" if name in TITLES else name
    common = {"name": title, "threads": threads, "inner_steps": num_steps}
    arguments = {"name": name, "num_steps": num_steps, "seconds": seconds, "device": device}
    found: list[Row] = []
    for sizes in _together(batch_sizes, device):
        asked = {**arguments, "batch_sizes": sizes}
        for row in measure_alone(MODULE, asked, threads=threads):
            found.append(common | row)
            on_row(found[-1])
    best = max(found, key=lambda row: row["users_per_second"])
    sweep = {str(row["batch_size"]): row["users_per_second"] for row in found}
    return {**best, "users_per_second_by_batch_size": sweep}


def _together(batch_sizes: list[int], device: str) -> list[list[int]]:
    """Return the batch sizes of each process. On a GPU each size has a process, so that one which
    is killed or out of memory takes no other with it."""
    return [batch_sizes] if device == "cpu" else [[size] for size in batch_sizes]
