"""A device that is pretended on the CPU: where tensors of two devices meet there is an error, as on
a GPU, so that a machine without one finds what would fail there.

Its tensors hold tensors of the CPU, whose numbers they have to the bit. PyTorch takes them for
tensors of the device `ipu`, for which it has no code of its own that could get in the way.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.optim.adam as torch_adam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("ipu", 0)
aten = torch.ops.aten
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._unsafe_index.Tensor,
}
"""What reads indices on the CPU for a tensor on a device, too."""


class OnDevice(torch.Tensor):
    """A tensor on the pretended device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # which autograd has a guard for
            requires_grad=held.requires_grad,
        )
        assert isinstance(made, OnDevice)
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("a tensor on a device is no array of numpy: call cpu() first")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def new_tensor(self, data: Any, **how: Any) -> torch.Tensor:
        return OnDevice(self.held.new_tensor(data, **how))

    def tolist(self) -> Any:
        return self.held.tolist()

    def item(self) -> Any:
        return self.held.item()

    def __bool__(self) -> bool:
        return bool(self.held)

    def __float__(self) -> float:
        return float(self.held)

    def __int__(self) -> int:
        return int(self.held)

    def __index__(self) -> int:
        return int(self.held)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _done(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees operations without a tensor of the device, too, such as those that make one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


def _done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation with the tensors that are held, and return its tensors on their device."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    on_device = [t for t in tensors if isinstance(t, OnDevice)]
    _check(func, args, tensors, on_device)
    asked = kwargs.get("device")
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    held = tree_map(lambda x: x.held if isinstance(x, OnDevice) else x, (args, kwargs))
    found = func(*held[0], **held[1])
    if func is aten.copy_.default:
        return args[0]
    if not on_device if asked is None else torch.device(asked).type == "cpu":
        return found
    same = {id(t.held): t for t in on_device}  # what was changed in place

    def wrapped(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return same[id(x)] if id(x) in same else OnDevice(x)

    return tree_map(wrapped, found)


def _check(func: Any, args: Any, tensors: list[torch.Tensor], on_device: list[OnDevice]) -> None:
    if not on_device or func is aten.copy_.default:
        return
    if func in INDEXING:
        fits = isinstance(args[0], OnDevice)
    else:
        fits = all(isinstance(t, OnDevice) or t.dim() == 0 for t in tensors)
    if not fits:
        shapes = [(tuple(t.shape), str(t.device)) for t in tensors]
        raise RuntimeError(f"{func}: tensors are on two devices: {shapes}")


@contextlib.contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Have tensors that are made for the device be on it, as long as this lasts."""
    made = torch.tensor

    def tensor(data: Any, *, device: Any = None, **how: Any) -> torch.Tensor:
        found = made(data, **how)  # it is not seen by a mode
        return found if device is None else found.to(device)

    with (
        mock.patch("torch.tensor", tensor),
        # A fused optimiser wants a device that it knows; what it does on the CPU is right here.
        mock.patch.object(torch_adam, "_device_dtype_check_for_fused"),
        _Everywhere(),
    ):
        yield DEVICE


def array(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a tensor's numbers, wherever it is."""
    held: torch.Tensor = tensor.held if isinstance(tensor, OnDevice) else tensor
    return held.detach().numpy()
