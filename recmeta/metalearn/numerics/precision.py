"""How exactly, and how repeatably, numbers are computed."""

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

import torch

from recmeta.errors import UserError

Precision = Literal["float32", "tf32", "bfloat16"]
"""The precision of matrix products; sums, losses and parameters stay float32.

`bfloat16` keeps 8 significant bits of 24. On MovieLens 1M in MeLU's shape the loss is then off by
1e-4 of itself, the gradient by 4 % of its length after one inner step and by 9 % after five. `tf32`
keeps 11 bits and is for GPUs only.
"""
_REPEATABLE_CUBLAS = (":4096:8", ":16:8")


@contextlib.contextmanager
def precision(name: Precision, device: torch.device) -> Iterator[None]:
    """Compute matrix products on a device in this precision.

    Raises:
        UserError: for tf32 on a CPU, which does not have it.
    """
    if name == "tf32":
        if device.type != "cuda":
            raise UserError(
                f"training.precision is 'tf32', which {device.type} does not have: take 'float32'."
            )
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
    else:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
            yield


@contextlib.contextmanager
def deterministic(wanted: bool, device: torch.device) -> Iterator[None]:
    """Let PyTorch choose algorithms that give the same bits every time, and refuse all others.

    Raises:
        UserError: on a GPU whose cuBLAS is not configured for it.
    """
    if not wanted:
        yield
        return
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if device.type == "cuda" and workspace not in _REPEATABLE_CUBLAS:
        raise UserError(
            f"training.deterministic on a GPU needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the "
            f"environment, which has {workspace!r}: set it before the program starts."
        )
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
