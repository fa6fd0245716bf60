"""A prior for an item's vector, predicted from its content alone.

A ridge regression of item vectors on content attributes, and for every item also the prediction of
a regression that did not see it (cross-fitting): trained on the former alone, a model would
overestimate how well content predicts the vectors of new items.

Legend: I items, A attribute columns, C coefficients of an item's vector, W longest list.
"""

import dataclasses
import warnings

import torch

from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Features, Field

Tables = dict[str, torch.Tensor]
"""Tables (num_rows, C) by content field; in the table of a coded field, row 0 is the unknown
value."""
ITERATIONS = 60
"""Iterations of conjugate gradients. The systems are well conditioned, since every column is
penalised."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """How strongly content may determine a vector."""

    value_strength: float = 0.1
    """The variance of the effect of one value of a categorical or multi-valued attribute, as a
    share of the variance between items."""
    number_strength: float = 0.05
    """The variance of the effect of one standard deviation of a numeric attribute, in the same
    unit."""
    vector_strength: float = 1.0
    """The variance of the effect of all numbers of a vector together, in the same unit."""
    num_folds: int = 10
    """Parts that the items are cut into for cross-fitting; at least 2."""

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"num_folds is {self.num_folds}; it must be at least 2.")
        for name in ("value_strength", "number_strength", "vector_strength"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")


@dataclasses.dataclass(frozen=True)
class KnownContent:
    """Coefficients of content that were learned from another log; rows that it did not have are
    0."""

    tables: Tables
    known: dict[str, torch.Tensor]
    """By content field, (num_rows,): whether the row is known."""
    keep: bool
    """Whether known rows stay as they are; otherwise they are what the ridge shrinks to."""


@dataclasses.dataclass(frozen=True)
class ContentPrior:
    """The fitted regression, in float64."""

    tables: Tables
    intercept_C: torch.Tensor
    fitted_IC: torch.Tensor
    """The prediction for each item, which was itself part of the fit."""
    held_out_IC: torch.Tensor
    """The prediction for each item from a fit without it, or `fitted_IC` where the item had no
    weight."""


class ContentRegression:
    """Content attributes as a design matrix, to regress item vectors on as often as needed."""

    def __init__(
        self,
        fields: tuple[Field, ...],
        features: Features,
        num_items: int,
        config: ContentConfig,
        seed: int,
        known: KnownContent | None = None,
    ) -> None:
        self.config = config
        self.known = known or KnownContent({}, {}, keep=False)
        self.fields = tuple(f for f in fields if f.name != ITEM_ID_FIELD)
        # Vectors are dense and come last; all other columns are mostly 0.
        none = torch.zeros(0, dtype=torch.int64)  # the list is empty if there is no attribute
        rows, columns, values, dense = [none], [none], [none.double()], []
        self._columns: dict[str, slice] = {}
        num_columns = 0
        for field in sorted(self.fields, key=lambda f: f.kind == "vector"):
            read = features[field.name].cpu()
            self._columns[field.name] = slice(num_columns, num_columns + field.num_rows)
            if field.kind == "vector":
                dense.append(read.double() * _scale(field, config))
            else:
                row_N, code_N, value_N = _entries(field, read, config)
                rows.append(row_N)
                columns.append(code_N + num_columns)
                values.append(value_N)
            num_columns += field.num_rows
        self._num_sparse = num_columns - sum(vector_ID.shape[1] for vector_ID in dense)
        place = torch.stack([torch.cat(rows), torch.cat(columns)])
        size = (num_items, self._num_sparse)
        design_IA = torch.sparse_coo_tensor(
            place, torch.cat(values), size, check_invariants=False
        ).coalesce()
        self._sparse_IA = _by_rows(design_IA)
        self._transposed_AI = _by_rows(design_IA.t().coalesce())
        intercept_I1 = torch.ones((num_items, 1), dtype=torch.float64)
        self._dense_ID = torch.cat([*dense, intercept_I1], 1)
        generator = torch.Generator().manual_seed(seed)
        order_I = torch.randperm(num_items, generator=generator)
        self._fold_I = order_I % config.num_folds

    def fit(self, target_IC: torch.Tensor, weight_IC: torch.Tensor) -> ContentPrior:
        """Return the regression of vectors on content.

        Args:
            target_IC: the vectors, float64.
            weight_IC: their precisions, in units of one over the variance between items; 0 for an
                item of which nothing is known.
        """
        solution_AC = self._fitted(target_IC, weight_IC)
        fitted_IC = self._predicted(solution_AC)
        held_out_IC = fitted_IC.clone()
        for fold in range(self.config.num_folds):
            inside_I = self._fold_I == fold
            outside_IC = weight_IC * ~inside_I[:, None]
            predicted_IC = self._predicted(self._fitted(target_IC, outside_IC))
            known_I = inside_I & (weight_IC > 0).any(1)
            held_out_IC[known_I] = predicted_IC[known_I]
        return ContentPrior(self._tables(solution_AC), solution_AC[-1], fitted_IC, held_out_IC)

    def before(self, num_coefficients: int) -> ContentPrior:
        """Return the prior before anything is fitted: 0, or the coefficients from another log."""
        start_AC = self._start(num_coefficients)
        predicted_IC = self._predicted(start_AC)
        return ContentPrior(self._tables(start_AC), start_AC[-1], predicted_IC, predicted_IC)

    def _tables(self, solution_AC: torch.Tensor) -> Tables:
        return {
            field.name: solution_AC[self._columns[field.name]] * _scale(field, self.config)
            for field in self.fields
        }

    def _start(self, num_coefficients: int) -> torch.Tensor:
        """Return the coefficients (A, C) that the ridge shrinks to."""
        num_columns = self._num_sparse + self._dense_ID.shape[1]
        start_AC = torch.zeros((num_columns, num_coefficients), dtype=torch.float64)
        for field in self.fields:
            if field.name in self.known.tables:
                known_NC = self.known.tables[field.name] / _scale(field, self.config)
                start_AC[self._columns[field.name]] = known_NC
        return start_AC

    def _fitted(self, target_IC: torch.Tensor, weight_IC: torch.Tensor) -> torch.Tensor:
        """Return the ridge solution (A, C), shrunk to the coefficients that are known already."""
        start_AC = self._start(target_IC.shape[1])
        rest_IC = target_IC - self._predicted(start_AC)
        return start_AC + self._solve(rest_IC, weight_IC)

    def _kept(self) -> torch.Tensor:
        """Return (A,) which coefficients are not fitted."""
        kept_A = torch.zeros(self._num_sparse + self._dense_ID.shape[1], dtype=torch.bool)
        for name, known_N in self.known.known.items() if self.known.keep else ():
            kept_A[self._columns[name]] = known_N
        return kept_A

    def _solve(self, target_IC: torch.Tensor, weight_IC: torch.Tensor) -> torch.Tensor:
        """Return the ridge solution (A, C), each column by conjugate gradients with a diagonal
        preconditioner."""
        is_free_A1 = ~self._kept()[:, None]
        right_AC = self._summed(weight_IC * target_IC) * is_free_A1
        squares_DC = self._dense_ID.square().T @ weight_IC
        diagonal_AC = torch.cat([self._squares() @ weight_IC, squares_DC]) + 1

        def system(x_AC: torch.Tensor) -> torch.Tensor:
            return self._summed(weight_IC * self._predicted(x_AC)) * is_free_A1 + x_AC

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

    def _predicted(self, x_AC: torch.Tensor) -> torch.Tensor:
        """Return the design times coefficients, (I, C)."""
        return (
            self._sparse_IA @ x_AC[: self._num_sparse] + self._dense_ID @ x_AC[self._num_sparse :]
        )

    def _summed(self, value_IC: torch.Tensor) -> torch.Tensor:
        """Return the transposed design times values of the items, (A, C)."""
        return torch.cat([self._transposed_AI @ value_IC, self._dense_ID.T @ value_IC])

    def _squares(self) -> torch.Tensor:
        t = self._transposed_AI
        return torch.sparse_csr_tensor(
            t.crow_indices(), t.col_indices(), t.values().square(), t.shape, check_invariants=False
        )


def _by_rows(matrix: torch.Tensor) -> torch.Tensor:
    """Return a coalesced sparse matrix in compressed rows, whose products with a few columns take
    half to a third of the time."""
    with warnings.catch_warnings():  # PyTorch calls the layout a beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return matrix.to_sparse_csr()


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
    if field.kind == "numeric":
        item_N = torch.arange(len(values))
        return item_N, torch.zeros_like(item_N), values.double() * scale
    if field.kind == "categorical":
        values = values[:, None]
    present = values > 0
    share_IW = (scale / present.sum(1, keepdim=True).clamp(min=1)).double().expand(values.shape)
    return present.nonzero()[:, 0], values[present], share_IW[present]
