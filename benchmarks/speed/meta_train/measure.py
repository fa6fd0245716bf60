"""One contestant's speed and loss; runs in a process of its own."""

import contextlib
import importlib
import time
from typing import Any

import numpy as np
import torch

from benchmarks.speed.melu_shape import MeluShape, melu_shape
from benchmarks.speed.meta_train.contestant import Contestant
from benchmarks.speed.roofline import Roofline, roofline, wait_for
from recmeta.metalearn.learner import Params
from recmeta.metalearn.outer_loop.trainer import Epoch, TrainingConfig, train
from recmeta.tasks.episodes import EpisodeConfig

CONTESTANTS = {
    "dense loop": ("dense_loop", "DenseLoop"),
    "higher": ("higher_loop", "HigherLoop"),
    "torchopt": ("torchopt_loop", "TorchOptLoop"),
    "vmap(grad)": ("vmap_grad", "VmapGrad"),
}
NUM_CHECKED = 32
"""The number of users whose loss and gradient every contestant reports."""
NUM_TIMED = 64
"""Users who are timed again and again, or one batch if it is larger; enough for the slow ones, and
each batch's mean length is the same for all."""
NUM_TIMED_ON_GPU = 32
"""The same where a loop over users waits for every kernel to start."""
BATCHES_ON_GPU = 8
"""Of an epoch of the trainer, whose users are only repeated there."""
LEARNING_RATE = 5e-5


def measure(
    name: str, num_steps: int, batch_sizes: list[int], seconds: float, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Return a row per batch size: users per second, loss and length of the gradient.

    Args:
        name: `recmeta`, or a key of CONTESTANTS.
        num_steps: inner gradient steps.
        batch_sizes: users per outer step.
        seconds: the approximate duration of each measurement.
        device: the device.
    """
    shape = melu_shape(num_steps=num_steps, device=device)
    checked = np.arange(NUM_CHECKED)
    contestant = None if name == "recmeta" else make(name, shape)
    if contestant is None:
        model = shape.model
        batch = model.batch(shape.tasks.take(checked))
        gradients, metrics = model.learner.meta_gradient(model.params, batch, torch.Generator())
        loss = metrics["loss"]
    else:
        contestant.prepare(checked)
        loss, gradients = contestant.meta_gradient(checked)
    length = float(torch.stack([g.norm() for g in gradients.values()]).norm())
    rows = []
    for batch_size in batch_sizes:
        row: dict[str, Any] = {
            "batch_size": batch_size,
            "loss": loss,
            "gradient_norm": length,
            "source": shape.source,
        }
        if contestant is None:
            speed = trained_speed(shape, batch_size, seconds)
            row |= _roofline(shape, batch_size).to_dict(batch_size, speed)
        else:
            speed = stepping_speed(shape, contestant, batch_size, seconds)
        rows.append(row | {"users_per_second": speed})
    return rows


def _roofline(shape: MeluShape, batch_size: int) -> Roofline:
    model = shape.model
    batch = model.batch(shape.tasks.take(np.arange(batch_size)))
    return roofline(
        lambda: model.learner.meta_gradient(model.params, batch, torch.Generator()), model.device
    )


def make(name: str, shape: MeluShape) -> Contestant:
    """Return a contestant; the peers' libraries are imported here."""
    module, kind = CONTESTANTS[name]
    found = importlib.import_module(f"benchmarks.speed.meta_train.{module}")
    contestant: Contestant = getattr(found, kind)(shape)
    return contestant


def trained_speed(shape: MeluShape, batch_size: int, seconds: float) -> float:
    """Return users per second of the trainer itself, in its fastest epoch after the first."""
    ends = [time.perf_counter()]

    def on_epoch(epoch: Epoch) -> None:
        wait_for(shape.model.device)
        ends.append(time.perf_counter())
        if epoch.number > 3 and ends[-1] - ends[0] > seconds:
            raise _EnoughError

    tasks, nobody = shape.tasks, shape.tasks.take(np.arange(0))
    if shape.model.device.type != "cpu":
        tasks = tasks.take(np.arange(min(len(tasks), BATCHES_ON_GPU * batch_size)))
    with contextlib.suppress(_EnoughError):
        train(
            shape.model,
            tasks,
            nobody,
            episodes=EpisodeConfig(batch_size=batch_size, resample=False),
            config=TrainingConfig(epochs=1_000, learning_rate=LEARNING_RATE, weight_decay=0.0),
            seed=0,
            on_epoch=on_epoch,
        )
    return len(tasks) / float(np.diff(ends)[1:].min())


class _EnoughError(Exception):
    """Ends training."""


def stepping_speed(
    shape: MeluShape, contestant: Contestant, batch_size: int, seconds: float
) -> float:
    """Return users per second of a contestant's fastest outer step after the first.

    The outer optimiser is the trainer's, and the data are laid out before the clock starts.
    """
    order = np.random.default_rng(0).permutation(len(shape.tasks))
    num_timed = NUM_TIMED if shape.model.device.type == "cpu" else NUM_TIMED_ON_GPU
    num_batches = max(1, num_timed // batch_size)
    batches = np.split(order[: num_batches * batch_size], num_batches)
    contestant.prepare(np.concatenate(batches))
    params = shape.model.params
    optimiser = torch.optim.AdamW(
        list(params.values()), lr=LEARNING_RATE, weight_decay=0.0, fused=True
    )
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:  # use the same users each time
        start = time.perf_counter()
        for users in batches:
            _step(contestant, params, optimiser, users)
        wait_for(shape.model.device)
        times.append(time.perf_counter() - start)
    return num_batches * batch_size / min(times[1:])


def _step(
    contestant: Contestant, params: Params, optimiser: torch.optim.Optimizer, users: Any
) -> None:
    _, gradients = contestant.meta_gradient(users)
    for name, p in params.items():
        p.requires_grad_(False)
        p.grad = gradients[name]
    torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
    optimiser.step()
