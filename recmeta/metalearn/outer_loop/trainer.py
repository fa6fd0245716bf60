"""The outer loop: optimiser, clipping, finite checks, early stopping, checkpoint and resume.

The trainer knows a learner only by its protocol. After every epoch it writes a checkpoint with
everything that the next epoch depends on; a run that was killed continues from there and ends, on a
CPU, with the same bits as a run that was not.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import safetensors.torch
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import Metrics, Params, with_derived
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.memory import kept_heap
from recmeta.metalearn.numerics.precision import Precision, deterministic, precision
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.outer_loop.catalogue_ndcg import ndcg
from recmeta.metalearn.outer_loop.checkpoint import CHECKPOINT, keep, metadata, newest
from recmeta.metalearn.outer_loop.optimiser import OuterOptimiser
from recmeta.metalearn.outer_loop.prefetch import prefetched
from recmeta.metalearn.outer_loop.ranks import ALONE, Ranks
from recmeta.metalearn.tensors.batch import TaskBatch, onto
from recmeta.metalearn.tensors.encoding import Features
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.episodes import EpisodeConfig, epoch
from recmeta.tasks.task_set import Tasks
from recmeta.workspace import Folder, resumed


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The hyperparameters of the outer loop."""

    epochs: int = 60
    """The most passes over the meta-training users; with 0 the model stays at its start."""
    patience: int = 10
    """The number of epochs without a better development loss after which training stops."""
    learning_rate: float = 1e-3
    """The learning rate of AdamW (Loshchilov and Hutter, ICLR 2019)."""
    weight_decay: float = 1.0
    """The weight decay of AdamW, per step, as a share of the learning rate."""
    clip_norm: float = 1.0
    """The greatest length of the outer gradient, as a Euclidean norm over all parameters."""
    dev_batch_size: int = 256
    """The number of development users that are evaluated at once."""
    dev_items: int = 4096
    """The most items among which a development user's items are ranked, for implicit feedback; a
    larger catalogue is sampled. A sample is faster, and may prefer another epoch than the whole
    catalogue does."""
    precision: Precision = "float32"
    """The precision of the matrix products of the outer gradient;
    `recmeta.metalearn.numerics.precision` says what each of them loses."""
    deterministic: bool = False
    """Whether a GPU may only use algorithms that give the same bits every time, as a CPU always
    does."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs is {self.epochs}; it must not be negative.")
        for name in ("patience", "dev_batch_size", "dev_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.learning_rate <= 0 or self.clip_norm <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate {self.learning_rate} and clip_norm {self.clip_norm} must be "
                f"positive, weight_decay {self.weight_decay} not negative."
            )


class Diverged(UserError):
    """A loss or a gradient is no longer finite."""


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The result of one epoch."""

    number: int
    """From 1."""
    train_loss: float
    """The mean query loss of the meta-training episodes, in units of the model."""
    dev_loss: float
    """The loss of the development users: for ratings, the mean absolute error in units of the
    value; for implicit feedback, 1 - nDCG@10 over the catalogue (`TrainingConfig.dev_items`)."""


@kept_heap()
def train(
    model: Model,
    train_tasks: Tasks,
    dev_tasks: Tasks,
    *,
    episodes: EpisodeConfig,
    config: TrainingConfig,
    seed: int,
    in_order: bool = False,
    checkpoint: Folder | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    held: Mapping[str, torch.Tensor] | None = None,
    left_out_KIF: torch.Tensor | None = None,
    ranks: Ranks = ALONE,
) -> list[Epoch]:
    """Meta-train a model in place, leaving it with the parameters of the best epoch.

    Args:
        model: its parameters, if it has any, are the start; otherwise they are drawn from the seed.
        dev_tasks: held-out users for early stopping. Without them, the last epoch is kept.
        in_order: whether the tasks' rows are in the order of time, so that episodes can keep it for
            a learner that reads it.
        checkpoint: the folder to whose subfolder `checkpoint` a checkpoint is written after every
            epoch. If there is one already, training continues from it.
        on_epoch: called after every epoch, and for those in a checkpoint that training continues
            from.
        held: by parameter, (N,) which of its rows are held fixed.
        left_out_KIF: see `TaskBatch.left_out_KIF`; folds go by the tasks' places in `train_tasks`.
        ranks: the processes that train this model together. Only the first one writes checkpoints,
            and all continue from them.

    Returns:
        The epochs, in order.

    Raises:
        Diverged: when a loss or a gradient is not finite.
        UserError: when there is no task to train on, or the device cannot compute as configured.
    """
    if len(train_tasks) == 0:
        raise UserError(
            "there is no user to meta-train on: loosen the filters of build-tasks or ingest more."
        )
    in_order = in_order and model.config.learner.reads_in_order
    run = TrainingState(model, config, seed, held or {}, stops_early=len(dev_tasks) > 0)
    kept = None
    if checkpoint is not None and ranks.is_first:
        kept = resumed(checkpoint / CHECKPOINT)
    content = ranks.from_first(None if kept is None else newest(kept))
    if content is not None:
        run.restore(content)
    for past in run.history:
        if on_epoch:
            on_epoch(past)
    users = model.catalogue.users(train_tasks)
    if left_out_KIF is not None:
        left_out_KIF = left_out_KIF.to(model.device)
    while not run.finished:
        number = len(run.history) + 1
        try:
            with deterministic(config.deterministic, model.device):
                generator = np.random.default_rng((seed, number))
                draws = epoch(
                    train_tasks,
                    episodes,
                    generator,
                    in_order=in_order,
                    wanted=lambda num: ranks.share(num)[0],
                )
                train_loss = _pass(run, model, users, draws, (seed, number), left_out_KIF, ranks)
                run.settle()
                ranks.check_same(run.params)
                dev_loss = development_loss(model, run.params, dev_tasks, config, ranks)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise _diverged(f"in epoch {number} a learner's matrix was not a number") from error
        record = Epoch(number, train_loss, dev_loss)
        run.record(record)
        if kept is not None:
            keep(kept, number, run.to_bytes())
        if on_epoch:
            on_epoch(record)
    model.params = run.best
    return run.history


def _pass(
    run: "TrainingState",
    model: Model,
    users: Features,
    draws: Iterator[tuple[IntArray, Tasks]],
    seed_and_number: tuple[int, int],
    left_out_KIF: torch.Tensor | None,
    ranks: Ranks,
) -> float:
    """Take the outer steps of one epoch and return the tasks' mean query loss.

    Args:
        draws: positions among the tasks, batch by batch, and the episodes of this rank's part.
    """
    seed, number = seed_and_number

    def build(draw: tuple[IntArray, Tasks]) -> TaskBatch:
        positions, drawn = draw
        num_together = len(positions)
        index = onto(model.device, torch.from_numpy(positions[ranks.share(num_together)[0]]))
        known = {n: t[index] for n, t in users.items()}
        batch = model.batch(drawn, known, salt=2 * number, place_B=index)
        return dataclasses.replace(batch, left_out_KIF=left_out_KIF, num_together=num_together)

    def gradient(batch: TaskBatch, step: int) -> tuple[Params, Metrics]:
        with precision(run.config.precision, model.device):
            generator = _generator(seed, number, step)
            return model.learner.meta_gradient(run.params, batch, generator)

    total, num_tasks = 0.0, 0
    for step, batch in enumerate(prefetched(draws, build, model.device)):
        assert batch.num_together is not None
        own, metrics = ranks.agreed(functools.partial(gradient, batch, step))
        _, share = ranks.share(batch.num_together)
        gradients, loss = ranks.mean(own, metrics["loss"], share)
        if not math.isfinite(loss):
            raise _diverged(f"the training loss of epoch {number} is {loss}")
        total += loss * batch.num_together
        num_tasks += batch.num_together
        run.step(gradients)
    return total / num_tasks


def _generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """Return the generator of a batch: every part of the batch begins with the same state."""
    state = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def development_loss(
    model: Model,
    params: Params,
    tasks: Tasks,
    config: TrainingConfig,
    ranks: Ranks = ALONE,
) -> float:
    """Return the loss that early stopping watches, see `Epoch.dev_loss`, or 0 without tasks."""
    if len(tasks) == 0:
        return 0.0
    loss = float(task_losses(model, params, tasks, config, ranks).mean())
    if not math.isfinite(loss):
        raise _diverged(f"the development loss is {loss}")
    return loss


def task_losses(
    model: Model,
    params: Params,
    tasks: Tasks,
    config: TrainingConfig,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """Return each task's loss (tasks,), whose mean early stopping watches: see `Epoch.dev_loss`.

    Args:
        ranks: the processes, each of which computes some of the batches.
    """

    def own() -> torch.Tensor:
        loss_B = torch.zeros(len(tasks), dtype=torch.float64)
        known = with_derived(model.learner, params)
        for number, start in enumerate(range(0, len(tasks), config.dev_batch_size)):
            if number % ranks.count != ranks.number:
                continue
            places = np.arange(start, min(start + config.dev_batch_size, len(tasks)))
            some = tasks if len(places) == len(tasks) else tasks.take(places)
            if model.objective == "rating":
                # One thread, so that the number of threads does not decide which of two epochs is
                # better.
                with one_thread(model.device.type == "cpu"):
                    found_b = _absolute_errors(model, known, some).double().cpu()
            else:
                found_b = torch.from_numpy(1 - ndcg(model, known, some, config.dev_items))
            loss_B[places] = found_b
        return loss_B

    with torch.no_grad():
        return ranks.sum(ranks.agreed(own))


def _absolute_errors(model: Model, params: Params, tasks: Tasks) -> torch.Tensor:
    """Return the tasks' MAE (B,), in units of the value."""
    batch = model.batch(tasks)
    state = model.learner.adapt(params, batch.support)
    output_BR = model.learner.predict(params, state, batch.query).mean_BR
    mask_BR = batch.query.mask_BR
    values = torch.from_numpy(model.units.to_values(output_BR)).to(mask_BR.device)
    truth = batch.query.value_BR * model.encoder.value_scale + model.encoder.value_mean
    return ((values - truth).abs() * mask_BR).sum(1) / mask_BR.sum(1).clamp(min=1)


def _diverged(what: str) -> Diverged:
    return Diverged(
        f"{what}: training diverged and was stopped. Lower training.learning_rate or "
        "learner.inner_learning_rate, or take fewer inner steps (learner.num_steps), where the "
        "learner has them."
    )


class TrainingState:
    """The state of one training run: everything that a checkpoint must hold."""

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        seed: int,
        held: Mapping[str, torch.Tensor],
        *,
        stops_early: bool,
    ) -> None:
        self.config = config
        self.stops_early = stops_early
        start = model.params or model.learner.init_params(torch.Generator().manual_seed(seed))
        self.params: Params = {
            name: p.detach().clone().to(model.device) for name, p in start.items()
        }
        self.best: Params = {name: p.clone() for name, p in self.params.items()}
        self.held = {name: rows.to(model.device) for name, rows in held.items()}
        self.kept: Params = {name: self.params[name][rows] for name, rows in self.held.items()}
        self.history: list[Epoch] = []
        self.optimiser = OuterOptimiser(
            self.params,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
        )

    @property
    def best_epoch(self) -> int:
        """The number of the epoch with the lowest development loss, or of the last epoch if there
        are no development users; 0 before the first epoch."""
        if not self.stops_early:
            return len(self.history)
        return min(self.history, key=lambda e: e.dev_loss).number if self.history else 0

    @property
    def finished(self) -> bool:
        """Whether the epochs or the patience are used up."""
        num = len(self.history)
        return num >= self.config.epochs or num - self.best_epoch >= self.config.patience

    def step(self, gradients: Params) -> None:
        norm = self.optimiser.step(gradients)
        if not math.isfinite(norm):
            raise _diverged(f"the outer gradient's norm in epoch {len(self.history) + 1} is {norm}")
        self._put_back()

    def settle(self) -> None:
        self.optimiser.settle()
        self._put_back()

    def _put_back(self) -> None:
        """Undo the optimiser's changes, weight decay included, to the rows that are held fixed."""
        for name, rows in self.held.items():
            self.params[name][rows] = self.kept[name]

    def record(self, result: Epoch) -> None:
        self.history.append(result)
        if self.best_epoch == result.number:
            for name, p in self.params.items():
                self.best[name].copy_(p)

    def to_bytes(self) -> bytes:
        tensors = {f"params.{name}": p for name, p in self.params.items()}
        tensors |= {f"best.{name}": p for name, p in self.best.items()}
        tensors |= dict(self.optimiser.state())
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        history = [dataclasses.asdict(e) for e in self.history]
        metadata = {"history": json.dumps(history)}
        content: bytes = safetensors.torch.save(plain, metadata=metadata)
        return content

    def restore(self, content: bytes) -> None:
        tensors = safetensors.torch.load(content)
        self.history = [Epoch(**e) for e in json.loads(metadata(content)["history"])]
        for name, p in self.params.items():
            p.copy_(tensors[f"params.{name}"])
            self.best[name].copy_(tensors[f"best.{name}"])
        self.optimiser.restore(tensors)
