"""The processes that share a training: each computes a part of every batch's gradient, and all take
the same optimiser steps.

The gradient of a batch is the mean of its parts', weighted by their tasks, so that any number of
ranks train the same model, up to rounding. PyTorch's own wrappers (DistributedDataParallel, FSDP)
gather gradients in hooks of `backward`, which a gradient through a gradient does not run (pytorch
#63812); here a learner returns its gradient, and one all-reduce follows. The ranks agree on whether
any of them failed before one raises: a rank that stopped alone would leave the others waiting.

Legend: N rows of a table that a rank touches, E columns.
"""

import dataclasses
import datetime
import hashlib
import os
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.sparse_gradients import touched
from recmeta.tasks.arrays import IntArray

T = TypeVar("T")
LONGEST_WAIT = datetime.timedelta(days=7)
"""The longest wait for another rank. A rank that died is noticed by its closed connection and by
the process that started it."""


@dataclasses.dataclass(frozen=True)
class Ranks:
    """One of the processes of a training."""

    number: int = 0
    """The number of this process, from 0. The first process writes files."""
    count: int = 1
    """The number of processes."""

    @classmethod
    def joined(cls, device: torch.device) -> "Ranks":
        """Join the other ranks, as torchrun's environment variables say, with gloo for tensors on
        CPUs and NCCL for tensors on GPUs."""
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        store, number, count = next(rendezvous("env://"))
        # Restarted ranks must not find the addresses at which the earlier ranks listened.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(
            backend,
            store=dist.distributed_c10d.PrefixStore(f"attempt-{attempt}", store),
            rank=number,
            world_size=count,
            timeout=LONGEST_WAIT,
        )
        return cls(number, count)

    def leave(self) -> None:
        """Leave the group, once all ranks have arrived here."""
        dist.barrier()
        dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.number == 0

    def share(self, num_tasks: int) -> tuple[IntArray, float]:
        """Return the places of this rank's tasks in a batch, every `count`-th, and their share of
        it. In a batch with fewer tasks than ranks, some of them compute its first task with weight
        0."""
        own = np.arange(self.number, num_tasks, self.count)
        return (own, len(own) / num_tasks) if len(own) else (np.zeros(1, np.int64), 0.0)

    def agreed(self, work: Callable[[], T]) -> T:
        """Return the result of `work`.

        Raises:
            torch.linalg.LinAlgError: on every rank, if a matrix holds NaN on one.
        """
        if self.count == 1:
            return work()
        error: Exception | None = None
        try:
            found = work()
        except torch.linalg.LinAlgError as failed:  # type: ignore[attr-defined]
            error = failed
        if float(self.sum(torch.tensor(float(error is not None)))):
            raise error or torch.linalg.LinAlgError(  # type: ignore[attr-defined]
                "on another rank"
            )
        return found

    def sum(self, own: torch.Tensor) -> torch.Tensor:
        """Return the sum of every rank's tensor, which has the same bits on all ranks."""
        if self.count > 1:
            own = own.clone()
            dist.all_reduce(own)
        return own

    def mean(self, gradients: Params, loss: float, share: float) -> tuple[Params, float]:
        """Return a batch's gradient and loss from those of every rank.

        Args:
            share: the share of the batch's tasks that are this rank's.
        """
        if self.count == 1:
            return gradients, loss
        whole_loss = self.sum(torch.tensor(loss * share if share else 0.0, dtype=torch.float64))
        found: Params = {}
        dense = {name: g for name, g in sorted(gradients.items()) if not g.is_sparse}
        for dtype in sorted({g.dtype for g in dense.values()}, key=str):
            names = [name for name, g in dense.items() if g.dtype == dtype]
            flat = torch.cat([dense[name].reshape(-1) for name in names]).mul_(share)
            dist.all_reduce(flat)
            parts = torch.split(flat, [dense[name].numel() for name in names])
            found |= {
                name: part.view_as(dense[name]) for name, part in zip(names, parts, strict=True)
            }
        for name, gradient in sorted(gradients.items()):
            if gradient.is_sparse:
                found[name] = self._sum_of_rows(gradient * share)
        return found, float(whole_loss)

    def _sum_of_rows(self, gradient_VE: torch.Tensor) -> torch.Tensor:
        """Return the sum of every rank's sparse gradient of a table."""
        row_N, value_NE = touched(gradient_VE)
        counts = [row_N.new_zeros(1) for _ in range(self.count)]
        dist.all_gather(counts, row_N.new_tensor([len(row_N)]))
        most = max(int(count) for count in counts)
        padded_M = row_N.new_zeros(most)
        padded_ME = value_NE.new_zeros((most, value_NE.shape[1]))
        padded_M[: len(row_N)], padded_ME[: len(row_N)] = row_N, value_NE
        rows = [torch.empty_like(padded_M) for _ in range(self.count)]
        values = [torch.empty_like(padded_ME) for _ in range(self.count)]
        dist.all_gather(rows, padded_M)
        dist.all_gather(values, padded_ME)
        kept = [int(count) for count in counts]
        return torch.sparse_coo_tensor(
            torch.cat([row[:num] for row, num in zip(rows, kept, strict=True)])[None],
            torch.cat([value[:num] for value, num in zip(values, kept, strict=True)]),
            gradient_VE.shape,
            check_invariants=True,
        ).coalesce()

    def from_first(self, content: bytes | None) -> bytes | None:
        """Return the first rank's bytes."""
        if self.count == 1:
            return content
        size = torch.tensor(-1 if content is None else len(content))
        dist.broadcast(size, 0)
        if int(size) < 0:
            return None
        data = torch.empty(int(size), dtype=torch.uint8)
        if content is not None and self.is_first:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return data.numpy().tobytes()

    def check_same(self, params: Params) -> None:
        """Raise RuntimeError if the parameters do not have the same bits on every rank, as can
        happen on machines with different processors."""
        if self.count == 1:
            return
        digest = hashlib.sha256()
        for _, p in sorted(params.items()):
            digest.update(p.detach().cpu().contiguous().numpy().tobytes())
        own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8).to(torch.int64)
        first = own.clone()
        dist.broadcast(first, 0)
        if float(self.sum((own - first).abs().sum())):
            raise RuntimeError(
                "the processes of the training have parted: their parameters are not the same. "
                "Let them run on processors of one kind."
            )


ALONE = Ranks()
"""A training in a single process."""


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this rank on its machine, or the CPU, which all ranks share."""
    if device.type != "cuda":
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
