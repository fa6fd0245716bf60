"""The outer optimiser: AdamW with clipping, row by row for large embedding tables and dense for all
other parameters."""

from collections.abc import Iterator

import torch
from torch.optim.adamw import adamw

from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.sparse_gradients import is_large, touched
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.outer_loop.row_adamw import BETAS, EPSILON, RowAdamW


class OuterOptimiser:
    """AdamW (Loshchilov and Hutter, ICLR 2019) on parameters, which it changes in place.

    It keeps the moments itself and calls PyTorch's function: the first object of the class
    `torch.optim.AdamW` in a process imports PyTorch's compiler, which takes a second or more and
    stays in memory.
    """

    def __init__(
        self, params: Params, *, learning_rate: float, weight_decay: float, clip_norm: float
    ) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.clip_norm = clip_norm
        self.tables = {
            name: RowAdamW(p, learning_rate=learning_rate, weight_decay=weight_decay)
            for name, p in params.items()
            if "embedding." in name and is_large(p)
        }
        self.dense = {name: p for name, p in params.items() if name not in self.tables}
        self._moments: dict[str, Params] = {}
        """The steps and the first and second moments of each dense parameter that has had a
        gradient."""

    def step(self, gradients: Params) -> float:
        """Take a step down the clipped gradients, and return their norm. If it is not finite,
        nothing changes. A parameter without a gradient is not changed.

        A CPU takes the step with one thread: with several, the bounds of their shares of a tensor
        decide which numbers are rounded one by one and which together, so that the result would
        depend on the number of threads.
        """
        with one_thread(True):
            return self._step(gradients)

    def _step(self, gradients: Params) -> float:
        rows = {name: touched(gradients[name]) for name in self.tables if name in gradients}
        dense = [name for name in self.dense if name in gradients]
        all_values = [gradients[name] for name in dense]
        all_values += [values for _, values in rows.values()]
        norm = torch.nn.utils.get_total_norm(all_values)
        length = float(norm)
        if length < float("inf"):
            share = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(all_values, share)
            self._step_dense(dense, gradients)
            for name, (row_N, values_NE) in rows.items():
                self.tables[name].step(row_N, values_NE)
        return length

    @torch.no_grad()
    def _step_dense(self, names: list[str], gradients: Params) -> None:
        for name in names:
            if name not in self._moments:
                p = self.dense[name]
                self._moments[name] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        moments = [self._moments[name] for name in names]
        adamw(
            [self.dense[name] for name in names],
            [gradients[name] for name in names],
            [of["exp_avg"] for of in moments],
            [of["exp_avg_sq"] for of in moments],
            [],
            [of["step"] for of in moments],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def settle(self) -> None:
        """Bring every parameter up to date. Call it before whole parameters are read."""
        for table in self.tables.values():
            table.settle()

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the state of parameters that are up to date, by unique names."""
        for name in self.dense:
            for key, value in self._moments.get(name, {}).items():
                yield f"{key}.{name}", value
        for name, table in self.tables.items():
            for key, value in table.state.items():
                yield f"{key}.{name}", value

    def restore(self, tensors: Params) -> None:
        """Restore the state that `state` yielded."""
        for name, p in self.dense.items():
            if f"step.{name}" in tensors:  # otherwise it never had a gradient
                self._moments[name] = {
                    key: tensors[f"{key}.{name}"].to(p.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        for name, table in self.tables.items():
            for key, value in table.state.items():
                value.copy_(tensors[f"{key}.{name}"])
