"""The device on which to compute."""

import torch

from recmeta.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA if there is one.

    Raises:
        UserError: if the name is unknown, or is `cuda` and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {name!r}; it must be one of cpu, cuda, auto.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device is 'cuda', and PyTorch finds no CUDA GPU here. Use --device cpu, or install a "
            "PyTorch build with CUDA (`recmeta doctor` tells which build is installed)."
        )
    use_cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")
