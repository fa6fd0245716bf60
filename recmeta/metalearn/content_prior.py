"""What an item's content says of its vector, before and without anybody's rating of it.

A ridge regression of item vectors on content attributes, and for every item also the prediction of
a regression that did not see it (cross-fitting): trained on the former alone, a model would take
what content says of known items for what it says of new ones.

Legend: I items, A attribute columns, C coefficients of an item's vector, W longest list.
"""

import dataclasses

import torch

from recmeta.metalearn.encoding import ITEM_ID_FIELD, Features, Field

Tables = dict[str, torch.Tensor]
"""By content field, (num_rows, C): for one of codes, row 0 is of an unknown value."""
ITERATIONS = 60
"""Of conjugate gradients; the systems are well conditioned, since every column is penalised."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """How much content may say."""

    value_strength: float = 0.1
    """Variance of what one value of a categorical or multi-valued attribute adds, as a share of
    the variance between items."""
    number_strength: float = 0.05
    """The same for one standard deviation of a numeric attribute."""
    vector_strength: float = 0.1
    """The same for all numbers of a vector together."""
    num_folds: int = 10
    """Parts that the items are cut into for cross-fitting; at least 2."""

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"num_folds is {self.num_folds}; it must be at least 2.")
        for name in ("value_strength", "number_strength", "vector_strength"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")


@dataclasses.dataclass(frozen=True)
class ContentPrior:
    """What the regression found, float64."""

    tables: Tables
    intercept_C: torch.Tensor
    fitted_IC: torch.Tensor
    """What content says of each item, itself included in the fit."""
    held_out_IC: torch.Tensor
    """The same by a fit without the item; where the item had no weight, as `fitted_IC`."""


class ContentRegression:
    """Content attributes as a design matrix, to regress item vectors on as often as needed."""

    def __init__(
        self,
        fields: tuple[Field, ...],
        features: Features,
        num_items: int,
        config: ContentConfig,
        seed: int,
    ) -> None:
        self.config = config
        self.fields = tuple(f for f in fields if f.name != ITEM_ID_FIELD)
        rows, columns, values, self._first = [], [], [], [0]
        for field in self.fields:
            row_N, code_N, value_N = _entries(field, features[field.name].cpu(), config)
            rows.append(row_N)
            columns.append(code_N + self._first[-1])
            values.append(value_N)
            self._first.append(self._first[-1] + field.num_rows)
        everyone = torch.arange(num_items)  # the intercept
        rows.append(everyone)
        columns.append(torch.full_like(everyone, self._first[-1]))
        values.append(torch.ones(num_items, dtype=torch.float64))
        place = torch.stack([torch.cat(rows), torch.cat(columns)])
        size = (num_items, self._first[-1] + 1)
        self._design_IA = torch.sparse_coo_tensor(
            place, torch.cat(values), size, check_invariants=False
        ).coalesce()
        self._transposed_AI = self._design_IA.t().coalesce()
        generator = torch.Generator().manual_seed(seed)
        order_I = torch.randperm(num_items, generator=generator)
        self._fold_I = order_I % config.num_folds

    def fit(self, target_IC: torch.Tensor, weight_IC: torch.Tensor) -> ContentPrior:
        """Return the regression of vectors on content.

        Args:
            target_IC: the vectors, float64.
            weight_IC: their precisions, in units of one over the variance between items; 0 where
                nothing is known of an item.
        """
        solution_AC = self._solve(target_IC, weight_IC)
        fitted_IC = self._design_IA @ solution_AC
        held_out_IC = fitted_IC.clone()
        for fold in range(self.config.num_folds):
            inside_I = self._fold_I == fold
            outside_IC = weight_IC * ~inside_I[:, None]
            predicted_IC = self._design_IA @ self._solve(target_IC, outside_IC)
            known_I = inside_I & (weight_IC > 0).any(1)
            held_out_IC[known_I] = predicted_IC[known_I]
        tables = {}
        for number, field in enumerate(self.fields):
            rows = slice(self._first[number], self._first[number + 1])
            tables[field.name] = solution_AC[rows] * _scale(field, self.config)
        return ContentPrior(tables, solution_AC[-1], fitted_IC, held_out_IC)

    def _solve(self, target_IC: torch.Tensor, weight_IC: torch.Tensor) -> torch.Tensor:
        """Return the ridge solution (A, C), each column by conjugate gradients with a diagonal
        preconditioner."""
        right_AC = self._transposed_AI @ (weight_IC * target_IC)
        diagonal_AC = self._squares() @ weight_IC + 1

        def system(x_AC: torch.Tensor) -> torch.Tensor:
            return self._transposed_AI @ (weight_IC * (self._design_IA @ x_AC)) + x_AC

        x_AC = torch.zeros_like(right_AC)
        residual_AC = right_AC
        direction_AC = residual_AC / diagonal_AC
        size_C = (residual_AC * direction_AC).sum(0)
        for _ in range(ITERATIONS):
            image_AC = system(direction_AC)
            step_C = size_C / (direction_AC * image_AC).sum(0).clamp(min=1e-300)
            x_AC = x_AC + step_C * direction_AC
            residual_AC = residual_AC - step_C * image_AC
            next_AC = residual_AC / diagonal_AC
            next_size_C = (residual_AC * next_AC).sum(0)
            direction_AC = next_AC + next_size_C / size_C.clamp(min=1e-300) * direction_AC
            size_C = next_size_C
        return x_AC

    def _squares(self) -> torch.Tensor:
        t = self._transposed_AI
        return torch.sparse_coo_tensor(
            t.indices(), t.values().square(), t.shape, is_coalesced=True, check_invariants=False
        )


def embed(table: torch.Tensor, field: Field, values: torch.Tensor) -> torch.Tensor:
    """Return (N, C) for one field: numbers times their rows, a code's row, the mean of a list's."""
    if field.kind == "numeric":
        return values[:, None].to(table.dtype) * table
    if field.kind == "vector":
        return values.to(table.dtype) @ table
    if field.kind == "categorical":
        return torch.nn.functional.embedding(values, table) * (values > 0)[:, None]
    num_present_N1 = (values > 0).sum(1, keepdim=True).clamp(min=1)
    summed_NC = torch.nn.functional.embedding_bag(values, table, mode="sum", padding_idx=0)
    return summed_NC / num_present_N1


def _scale(field: Field, config: ContentConfig) -> float:
    """Return the prior's standard deviation of a row of the field's table."""
    if field.kind == "vector":
        return float((config.vector_strength / field.width) ** 0.5)
    numeric = field.kind == "numeric"
    return float((config.number_strength if numeric else config.value_strength) ** 0.5)


def _entries(
    field: Field, values: torch.Tensor, config: ContentConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return item, row of the field's table and size of each entry of the design."""
    scale = _scale(field, config)
    if not field.is_coded:
        numbers_NW = values.reshape(len(values), field.width).double()
        item_N = torch.arange(len(values)).repeat_interleave(field.width)
        row_N = torch.arange(field.width).repeat(len(values))
        return item_N, row_N, numbers_NW.reshape(-1) * scale
    if field.kind == "categorical":
        values = values[:, None]
    present = values > 0
    share_IW = (scale / present.sum(1, keepdim=True).clamp(min=1)).double().expand(values.shape)
    return present.nonzero()[:, 0], values[present], share_IW[present]
