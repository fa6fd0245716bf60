"""Operations with hand-written first and second derivatives, which are faster than autograd's.

The gradient of `a @ b.transpose(1, 2)` with respect to b comes out transposed, which makes every
operation on it several times slower: `gram` and `moment` are each other's derivatives, in the usual
layout. The second derivative of PyTorch's relu is a tensor of zeros, which is filled and added:
here there is none.

Legend: B users, R and S rows, i and o columns.
"""

from typing import Any

import torch
from torch.autograd.function import FunctionCtx


def gram(left_BRi: torch.Tensor, right_BSi: torch.Tensor) -> torch.Tensor:
    """Return the products of rows, (B, R, S). With 1 for B on the left, all users share its
    rows."""
    if len(left_BRi) != len(right_BSi):  # one large product instead of B thin ones
        (left_Ri,), (num_users, num_known, width) = left_BRi, right_BSi.shape
        products_RN: torch.Tensor = left_Ri @ right_BSi.reshape(num_users * num_known, width).T
        return products_RN.view(len(left_Ri), num_users, num_known).transpose(0, 1)
    return _applied(_Gram, left_BRi, right_BSi)


def moment(left_BSi: torch.Tensor, right_BSo: torch.Tensor) -> torch.Tensor:
    """Return the sums over rows of the products of columns, (B, i, o)."""
    return _applied(_Moment, left_BSi, right_BSo)


def relu(z: torch.Tensor) -> torch.Tensor:
    """Return max(z, 0)."""
    return _applied(_Relu, z)


def before_relu(gradient: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return the gradient at a relu's inputs, given that at its outputs, and these outputs."""
    return _applied(_BeforeRelu, gradient, hidden)


def _applied(operation: type[torch.autograd.Function], *operands: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = operation.apply(*operands)  # type: ignore[no-untyped-call]
    return result


def _column(right_Bio: torch.Tensor) -> torch.Tensor:
    """Return the tensor; a single column is returned in the layout that products read several times
    faster."""
    if right_Bio.shape[2] != 1:
        return right_Bio
    return right_Bio.reshape(len(right_Bio), 1, right_Bio.shape[1]).transpose(1, 2)


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(left, right)
        if left.shape[2] == 1:  # many times as fast as a product of one column
            return left * right.transpose(1, 2)
        return torch.bmm(left, right.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        left, right = ctx.saved_tensors
        by_left, by_right = ctx.needs_input_grad
        return (
            torch.bmm(gradients[0], right) if by_left else None,
            moment(gradients[0], left) if by_right else None,
        )


class _Moment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(left, right)
        if right.shape[2] == 1:  # several times as fast the other way round
            return torch.bmm(right.transpose(1, 2), left).transpose(1, 2)
        return torch.bmm(left.transpose(1, 2), right)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        left, right = ctx.saved_tensors
        by_left, by_right = ctx.needs_input_grad
        return (
            gram(right, gradients[0]) if by_left else None,
            torch.bmm(left, _column(gradients[0])) if by_right else None,
        )


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, z: torch.Tensor) -> torch.Tensor:
        result = torch.relu(z)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (result,) = ctx.saved_tensors
        return before_relu(gradients[0], result)


class _BeforeRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gradient: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden)
        found: torch.Tensor = torch.ops.aten.threshold_backward(gradient, hidden, 0)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (hidden,) = ctx.saved_tensors
        return before_relu(gradients[0], hidden), None
