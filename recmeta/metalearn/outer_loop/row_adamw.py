"""AdamW for large embedding tables: the cost of a step depends on the rows that it touches, not on
the size of the table.

Each row is optimised as if it were alone (AdamW, Loshchilov and Hutter, ICLR 2019): its moments and
their bias correction count the steps that touched it. A row that no step touches for a long time is
therefore not moved by old gradients, as it would be by dense AdamW. Its weight decay is not lost:
the row catches up in the step that touches it next (whose gradient is still that of the row
before), or when `settle` is called.

Legend: V rows of the table, N rows touched, E columns.
"""

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class RowAdamW:
    """The optimiser of one table, which is changed in place."""

    def __init__(
        self, table_VE: torch.Tensor, *, learning_rate: float, weight_decay: float
    ) -> None:
        self.table_VE = table_VE
        self.learning_rate = learning_rate
        self.kept_per_step = 1 - learning_rate * weight_decay
        self.num_steps = 0
        """The number of steps since the last `settle`."""
        self.decayed_V = self._zeros(torch.int32)
        """The number of these steps whose weight decay each row has had."""
        self.state = {
            "exp_avg": torch.zeros_like(table_VE),
            "exp_avg_sq": torch.zeros_like(table_VE),
            "row_step": self._zeros(torch.int32),
        }
        """The first and second moments (V, E), and the steps that touched each row (V,): all the
        state that must be kept after `settle`."""

    def step(self, row_N: torch.Tensor, gradient_NE: torch.Tensor) -> None:
        """Step these rows, which are distinct, down their gradients."""
        self.num_steps += 1
        kept_N1 = self._kept(self.decayed_V.index_select(0, row_N))
        self.decayed_V.index_fill_(0, row_N, self.num_steps)
        step_N = self.state["row_step"].index_select(0, row_N).add_(1)
        first_NE = self.state["exp_avg"].index_select(0, row_N)
        first_NE.lerp_(gradient_NE, 1 - BETAS[0])
        second_NE = self.state["exp_avg_sq"].index_select(0, row_N)
        second_NE.mul_(BETAS[1]).addcmul_(gradient_NE, gradient_NE, value=1 - BETAS[1])
        for name, changed in (
            ("row_step", step_N),
            ("exp_avg", first_NE),
            ("exp_avg_sq", second_NE),
        ):
            self.state[name].index_copy_(0, row_N, changed)
        power_N1 = step_N.double()[:, None]
        size_N1 = (self.learning_rate / (1 - BETAS[0] ** power_N1)).to(first_NE.dtype)
        root_N1 = (1 - BETAS[1] ** power_N1).sqrt().to(first_NE.dtype)
        value_NE = self.table_VE.index_select(0, row_N).mul_(kept_N1)
        root_NE = second_NE.sqrt_().div_(root_N1).add_(EPSILON)
        value_NE.addcdiv_(first_NE.mul_(size_N1), root_NE, value=-1)
        self.table_VE.index_copy_(0, row_N, value_NE)

    def settle(self) -> None:
        """Give every row the weight decay that it has missed. Call it before the whole table is
        read. Its cost grows with the size of the table."""
        if self.num_steps and self.kept_per_step < 1:
            self.table_VE.mul_(self._kept(self.decayed_V))
        self.decayed_V.zero_()
        self.num_steps = 0

    def _kept(self, decayed: torch.Tensor) -> torch.Tensor:
        """Return the share (rows, 1) of each row that is left after the weight decay that it has
        missed."""
        missed = (self.num_steps - decayed)[:, None]
        return (self.kept_per_step ** missed.double()).to(self.table_VE.dtype)

    def _zeros(self, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(len(self.table_VE), dtype=dtype, device=self.table_VE.device)
